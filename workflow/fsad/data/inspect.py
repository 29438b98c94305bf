"""Inspection of a data folder: its contents, problems and configuration."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from fsad.artifacts.files import is_file, is_folder
from fsad.artifacts.names import nfc
from fsad.artifacts.schema import read_schema, read_yaml
from fsad.data import faults, layouts
from fsad.data.faults import Fault, FileError, Look
from fsad.data.images import look_at
from fsad.data.layouts import GOOD, ClassFiles, Sample
from fsad.data.masks import checked_mask
from fsad.data.walk import subfolders
from fsad.data.words import SHIPPED

FAMILIES = ("mvtec", "visa")


class DataReport(NamedTuple):
    """Lines that describe the classes, lines for problems, and matching options."""

    classes: list[str]
    problems: list[str]
    options: dict


class ImageReport(NamedTuple):
    """How an image looks, if it is readable, and faults of it and its mask."""

    look: Look | None
    faults: list[Fault]


def check_data(root: str | Path, threads: int) -> DataReport:
    """Read every image and mask of a data folder, `threads` at once.

    Every problem names a file or folder and the remedy, and is one line for all files
    of a class that share it. Raises UserError if `root` is not a folder.
    """
    layout, names = find_layout(root)
    folder = layouts.data_root(layout, root)
    lines, problems, counts = [], _no_classes(folder, names), {}
    for name in names:
        files = layouts.find_class(layout, root, name)
        found = _inspect(files, name, threads)
        lines.append(_summary(name, files, found))
        place = layouts.class_folder(folder, name)
        blocking = layouts.problems(files, place)
        problems += [*blocking, *files.notes, *_class_problems(files, found)]
        if not blocking:
            counts[name] = len(files.train)
    if names:
        problems += layouts.root_notes(layout, root, names)
    return DataReport(lines, problems, _options(layout, root, names, counts))


def find_layout(root: str | Path) -> tuple[str, list[str]]:
    """Layout of a data folder and the names of its classes, if any.

    The layout is `visa` if VisA's split file or its folder `1cls` exists, `mvtec` or
    `visa` if all classes belong to that data set, else `folder`.
    """
    root = Path(root)
    if is_file(root / layouts.VISA_SPLIT) or is_folder(root / "1cls"):
        return "visa", layouts.list_classes("visa", root)
    names = layouts.list_classes("folder", root)
    for family in FAMILIES:
        if names and set(names) <= set(read_yaml(SHIPPED / f"{family}.yaml")):
            return family, names
    return "folder", names


def _no_classes(folder: Path, names: Sequence[str]) -> list[str]:
    if names:
        return []
    if is_folder(folder / "train" / GOOD):
        return [f"{folder}: is one class; name the folder that holds it"]
    below = [p for p in subfolders(folder) if any(p.glob(f"*/train/{GOOD}"))]
    if below:
        deeper = " or ".join(map(str, below))
        return [f"{folder}: the classes lie deeper; name {deeper}"]
    return [
        f"{folder}: holds no CLASS/train/good; lay the images out as {layouts.PLACES}"
    ]


def _inspect(files: ClassFiles, name: str, threads: int) -> dict[Sample, ImageReport]:
    samples = [*files.train, *files.test]
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(_inspect_image, samples)
        bar = tqdm(found, name, total=len(samples), mininterval=1, leave=False)
        return dict(zip(samples, bar, strict=True))


def _inspect_image(sample: Sample) -> ImageReport:
    look, found = None, []
    try:
        _, look, found = look_at(sample.path)
        if sample.mask:
            found += checked_mask(sample, look.shape)[1]
    except FileError as error:
        found.append((error.path, error.reason))
    return ImageReport(look, found)


def _class_problems(
    files: ClassFiles, reports: Mapping[Sample, ImageReport]
) -> list[str]:
    """Lines of the faults of single images and of those among images of a class."""
    found = [fault for report in reports.values() for fault in report.faults]
    train, test = (
        {s.path: reports[s].look for s in samples if reports[s].look}
        for samples in (files.train, files.test)
    )
    found += faults.twin_faults(train) + faults.twin_faults(test)
    return faults.grouped(found + faults.comparison_faults(train, test))


def _summary(name: str, files: ClassFiles, found: dict[Sample, ImageReport]) -> str:
    kinds = Counter(sample.path.parent.name for sample in files.test)
    test = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    masks = len(files.mask_files) or "no"
    shapes = {image.look.shape for image in found.values() if image.look}
    return (
        f"{name}: {len(files.train)} good to learn from; test: {test or 'none'}; "
        f"{masks} masks; {_sizes(shapes)}"
    )


def _sizes(shapes: Iterable[tuple[int, int]]) -> str:
    texts = [f"{width}x{height}" for height, width in sorted(shapes)]
    if len(texts) < 3:
        return f"{' and '.join(texts) or 'no'} pixels"
    return f"{len(texts)} sizes from {texts[0]} to {texts[-1]} pixels"


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
    name = nfc(Path(root).resolve().name)
    name = re.sub("[^A-Za-z0-9_.-]+", "_", name).lstrip("_.-") or "own"
    options = {"results": f"results/{name}", "datasets": {name: source}}
    defaults = read_schema("config")["properties"]["shots"]["default"]
    shots = [number for number in defaults if number <= min(counts.values())]
    return options if shots == defaults else options | {"shots": shots}
