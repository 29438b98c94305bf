"""Inspection of a data folder: its contents, problems and configuration."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from fsad.artifacts.schema import read_schema, read_yaml
from fsad.data import layouts
from fsad.data.images import defect_mask, read_image
from fsad.data.layouts import GOOD, ClassFiles, Sample
from fsad.data.words import SHIPPED
from fsad.errors import UserError

FAMILIES = ("mvtec", "visa")
PLACES = "CLASS/train/good, CLASS/test/KIND and, for masks, CLASS/ground_truth/KIND"


class DataReport(NamedTuple):
    """Lines that describe the classes, lines for problems, and matching options."""

    classes: list[str]
    problems: list[str]
    options: dict


class ImageReport(NamedTuple):
    """Height and width of an image if it is readable, digest of its file, problems."""

    shape: tuple[int, int] | None
    digest: str
    problems: list[str]


def check_data(root: str | Path, threads: int) -> DataReport:
    """Read every image and mask of a data folder, `threads` at once.

    Every problem names a file or folder and the remedy. Raises UserError if `root`
    is not a folder.
    """
    layout, names = find_layout(root)
    folder = layouts.data_root(layout, root)
    listed = {name: layouts.find_class(layout, root, name) for name in names}
    lines, problems, counts = [], _no_classes(folder, names), {}
    for name, files in listed.items():
        found = _inspect(files, name, threads)
        lines.append(_summary(name, files, found))
        blocking = [*layouts.problems(files, folder / name), *_bad_name(folder / name)]
        problems += [*blocking, *_class_problems(files, found)]
        if not blocking:
            counts[name] = len(files.train)
    if names and not (folder / layouts.VISA_SPLIT).is_file():
        problems += _strays(folder, listed.values())
    return DataReport(lines, problems, _options(layout, root, names, counts))


def find_layout(root: str | Path) -> tuple[str, list[str]]:
    """Layout of a data folder and the names of its classes, if any.

    The layout is `visa` if VisA's split file or its folder `1cls` exists, `mvtec` or
    `visa` if all classes belong to that data set, else `folder`.
    """
    root = Path(root)
    if (root / layouts.VISA_SPLIT).is_file() or (root / "1cls").is_dir():
        return "visa", layouts.list_classes("visa", root)
    names = layouts.list_classes("folder", root)
    for family in FAMILIES:
        if names and set(names) <= set(read_yaml(SHIPPED / f"{family}.yaml")):
            return family, names
    return "folder", names


def _no_classes(folder: Path, names: Sequence[str]) -> list[str]:
    if names:
        return []
    if (folder / "train" / GOOD).is_dir():
        return [f"{folder}: is one class; name the folder that holds it"]
    below = sorted({str(p.parents[2]) for p in folder.glob(f"*/*/train/{GOOD}")})
    if below:
        return [f"{folder}: the classes lie deeper; name {' or '.join(below)}"]
    return [f"{folder}: holds no CLASS/train/good; lay the images out as {PLACES}"]


def _bad_name(folder: Path) -> list[str]:
    pattern = read_schema("config")["$defs"]["class_name"]["pattern"]
    if re.search(pattern, folder.name):
        return []
    return [f"{folder}: not a class name; rename it without leading dot, {{ or }}"]


def _inspect(files: ClassFiles, name: str, threads: int) -> dict[Sample, ImageReport]:
    samples = [*files.train, *files.test]
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda s: _inspect_image(s, files.has_masks), samples)
        bar = tqdm(found, name, total=len(samples), mininterval=1, leave=False)
        return dict(zip(samples, bar, strict=True))


def _inspect_image(sample: Sample, masked: bool) -> ImageReport:
    shape, digest, problems = None, "", []
    try:
        shape = read_image(sample.path).shape[:2]
        digest = hashlib.sha256(sample.path.read_bytes()).hexdigest()
        if masked and sample.label:
            defect_mask(sample)
    except UserError as error:
        problems.append(str(error))
    return ImageReport(shape, digest, problems)


def _class_problems(files: ClassFiles, found: dict[Sample, ImageReport]) -> list[str]:
    problems = [problem for image in found.values() for problem in image.problems]
    train = {found[sample].digest: sample.path for sample in files.train}
    train.pop("", None)
    return problems + [
        f"{sample.path}: the same image as {train[found[sample].digest]}; test "
        "images must not be training images, remove one of them"
        for sample in files.test
        if found[sample].digest in train
    ]


def _summary(name: str, files: ClassFiles, found: dict[Sample, ImageReport]) -> str:
    kinds = Counter(sample.path.parent.name for sample in files.test)
    test = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    masks = len(files.mask_files) or "no"
    shapes = Counter(image.shape for image in found.values() if image.shape)
    return (
        f"{name}: {len(files.train)} good to learn from; test: {test or 'none'}; "
        f"{masks} masks; {_sizes(shapes)}"
    )


def _sizes(shapes: Iterable[tuple[int, int]]) -> str:
    texts = [f"{width}x{height}" for height, width in sorted(shapes)]
    if len(texts) < 3:
        return f"{' and '.join(texts) or 'no'} pixels"
    return f"{len(texts)} sizes from {texts[0]} to {texts[-1]} pixels"


def _strays(folder: Path, listed: Iterable[ClassFiles]) -> list[str]:
    """Problems of images that are not part of a class, one for each folder."""
    read = {s.path for files in listed for s in (*files.train, *files.test)}
    read |= {mask for files in listed for mask in files.mask_files}
    strays = {}
    for path in sorted(folder.rglob("*")):
        if path not in read and _looks_like_image(path):
            strays.setdefault((path.parent, _why_stray(path)), []).append(path)
    return [_stray_problem(paths, why) for (_, why), paths in strays.items()]


def _looks_like_image(path: Path) -> bool:
    kind = Image.registered_extensions().get(path.suffix.lower())
    return kind in Image.OPEN and not path.name.startswith(".") and path.is_file()


def _why_stray(path: Path) -> str:
    if not layouts.is_image(path):
        return "is in an unsupported format; save it as .png"
    if path.parent.parent.name == "ground_truth":
        return "is the mask of no image; name it like its image, with _mask added"
    return f"belongs to no class; images belong in {PLACES}"


def _stray_problem(paths: Sequence[Path], why: str) -> str:
    more = f" (and {len(paths) - 1} more there)" if len(paths) > 1 else ""
    return f"{paths[0]}{more}: {why}"


def _options(
    layout: str, root: str | Path, names: Sequence[str], counts: dict[str, int]
) -> dict:
    """Configuration of the classes that can be trained."""
    if not counts:
        return {}
    source = {"layout": layout, "root": str(root)}
    if len(counts) < len(names):
        source["classes"] = list(counts)
    if layout in FAMILIES:
        source["prompts"] = layout
    name = re.sub("[^A-Za-z0-9_.-]+", "_", Path(root).resolve().name).lstrip("_.-")
    name = name or "own"
    options = {"results": f"results/{name}", "datasets": {name: source}}
    defaults = read_schema("config")["properties"]["shots"]["default"]
    shots = [number for number in defaults if number <= min(counts.values())]
    return options if shots == defaults else options | {"shots": shots}
