"""Predictions of new images: a table of scores, anomaly maps and overlays."""

import csv
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from fsad.artifacts.files import atomic, remove_temporary, unreadable, write_record
from fsad.artifacts.names import file_names, nfc
from fsad.artifacts.paths import MAPS, OVERLAYS, RECORD, TABLE
from fsad.backbones.embed import BATCH
from fsad.data.faults import Fault, aspect_fault, image_faults
from fsad.data.images import read_image, warn, write_image
from fsad.data.layouts import find_images
from fsad.data.overlay import overlay, png_name
from fsad.errors import UserError
from fsad.evaluation.detector import SHAPE, Detector, Seen, detect, view_of
from fsad.evaluation.detector_files import chosen_class, load_detectors
from fsad.evaluation.restore import run_detector
from fsad.evaluation.timing import timed

COLUMNS = ("image", "class", "score", "threshold", "normalised", "anomalous", "error")
LONGEST = 1024  # pixels of an overlay's longer side
# Takes the name of an image, its pixels and its overlay, both uint8 [h, w, 3].
Show = Callable[[str, np.ndarray, np.ndarray], None]


class Row(NamedTuple):
    """A row of scores.csv, with None for an empty field.

    normalised: the score as a multiple of the threshold. anomalous: 1 for a score above
    the threshold, else 0.
    """

    image: str
    class_name: str
    score: np.float32 | None = None
    threshold: np.float32 | None = None
    normalised: np.float32 | None = None
    anomalous: int | None = None
    error: str = ""


class Predictions(NamedTuple):
    """Rows of images, sorted by name, and seconds that each step took for all."""

    rows: list[Row]
    seconds: Counter[str]


class Outputs(NamedTuple):
    """Paths of the map and the overlay of each image, by its name, and `show`."""

    paths: Mapping[str, tuple[Path, Path]]
    show: Show | None


class Picture(NamedTuple):
    """A new image.

    seen: what the network takes of it. shown: uint8 [h, w, 3], no side longer than
    LONGEST. faults: reasons to doubt it.
    """

    seen: Seen
    shown: np.ndarray
    faults: list[Fault]


def open_detectors(path: str | Path, device: str) -> dict[str, Detector]:
    """Load the detectors of a run's folder, or of a file of `fsad export`, by class."""
    try:
        os.stat(path)
    except OSError as error:
        missing = "no such run, nor a file of fsad export"
        raise unreadable(path, error, missing) from None
    if Path(path).suffix == ".onnx":
        raise UserError(f"{path}: is a graph of ONNX; take .safetensors, or a run")
    if not Path(path).is_dir():
        return load_detectors(path, device)
    detector = run_detector(path, device)
    return {detector.described["class"]: detector}


def with_threshold(
    detectors: Mapping[str, Detector], threshold: float
) -> dict[str, Detector]:
    """Detectors by class, with another threshold of the image score."""
    other = {"threshold": threshold}
    return {n: d._replace(described=d.described | other) for n, d in detectors.items()}


def detectors_of_images(
    detectors: Mapping[str, Detector],
    images: Mapping[str, Path],
    class_name: str | None = None,
) -> dict[str, Detector]:
    """The detector of each image, by the image's name.

    detectors: by class. images: files by name. class_name: of all images. Without it,
    and with several detectors, the class of an image is the innermost folder of its
    path that has the name of one. Raises UserError for a class without a detector, and
    for an image in no such folder.
    """
    if class_name is None and len(detectors) > 1:
        return {n: detectors[_folder_class(p, detectors)] for n, p in images.items()}
    return dict.fromkeys(images, detectors[chosen_class(detectors, class_name)])


def _folder_class(path: Path, classes: Iterable[str]) -> str:
    """The innermost folder in the path as it is given, links unresolved."""
    for folder in Path(os.path.abspath(path)).parents:
        if nfc(folder.name) in classes:
            return nfc(folder.name)
    raise UserError(
        f"{path}: lies in no folder with the name of a class of --run "
        f"({', '.join(classes)}); move it into one, or name its class with --class"
    )


def predict_entry(
    run: Path, images: str | Path, out: Path, record: Mapping, threads: int
) -> None:
    """Score a folder of images, or one image, with a run, and store the record.

    Raises UserError if no image can be read.
    """
    detector = run_detector(run, record["run"]["options"]["device"])
    found = find_images([images])
    rows, _ = predict(dict.fromkeys(found, detector), found, out, threads)
    if all(row.error for row in rows):
        raise UserError(f"{images}: no image there can be read")
    write_record(out / RECORD, record)


def predict(
    detectors: Mapping[str, Detector],
    images: Mapping[str, Path],
    out: Path,
    threads: int,
    show: Show | None = None,
) -> Predictions:
    """Score images, and write a table of scores, anomaly maps and overlays.

    detectors: of each image, by its name. images: files by name. scores.csv has a row
    per image, sorted by name, see `Row`: what depends on a threshold is empty where the
    detector has none, and an image that raised an error does not stop the others.
    maps/NAME.tiff: anomaly map, float32 [R, R], or [H, W] at `resolution: raw`.
    overlays/NAME.png: the map over the image, in the proportions of the image and the
    colours of `map_range`, see `calibration.calibrate`: its middle is green, its end
    red. NAME is shortened where it must be, see `file_names`. Reasons to doubt images
    are logged. show: is called for each overlay, in several threads at once.
    """
    rows, doubts, seconds = [], [], Counter()
    for folder in (MAPS, OVERLAYS):
        remove_temporary(out / folder)
    outputs = Outputs(_paths(images, out), show)
    with ThreadPoolExecutor(threads) as pool:
        for detector, names in tqdm(_batches(detectors), "predict", mininterval=1):
            batch = {name: images[name] for name in names}
            scored, found = _predict_batch(detector, batch, outputs, pool, seconds)
            rows, doubts = rows + scored, doubts + found
    warn(doubts)
    rows = sorted(rows)
    # Names of files may hold bytes that are no UTF-8.
    text = {"encoding": "utf-8", "errors": "backslashreplace"}
    with atomic(out / TABLE) as path, open(path, "w", newline="", **text) as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return Predictions(rows, seconds)


def _paths(images: Iterable[str], out: Path) -> dict[str, tuple[Path, Path]]:
    maps = file_names({name: f"{name}.tiff" for name in images})
    overlays = file_names({name: png_name(name) for name in images})
    return {n: (out / MAPS / maps[n], out / OVERLAYS / overlays[n]) for n in images}


def _batches(detectors: Mapping[str, Detector]) -> list[tuple[Detector, list[str]]]:
    """At most BATCH names of images of one detector each, in order."""
    found = defaultdict(list)
    for name in sorted(detectors):
        found[detectors[name].described["class"]].append(name)
    return [
        (detectors[names[0]], names[start : start + BATCH])
        for names in found.values()
        for start in range(0, len(names), BATCH)
    ]


def _predict_batch(
    detector: Detector,
    batch: Mapping[str, Path],
    outputs: Outputs,
    pool: ThreadPoolExecutor,
    seconds: Counter[str],
) -> tuple[list[Row], list[Fault]]:
    """Rows of the table, and reasons to doubt images."""
    with timed(seconds, "decode"):
        found = pool.map(partial(_attempt, _read, detector), batch, batch.values())
        read = dict(zip(batch, found, strict=True))
    rows = [_row(detector, name, error=why) for name, (_, why) in read.items() if why]
    pictures = {name: picture for name, (picture, error) in read.items() if not error}
    doubts = [fault for picture in pictures.values() for fault in picture.faults]
    if not pictures:
        return rows, doubts
    seen, shown, _ = zip(*pictures.values(), strict=True)
    scores, maps = detect(detector, seen, seconds)
    with timed(seconds, "write"):
        write = partial(_write_pictures, outputs, detector)
        errors = [*pool.map(write, pictures, shown, maps)]
    values = zip(pictures, scores, errors, strict=True)
    return rows + [_row(detector, *value) for value in values], doubts


def _row(
    detector: Detector, name: str, score: np.float32 | None = None, error: str = ""
) -> Row:
    class_name, threshold = (detector.described[n] for n in ("class", "threshold"))
    row = Row(name, class_name, score, error=error)
    if threshold is None or score is None:
        return row
    limit = np.float32(threshold)
    row = row._replace(threshold=limit, anomalous=int(score > limit))
    return row._replace(normalised=score / limit) if limit > 0 else row


def _attempt(
    work: Callable, detector: Detector, name: str, *arguments: object
) -> tuple[Any, str]:
    """The result of work on an image, and the error: one image stops no other."""
    try:
        return work(detector, *arguments), ""
    except UserError as error:
        logging.error(error)
        return None, str(error)
    except Exception as error:
        logging.exception("%s: an error of this program or of its libraries", name)
        return None, " ".join(f"{name}: {type(error).__name__}: {error}".split())


def _read(detector: Detector, path: Path) -> Picture:
    picture = read_image(path)
    shapes = [seen[SHAPE].tolist() for seen in detector.seen]
    aspect = aspect_fault(picture.shape[:2], shapes)
    reasons = [*image_faults(picture), *filter(None, [aspect])]
    scale = min(1, LONGEST / max(picture.shape[:2]))
    shape = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    shown = cv2.resize(picture, shape, interpolation=cv2.INTER_AREA)
    faults = [(path, reason) for reason in reasons]
    return Picture(view_of(detector, picture), shown, faults)


def _write_pictures(
    outputs: Outputs,
    detector: Detector,
    name: str,
    shown: np.ndarray,
    anomaly_map: np.ndarray,
) -> str:
    """Write the map and the overlay of an image; the error of one not drawn, or ""."""
    map_path, overlay_path = outputs.paths[name]
    drawn, error = _attempt(_overlay, detector, name, shown, anomaly_map)
    write_image(map_path, anomaly_map)
    if not error:
        write_image(overlay_path, drawn)
        if outputs.show is not None:
            outputs.show(name, shown, drawn)
    return error


def _overlay(
    detector: Detector, picture: np.ndarray, anomaly_map: np.ndarray
) -> np.ndarray:
    low, high = detector.described["map_range"]
    heat = ((anomaly_map - low) / max(high - low, 1e-12)).clip(0, 1)
    return overlay(picture, cv2.resize(heat, picture.shape[1::-1]))


def summary(rows: Sequence[Row]) -> str:
    """Numbers of images that are anomalous, and that there is no threshold for."""
    anomalous = sum(row.anomalous == 1 for row in rows)
    undecided = sum(row.threshold is None and not row.error for row in rows)
    if undecided == len(rows):
        return f"{len(rows)} images scored, without a threshold"
    more = f", {undecided} have no threshold" if undecided else ""
    return f"{anomalous} of {len(rows)} images are anomalous{more}"
