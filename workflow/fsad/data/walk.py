"""Files below a folder, each an image, known to be none, or not readable."""

import os
import unicodedata
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fsad.errors import UserError

IMAGE, OTHER = "image", "other"
UNREADABLE = "is in a format that is not read; save it as .png, or remove it"
COMMON = frozenset(".png .jpg .jpeg .bmp .tif .tiff .webp .gif".split())
# Text, tables, documents, archives, programs, models.
NO_IMAGES = frozenset(
    """.txt .md .rst .csv .tsv .json .jsonl .xml .yaml .yml .toml .ini .cfg .conf .log
    .html .htm .css .js .pdf .doc .docx .odt .rtf .tex .bib .xls .xlsx .ods .ppt .pptx
    .zip .tar .gz .tgz .bz2 .xz .7z .rar .zst .py .ipynb .m .c .cpp .h .sh .bat .ps1
    .exe .dll .so .pt .pth .ckpt .onnx .safetensors .pkl .pickle .npz .db .sqlite .lnk
    .url .md5 .sha1 .sha256 .license .bak .tmp .part .crdownload .lock""".split()
)
# Pictures that Pillow cannot read, or of which it reads but a preview.
NOT_READ = frozenset(
    """.npy .mat .heic .heif .dng .cr2 .cr3 .crw .nef .nrw .arw .orf .rw2 .raf .pef .srw
    .raw .exr .hdr .jxl .jxr .dcm .nii .svg .eps .ps .wmf .emf .ai .xcf .h5 .hdf .hdf5
    .grib .bufr .mp4 .avi .mov .mkv .webm .wmv .mpg .mpeg""".split()
)
STUBS = frozenset(("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"))
# Folders and files that systems and file servers leave; those with a dot too.
PASSED_OVER = frozenset(
    "__macosx __pycache__ thumbnails thumbs thumbs.db ehthumbs.db desktop.ini "
    "$recycle.bin #recycle lost+found".split()
) | {"system volume information"}


class Found(NamedTuple):
    """A file and its kind: IMAGE, OTHER, or why a possible picture is not read."""

    path: Path
    kind: str


def nfc(text: str) -> str:
    """Text in its composed Unicode form, in which names are compared."""
    return unicodedata.normalize("NFC", text)


def walk(
    folder: Path, above: Sequence[str] = (), without: Collection[str] = ()
) -> list[Found]:
    """All files below a folder, sorted, but for what other programs leave there.

    Links are followed, but not to a folder in `above`, of those passed through.
    Results of this program are passed over too. without: names of further folders
    directly in this one, in the form of `nfc`. Raises OSError for a folder that cannot
    be read.
    """
    if (real := os.path.realpath(folder)) in above:
        return []
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    passed, found = _own_results(folder, {entry.name for entry in entries}), []
    for entry in entries:
        if entry.name in passed or is_passed_over(entry.name):
            continue
        path = Path(entry.path)
        if not _is_folder(entry):
            found.append(Found(path, file_kind(path)))
        elif not entry.name.startswith("@") and nfc(entry.name) not in without:
            found += walk(path, (*above, real))
    return found


def _is_folder(entry: os.DirEntry) -> bool:
    # A link to itself is an error to DirEntry.is_dir.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def is_passed_over(name: str) -> bool:
    """Whether a file or folder is none of the user's, judged by its name."""
    return name.startswith(".") or name.lower() in PASSED_OVER


def subfolders(folder: Path) -> list[Path]:
    """Folders directly in `folder`, sorted, without those of other programs.

    Raises UserError if it cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if path.is_dir()]
    except OSError as error:
        raise unreadable(error) from None
    return sorted(p for p in found if not is_passed_over(p.name) and p.name[0] != "@")


def unreadable(error: OSError) -> UserError:
    """The error of a file or folder, in one line."""
    return UserError(f"{error.filename}: cannot be read ({error.strerror})")


def _own_results(folder: Path, names: set[str]) -> set[str]:
    """Names in a folder that this program wrote: results, a run, or predictions."""
    if {"runs", "tables"} <= names or {"runs", "digests.json"} <= names:
        return names
    if {"metrics.json", "scores.npz"} <= names:
        return names
    if "scores.csv" in names and _starts(folder / "scores.csv", b"image,score,thresh"):
        return {"maps", "overlays"}  # images beside them are the user's
    return set()


def _starts(path: Path, start: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(start)) == start


def file_kind(path: Path) -> str:
    """Kind of a file: by its ending if that is known, else by its first bytes."""
    ending = path.suffix.lower()
    if ending in COMMON:
        return IMAGE
    if ending in NO_IMAGES:
        return OTHER
    if ending in NOT_READ:
        return UNREADABLE
    return IMAGE if ending in _endings() else _kind_of_content(path)


@cache
def _endings() -> frozenset[str]:
    """Endings of all formats that Pillow can read."""
    from PIL import Image  # slow, and rarely needed while planning

    known = Image.registered_extensions().items()
    return frozenset(e for e, kind in known if kind in Image.OPEN.keys() - STUBS)


def _kind_of_content(path: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    if path.exists() and not path.is_file():
        return OTHER  # a pipe or a device
    try:
        with Image.open(path) as image:
            return UNREADABLE if image.format in STUBS else IMAGE
    except UnidentifiedImageError:
        return OTHER if _is_text(path) else UNREADABLE
    except Exception:
        return IMAGE  # a damaged one: reading it gives the reason


def _is_text(path: Path) -> bool:
    """Whether a file, at its start, holds no control characters but white space."""
    with open(path, "rb") as file:
        return not set(file.read(1024)) & {*range(9), *range(14, 27), *range(28, 32)}
