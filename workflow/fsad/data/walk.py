"""Files below a folder, each an image, known to be none, or not readable."""

import os
import re
import warnings
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fsad.artifacts.files import is_file, unreadable
from fsad.artifacts.names import nfc
from fsad.artifacts.paths import MAPS, METRICS, OVERLAYS, RUN, SCORES, TABLE

IMAGE, OTHER = "image", "other"
UNREADABLE = "is in a format that is not read; save it as .png, or remove it"
# Endings. Text, tables, documents, archives, programs and models are no images:
NO_IMAGES = """.txt .md .rst .csv .tsv .json .jsonl .xml .yaml .yml .toml .ini .cfg
    .conf .log .html .htm .css .js .pdf .doc .docx .odt .rtf .tex .bib .xls .xlsx .ods
    .ppt .pptx .zip .tar .gz .tgz .bz2 .xz .7z .rar .zst .py .ipynb .m .c .cpp .h .sh
    .bat .ps1 .exe .dll .so .pt .pth .ckpt .onnx .safetensors .pkl .pickle .db
    .sqlite .lnk .url .md5 .sha1 .sha256 .license"""
# Pictures that Pillow cannot read, or only a preview of them, or unfinished ones:
NOT_READ = """.npy .npz .mat .heic .heif .dng .cr2 .cr3 .crw .nef .nrw .arw .orf .rw2
    .raf .pef .srw .raw .exr .hdr .jxl .jxr .dcm .nii .svg .eps .ps .wmf .emf .ai .xcf
    .h5 .hdf .hdf5 .grib .bufr .mp4 .avi .mov .mkv .webm .wmv .mpg .mpeg .bak .tmp
    .part"""
# Folders and files that systems and file servers leave, beside those with a dot:
LEFT_BY_OTHERS = {"__macosx", "__pycache__", "thumbnails", "thumbs", "thumbs.db"}
LEFT_BY_OTHERS |= {"ehthumbs.db", "desktop.ini", "$recycle.bin", "#recycle"}
LEFT_BY_OTHERS |= {"lost+found"}
# Start of a table of predictions, as it is or saved by a spreadsheet program; those of
# before 0.6 have no class.
PREDICTIONS = re.compile(rb'(\xef\xbb\xbf)?"?image"?[,;\t]("?class"?[,;\t])?"?score"?')
RUNS = re.sub(r"\{\w+\}", "*", RUN)  # below a folder of results
CONTROL = {*range(9), *range(14, 27), *range(28, 32)}  # characters that text has not
STUBS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # formats known, but not read
KINDS = dict.fromkeys(NO_IMAGES.split(), OTHER) | dict.fromkeys(
    NOT_READ.split(), UNREADABLE
)
# Most images need no import of Pillow to be known.
KINDS |= dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"), IMAGE)


class Found(NamedTuple):
    """A file and its kind: IMAGE, OTHER, or why a possible picture is not read."""

    path: Path
    kind: str


def walk(
    folder: Path, above: Sequence[str] = (), without: Collection[str] = ()
) -> list[Found]:
    """All files below a folder, sorted, but for what other programs leave there.

    Links are followed, but not to a folder in `above`, of those passed through.
    Results of this program are passed over too. without: names of further folders
    directly in this one, in the form of `nfc`. Raises UserError for a folder that
    cannot be read.
    """
    if (real := os.path.realpath(folder)) in above:
        return []
    entries, found = _entries(folder), []
    passed = _own_results(folder, {entry.name for entry in entries})
    for entry in entries:
        path = folder / entry.name
        if entry.name in passed:
            continue
        if not _is_folder(entry):
            found.append(Found(path, file_kind(path)))
        elif nfc(entry.name) not in without:
            found += walk(path, (*above, real))
    return found


def subfolders(folder: Path) -> list[Path]:
    """Folders directly in `folder`, sorted, without those of other programs."""
    return [folder / entry.name for entry in _entries(folder) if _is_folder(entry)]


def _entries(folder: Path) -> list[os.DirEntry]:
    """Files and folders in a folder that other programs have not left there."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(error.filename, error) from None
    return [entry for entry in entries if not _is_left_by_others(entry)]


def _is_left_by_others(entry: os.DirEntry) -> bool:
    name = entry.name.lower()
    is_marked = name[0] == "." or name in LEFT_BY_OTHERS
    return is_marked or (name[0] == "@" and _is_folder(entry))


def _is_folder(entry: os.DirEntry) -> bool:
    # A link to itself is an error to DirEntry.is_dir.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _own_results(folder: Path, names: set[str]) -> set[str]:
    """Names in a folder that this program wrote: results, a run, or predictions."""
    if {METRICS, SCORES} <= names or {"runs", "digests.json"} <= names:
        return names
    if "runs" in names and any(folder.glob(RUNS)):
        return names
    is_table = TABLE in names and is_file(folder / TABLE)
    if is_table and PREDICTIONS.match(read_start(folder / TABLE)):
        return {MAPS, OVERLAYS}  # images beside them are the user's
    return set()


def file_kind(path: Path) -> str:
    """Kind of a file: by its ending if that is known, else by its first bytes."""
    ending = path.suffix.lower()
    if ending in KINDS:
        return KINDS[ending]
    return IMAGE if ending in _endings() else _kind_of_content(path)


@cache
def _endings() -> frozenset[str]:
    """Endings of all formats that Pillow can read."""
    from PIL import Image  # slow, and rarely needed while planning

    known = Image.registered_extensions().items()
    return frozenset(e for e, kind in known if kind in Image.OPEN.keys() - STUBS)


def _kind_of_content(path: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        if path.exists() and not path.is_file():
            return OTHER  # a pipe or a device
        with warnings.catch_warnings():  # of many pixels, none of which is read here
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return UNREADABLE if image.format in STUBS else IMAGE
    except UnidentifiedImageError:
        is_text = not CONTROL & set(read_start(path))
        return OTHER if is_text else UNREADABLE
    except Exception:
        return IMAGE  # a damaged one: reading it gives the reason


def read_start(path: Path) -> bytes:
    """First bytes of a file; UserError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(4096)
    except OSError as error:
        raise unreadable(error.filename, error) from None
