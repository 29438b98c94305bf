"""Predictions of new images: a table of scores, anomaly maps and overlays."""

import csv
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from fsad.artifacts.files import atomic, unreadable, write_record
from fsad.artifacts.names import file_names
from fsad.artifacts.paths import MAPS, OVERLAYS, RECORD, TABLE
from fsad.backbones.embed import BATCH
from fsad.data.faults import Fault, aspect_fault, image_faults
from fsad.data.images import read_image, warn, write_image
from fsad.data.layouts import find_images
from fsad.data.overlay import overlay, png_name
from fsad.errors import UserError
from fsad.evaluation.detector import (
    SHAPE,
    Detector,
    Seen,
    detect,
    load_detectors,
    view_of,
)
from fsad.evaluation.restore import run_detector

COLUMNS = ("image", "score", "threshold", "anomalous", "error")
LONGEST = 1024  # pixels of an overlay's longer side


class Counts(NamedTuple):
    """Numbers of images that are anomalous, and that could not be read.

    anomalous: None for a detector without a threshold.
    """

    anomalous: int | None
    failed: int


def open_detectors(path: str | Path, device: str) -> dict[str, Detector]:
    """Load the detectors of a run's folder, or of a file of `fsad export`, by class."""
    try:
        os.stat(path)
    except OSError as error:
        missing = "no such run, nor a file of fsad export"
        raise unreadable(path, error, missing) from None
    if not Path(path).is_dir():
        return load_detectors(path, device)
    detector = run_detector(path, device)
    return {detector.described["class"]: detector}


def predict_entry(
    run: Path, images: str | Path, out: Path, record: Mapping, threads: int
) -> None:
    """Score a folder of images, or one image, with a run, and store the record.

    Raises UserError if no image can be read.
    """
    detector = run_detector(run, record["run"]["options"]["device"])
    found = find_images([images])
    counts = predict(detector, found, out, threads)
    if counts.failed == len(found):
        raise UserError(f"{images}: no image there can be read")
    write_record(out / RECORD, record)


def predict(
    detector: Detector, images: Mapping[str, Path], out: Path, threads: int
) -> Counts:
    """Score images, and write a table of scores, anomaly maps and overlays.

    images: files by name. scores.csv has a row per image, sorted by name: score,
    threshold of the detector and whether the score is above it, both empty at zero
    shots, and the error of an image that raised one, which does not stop the others.
    maps/NAME.tiff: anomaly map, float32 [R, R], or [H, W] at `resolution: raw`.
    overlays/NAME.png: the map over the image, in the proportions of the image and the
    colours of `map_range`, see `calibration.calibrate`: its middle is green, its end
    red. NAME is shortened where it must be, see `file_names`. Reasons to doubt images
    are logged.
    """
    rows, doubts, names = [], [], sorted(images)
    maps = file_names({name: f"{name}.tiff" for name in names})
    overlays = file_names({name: png_name(name) for name in names})
    targets = {n: (out / MAPS / maps[n], out / OVERLAYS / overlays[n]) for n in names}
    for start in tqdm(range(0, len(names), BATCH), "predict", mininterval=1):
        batch = {name: images[name] for name in names[start : start + BATCH]}
        scored, found = _predict_batch(detector, batch, targets, threads)
        rows, doubts = rows + scored, doubts + found
    warn(doubts)
    # Names of files may hold bytes that are no UTF-8.
    text = {"encoding": "utf-8", "errors": "backslashreplace"}
    with atomic(out / TABLE) as path, open(path, "w", newline="", **text) as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *sorted(rows)])
    failed = sum(row[4] != "" for row in rows)
    has_threshold = detector.described["threshold"] is not None
    anomalous = sum(row[3] == 1 for row in rows) if has_threshold else None
    return Counts(anomalous, failed)


def _predict_batch(
    detector: Detector,
    batch: Mapping[str, Path],
    targets: Mapping[str, tuple[Path, Path]],
    threads: int,
) -> tuple[list[tuple], list[Fault]]:
    """Rows of the table, and reasons to doubt images."""
    threshold, (low, high) = (detector.described[n] for n in ("threshold", "map_range"))
    with ThreadPoolExecutor(threads) as pool:
        read = pool.map(lambda n: _attempt(n, _read, batch[n], detector), batch)
        found = dict(zip(batch, read, strict=True))
    rows = [(name, "", "", "", error) for name, (_, error) in found.items() if error]
    pictures = {name: picture for name, (picture, error) in found.items() if not error}
    doubts = [fault for *_, faults in pictures.values() for fault in faults]
    if not pictures:
        return rows, doubts
    scores, maps = detect(detector, [seen for seen, *_ in pictures.values()])
    heats = [((one - low) / max(high - low, 1e-12)).clip(0, 1) for one in maps]
    for index, (name, (_, shown, _)) in enumerate(pictures.items()):
        drawn, error = _attempt(name, _overlay, shown, heats[index])
        write_image(targets[name][0], maps[index])
        if not error:
            write_image(targets[name][1], drawn)
        rows.append((name, scores[index], *_decided(scores[index], threshold), error))
    return rows, doubts


def _decided(score: np.float32, threshold: float | None) -> tuple:
    """The threshold, and 1 for a score above it, else 0; of none both are empty."""
    if threshold is None:
        return "", ""
    return np.float32(threshold), int(score > np.float32(threshold))


def _attempt(name: str, work: Callable, *arguments: object) -> tuple[Any, str]:
    """The result of work on an image, and the error: one image stops no other."""
    try:
        return work(*arguments), ""
    except UserError as error:
        logging.error(error)
        return None, str(error)
    except Exception as error:
        logging.exception("%s: an error of this program or of its libraries", name)
        return None, " ".join(f"{name}: {type(error).__name__}: {error}".split())


def _read(path: Path, detector: Detector) -> tuple[Seen, np.ndarray, list[Fault]]:
    """An image as the network takes it, as it is shown, and reasons to doubt it."""
    picture = read_image(path)
    shapes = [seen[SHAPE].tolist() for seen in detector.seen]
    aspect = aspect_fault(picture.shape[:2], shapes)
    reasons = [*image_faults(picture), *filter(None, [aspect])]
    scale = min(1, LONGEST / max(picture.shape[:2]))
    shape = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    shown = cv2.resize(picture, shape, interpolation=cv2.INTER_AREA)
    return view_of(detector, picture), shown, [(path, why) for why in reasons]


def _overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    return overlay(picture, cv2.resize(heat, picture.shape[1::-1]))
