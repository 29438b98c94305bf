"""The images of a class: folder layouts, and which mask belongs to which image."""

import csv
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fsad.artifacts.files import is_file, is_folder
from fsad.artifacts.names import MEAN, nfc
from fsad.data.faults import Fault, grouped
from fsad.data.pairing import Named, pair
from fsad.data.walk import IMAGE, OTHER, Found, subfolders, walk
from fsad.errors import UserError

GOOD = "good"
MEANS_GOOD = ("good", "ok", "normal")
CONTROL = "".join(map(chr, range(32)))
VISA_SPLIT = Path("split_csv", "1cls.csv")
VISA_COLUMNS = ("object", "split", "label", "image", "mask")
PLACES = "CLASS/train/good, CLASS/test/KIND and, for masks, CLASS/ground_truth/KIND"
NO_MASK = (
    "defect image without a mask; add its mask under ground_truth, or remove all masks "
    "of the class to skip seg"
)


class Sample(NamedTuple):
    """An image: name within its class, file, label (1: defect), files of its masks."""

    name: str
    path: Path
    label: int
    mask: Path | None
    more_masks: tuple[Path, ...] = ()

    @property
    def masks(self) -> tuple[Path, ...]:
        """All files of masks; their union counts."""
        return (self.mask, *self.more_masks) if self.mask else ()


class ClassFiles(NamedTuple):
    """Good training images and test images of a class, each sorted by name.

    notes: a line for each kind of file that is left out, or read otherwise than it may
    be meant.
    """

    train: list[Sample]
    test: list[Sample]
    notes: list[str]

    @property
    def has_masks(self) -> bool:
        """Whether a defective test image has a mask."""
        return any(sample.mask for sample in self.test if sample.label)

    @property
    def has_seg(self) -> bool:
        """Whether pixels can be evaluated: no defective test image, or masks."""
        return self.has_masks or not any(sample.label for sample in self.test)

    @property
    def mask_files(self) -> list[Path]:
        """Mask files of the test images."""
        return [mask for sample in self.test for mask in sample.masks]


def list_class(layout: str, root: str | Path, name: str) -> ClassFiles:
    """List the images of class `name`.

    Layouts: `mvtec` and `folder` are CLASS/train/good, CLASS/test/*,
    CLASS/ground_truth/*; `visa` is the same (as prepared for the 1-class protocol, also
    below a folder `1cls`) or the original download with its split_csv/1cls.csv.

    Raises UserError if there is no such class, or with the first of its `problems`.
    """
    files = find_class(layout, root, name)
    for problem in problems(files, class_folder(data_root(layout, root), name)):
        raise UserError(problem)
    return files


def find_class(layout: str, root: str | Path, name: str) -> ClassFiles:
    """List the images of a class, however few; UserError if there is no such class."""
    root = data_root(layout, root)
    listed = _visa_download if _is_visa_download(layout, root) else _folders
    return listed(root, name)


def problems(files: ClassFiles, folder: Path) -> list[str]:
    """Reasons why a class cannot be planned, with their remedies."""
    found = []
    if not files.train:
        found.append(
            f"{folder / 'train' / GOOD}: no good training image; add some or leave the "
            "class out"
        )
    paths = *(s.path for s in files.train + files.test), *files.mask_files
    why = "another file has this name, in another Unicode form; rename one"
    twins = (f"{path}: {why}" for path in _twins(paths))
    names = _bad_class_name(folder), *map(_bad_name, paths), *twins
    return found + [bad for bad in names if bad]


def list_classes(layout: str, root: str | Path) -> list[str]:
    """Sorted names of the classes below `root`, in their composed Unicode form."""
    root = data_root(layout, root)
    if _is_visa_download(layout, root):
        return sorted({nfc(row["object"]) for row in _split_rows(root)})
    folders = [path for path in subfolders(root) if is_folder(path / "train" / GOOD)]
    for path in _twins(folders):
        raise UserError(
            f"{path}: two folders have this name, in different Unicode forms; rename "
            "one"
        )
    return sorted(nfc(path.name) for path in folders)


def data_root(layout: str, root: str | Path) -> Path:
    """Folder that holds the class folders; UserError if it does not exist."""
    root = Path(root)
    if not is_folder(root):
        raise UserError(f"{root}: no such data folder; correct `root` of its data set")
    prepared = root / "1cls"
    return prepared if layout == "visa" and is_folder(prepared) else root


def class_folder(root: Path, name: str) -> Path:
    """Folder of a class, whose name may be of another Unicode form."""
    folder = root / name
    if is_folder(folder):
        return folder
    return next((p for p in subfolders(root) if nfc(p.name) == nfc(name)), folder)


def root_notes(layout: str, root: str | Path, names: Iterable[str]) -> list[str]:
    """Notes of files in a data folder but in none of these classes, as of `ClassFiles`.

    There are none for the original download of VisA, whose table lists the images.
    """
    root = data_root(layout, root)
    if _is_visa_download(layout, root):
        return []
    found = walk(root, without={nfc(name) for name in names})
    return grouped(_left_out(found, (), ()))


def find_images(paths: Sequence[str | Path]) -> dict[str, Path]:
    """Given files, and all possible images in given folders at any depth, by name.

    Names are relative to the deepest folder that contains all given paths, and sorted.
    Files that cannot be read are listed too, as is one that does not exist. Raises
    UserError for a folder without images. See `walk` for what is passed over.
    """
    given = [Path(path).absolute() for path in paths]
    base = os.path.commonpath([p if is_folder(p) else p.parent for p in given])
    found = {file for path in given for file in _images_below(path)}
    return {path.relative_to(base).as_posix(): path for path in sorted(found)}


def _images_below(path: Path) -> list[Path]:
    if not is_folder(path):
        return [path]
    found = [file.path for file in walk(path) if file.kind != OTHER]
    if not found:
        raise UserError(f"{path}: holds no image; name a folder of images, or files")
    return found


def _is_visa_download(layout: str, root: Path) -> bool:
    return layout == "visa" and is_file(root / VISA_SPLIT)


def _folders(root: Path, name: str) -> ClassFiles:
    folder = class_folder(root, name)
    if not is_folder(folder):
        raise _no_class(root, name)
    found, below = walk(folder), defaultdict(list)
    for file in found:
        below[file.path.parent].append(file)
    places = {path.relative_to(folder).parts: files for path, files in below.items()}
    train, claimed = pair(places.pop(("train", GOOD), []), ())
    train, test = [_sample(path, 0, *own) for path, own in train.items()], []
    for place in sorted(p for p in places if len(p) == 2 and p[0] == "test"):
        pairs, masks = pair(places[place], _truth(places, place[1]))
        label, claimed = int(place[1] != GOOD), claimed | masks
        test += [_sample(path, label, *own) for path, own in pairs.items()]
    used = {path for s in (*train, *test) for path in (s.path, *s.masks)}
    notes = [*_left_out(found, used, claimed), *_doubts(test)]
    return ClassFiles(train, test, grouped(notes))


def _truth(places: Mapping[tuple, list[Found]], kind: str) -> Iterator[Named]:
    """Files of ground_truth/KIND, and of its folders that are named as an image is."""
    for place, files in places.items():
        if [*map(nfc, place[:2])] == ["ground_truth", nfc(kind)] and len(place) < 4:
            for file in files:
                yield (place[2] if len(place) == 3 else file.path.stem), file


def _sample(path: Path, label: int, *masks: Path) -> Sample:
    first, *more = masks or (None,)
    return Sample(f"{path.parent.name}/{path.name}", path, label, first, tuple(more))


def _left_out(
    found: Iterable[Found], used: Collection[Path], claimed: Collection[Path]
) -> Iterator[Fault]:
    """Files that could be images or masks but are not used, and why."""
    for path, kind in found:
        if kind == OTHER or path in used:
            continue
        if path in claimed:
            why = "is left out, its image has another mask; remove one of them"
        elif kind != IMAGE:
            why = kind
        elif "ground_truth" in path.parts[-4:-1]:
            why = "is the mask of no image; name it like its image, with _mask added"
        else:
            why = f"belongs to no class; images belong in {PLACES}"
        yield path, why


def _doubts(test: Sequence[Sample]) -> Iterator[Fault]:
    """Images that may be meant otherwise than they are read."""
    defective = [sample for sample in test if sample.label]
    masked = any(sample.mask for sample in defective)
    for sample in defective:
        if masked and not sample.mask:
            yield sample.path, NO_MASK
        if sample.path.parent.name.casefold() in MEANS_GOOD:
            why = "counts as defective; if it is not, name its folder test/good"
            yield sample.path, why


def _visa_download(root: Path, name: str) -> ClassFiles:
    rows = [row for row in _split_rows(root) if nfc(row["object"]) == nfc(name)]
    if not rows:
        raise _no_class(root, name)
    samples = {"train": [], "test": []}
    for row in rows:
        masks = [root / row["mask"]] if row["mask"] else []
        label = int(row["label"] != "normal")
        samples[row["split"]].append(_sample(root / row["image"], label, *masks))
    train = [sample for sample in samples["train"] if sample.label == 0]
    test = sorted(samples["test"])
    return ClassFiles(sorted(train), test, grouped(_doubts(test)))


def _split_rows(root: Path) -> list[dict]:
    try:
        with open(root / VISA_SPLIT, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [_checked_row(row, reader.line_num) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{root / VISA_SPLIT}: cannot be read ({error})") from None
    if not rows:
        raise UserError(f"{root / VISA_SPLIT}: lists no image; take VisA's own file")
    return rows


def _checked_row(row: dict, line: int) -> dict:
    """A row of VisA's table; ValueError if it has other columns, or another split."""
    if None in {*row, *map(row.get, VISA_COLUMNS)}:
        names = ", ".join(VISA_COLUMNS)
        raise ValueError(f"line {line} has not the columns {names} between commas")
    if row["split"] not in ("train", "test"):
        raise ValueError(f"line {line}: split {row['split']!r} is not train or test")
    return row


def _no_class(root: Path, name: str) -> UserError:
    found = ", ".join(path.name for path in subfolders(root)) or "nothing"
    return UserError(
        f"{root / name}: no such class folder; {root} holds {found}: "
        "correct `root` or `classes` of the data set"
    )


def _bad_class_name(folder: Path) -> str | None:
    """Problem with a class name: Snakemake reads {WORD} and <WORD> in paths."""
    if folder.name == MEAN:
        return f"{folder}: has the name of a row of the tables; rename it"
    refused = {
        "curly brackets": "{}",
        "angle brackets": "<>",
        "control characters": CONTROL,
    }
    for what, letters in refused.items():
        if set(letters) & set(folder.name):
            return f"{folder}: has {what} in its name; rename it"
    return None


def _twins(paths: Iterable[Path]) -> list[Path]:
    """Paths that differ in their Unicode form alone; all but the first of each."""
    named = dict.fromkeys(paths)
    first = {nfc(str(path)): path for path in reversed(named)}
    return [path for path in named if first[nfc(str(path))] != path]


def _bad_name(path: Path) -> str | None:
    """Problem with the name of a file or its folder: {WORD} is a wildcard in params."""
    name = "/".join(path.parts[-2:])
    if "{" in name or "}" in name:
        return f"{path}: has curly brackets in its name; rename it"
    if re.search("[\ud800-\udfff]", name):
        return f"{str(path)!a}: its name is not in UTF-8; rename it"
    return None
