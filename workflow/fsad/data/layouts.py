"""Files of a class in each supported data set layout."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fsad.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
GOOD = "good"
VISA_SPLIT = Path("split_csv", "1cls.csv")


class Sample(NamedTuple):
    """An image: name within its class, file, label (1: defect), file of its mask."""

    name: str
    path: Path
    label: int
    mask: Path | None


class ClassFiles(NamedTuple):
    """Good training images and test images of a class, each sorted by name."""

    train: list[Sample]
    test: list[Sample]

    @property
    def has_masks(self) -> bool:
        """Whether pixel-level evaluation is possible at all."""
        return any(sample.mask for sample in self.test)

    @property
    def mask_files(self) -> list[Path]:
        """Mask files of the test images."""
        return [sample.mask for sample in self.test if sample.mask]


def list_class(layout: str, root: str | Path, name: str) -> ClassFiles:
    """List the images of class `name`.

    Layouts: `mvtec` and `folder` are CLASS/train/good, CLASS/test/*,
    CLASS/ground_truth/*; `visa` is the same (as prepared for the 1-class protocol, also
    below a folder `1cls`) or the original download with its split_csv/1cls.csv.

    Raises UserError if there is no such class, or with the first of its `problems`.
    """
    files = find_class(layout, root, name)
    for problem in problems(files, data_root(layout, root) / name):
        raise UserError(problem)
    return files


def find_class(layout: str, root: str | Path, name: str) -> ClassFiles:
    """List the images of a class, however few; UserError if there is no such class."""
    root = data_root(layout, root)
    listed = _visa_download if _is_visa_download(layout, root) else _folders
    try:
        return listed(root, name)
    except OSError as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError) -> UserError:
    return UserError(f"{error.filename}: cannot be read ({error.strerror})")


def problems(files: ClassFiles, folder: Path) -> list[str]:
    """Reasons why a class cannot be trained and evaluated, with their remedies."""
    found, kinds = [], {sample.label for sample in files.test}
    if not files.train:
        found.append(
            f"{folder / 'train' / GOOD}: no good training image "
            f"({', '.join(sorted(SUFFIXES))}); add some or leave the class out"
        )
    for label, kind in enumerate(("good", "defect")):
        if label not in kinds:
            found.append(
                f"{folder / 'test'}: no {kind} test image, AUROC needs good and "
                "defect ones; add some or leave the class out"
            )
    paths = *(s.path for s in files.train + files.test), *files.mask_files
    return found + [bad for bad in map(_bad_name, paths) if bad]


def list_classes(layout: str, root: str | Path) -> list[str]:
    """Sorted names of the classes below `root`."""
    root = data_root(layout, root)
    if _is_visa_download(layout, root):
        return sorted({row["object"] for row in _split_rows(root)})
    try:
        folders = [path for path in root.iterdir() if (path / "train" / GOOD).is_dir()]
    except OSError as error:
        raise _unreadable(error) from None
    return sorted(path.name for path in folders)


def data_root(layout: str, root: str | Path) -> Path:
    """Folder that holds the class folders; UserError if it does not exist."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such data folder; correct `root` of its data set")
    prepared = root / "1cls"
    return prepared if layout == "visa" and prepared.is_dir() else root


def _is_visa_download(layout: str, root: Path) -> bool:
    return layout == "visa" and (root / VISA_SPLIT).is_file()


def _folders(root: Path, name: str) -> ClassFiles:
    folder = root / name
    if not folder.is_dir():
        raise _no_class(root, name)
    train = [_sample(path, 0, None) for path in image_files(folder / "train" / GOOD)]
    test = []
    for kind in subfolders(folder / "test"):
        masks = _masks_by_stem(folder / "ground_truth" / kind.name)
        label = int(kind.name != GOOD)
        test += [_sample(p, label, _mask_of(p, masks)) for p in image_files(kind)]
    return ClassFiles(train, test)


def _sample(path: Path, label: int, mask: Path | None) -> Sample:
    return Sample(f"{path.parent.name}/{path.name}", path, label, mask)


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in image_files(folder)}


def _mask_of(image: Path, masks: dict[str, Path]) -> Path | None:
    return masks.get(f"{image.stem}_mask") or masks.get(image.stem)


def image_files(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted by name; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if is_image(p))


def find_images(paths: Sequence[str | Path]) -> dict[str, Path]:
    """Given image files and those in given folders at any depth, sorted, by name.

    Names are relative to the deepest folder that contains all given paths. A file that
    does not exist is listed too. Raises UserError for a folder without images.
    """
    given = [Path(path).absolute() for path in paths]
    base = os.path.commonpath([p if p.is_dir() else p.parent for p in given])
    found = {file for path in given for file in _images_below(path)}
    return {path.relative_to(base).as_posix(): path for path in sorted(found)}


def _images_below(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [f for f in path.rglob("*") if is_image(f) and not f.is_dir()]
    if not found:
        raise UserError(f"{path}: holds no image ({', '.join(sorted(SUFFIXES))})")
    return found


def is_image(path: Path) -> bool:
    """Whether a file is an image, judged by its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def subfolders(folder: Path) -> list[Path]:
    """Folders directly in `folder`, sorted; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _visa_download(root: Path, name: str) -> ClassFiles:
    rows = [row for row in _split_rows(root) if row["object"] == name]
    if not rows:
        raise _no_class(root, name)
    samples = {"train": [], "test": []}
    try:
        for row in rows:
            label = int(row["label"] != "normal")
            mask = root / row["mask"] if row["mask"] else None
            samples[row["split"]].append(_sample(root / row["image"], label, mask))
    except KeyError as error:
        raise UserError(
            f"{root / VISA_SPLIT}: column or split {error} is not as in VisA's file"
        ) from None
    train = [sample for sample in samples["train"] if sample.label == 0]
    return ClassFiles(sorted(train), sorted(samples["test"]))


def _split_rows(root: Path) -> list[dict]:
    with open(root / VISA_SPLIT, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "object" not in rows[0]:
        raise UserError(f"{root / VISA_SPLIT}: has no column `object`")
    return rows


def _no_class(root: Path, name: str) -> UserError:
    found = ", ".join(path.name for path in subfolders(root)) or "nothing"
    return UserError(
        f"{root / name}: no such class folder; {root} holds {found}: "
        "correct `root` or `classes` of the data set"
    )


def _bad_name(path: Path) -> str | None:
    """Problem with the name of a file or of its folder, None if there is none.

    Curly brackets are wildcards to the pipeline.
    """
    name = "/".join(path.parts[-2:])
    if "{" in name or "}" in name:
        return f"{path}: has curly brackets in its name; rename it"
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return f"{str(path)!a}: its name is not in UTF-8; rename it"
    return None
