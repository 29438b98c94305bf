"""Predictions of new images: a table of scores, anomaly maps and overlays."""

import csv
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from fsad.artifacts.files import atomic, write_record
from fsad.data.images import read_image, square, write_image
from fsad.data.layouts import find_images
from fsad.data.overlay import overlay, png_name
from fsad.errors import UserError
from fsad.evaluation.detector import BATCH, Detector, detect, load_detector
from fsad.evaluation.restore import run_detector

TABLE, RECORD = "scores.csv", "record.json"
COLUMNS = ("image", "score", "threshold", "anomalous", "error")
LONGEST = 1024  # pixels of an overlay's longer side


class Counts(NamedTuple):
    """Numbers of images that are anomalous, and that could not be read."""

    anomalous: int
    failed: int


def open_detector(path: str | Path, device: str) -> Detector:
    """Load the detector of a run's folder, or of a file of `fsad export`."""
    if not Path(path).exists():
        raise UserError(f"{path}: no such run, nor a file of fsad export")
    load = load_detector if Path(path).is_file() else run_detector
    return load(path, device)


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
    threshold of the detector, whether the score is above it, and the error where an
    image could not be read, which does not stop the others. maps/NAME.tiff: anomaly
    map, float32 [R, R]. overlays/NAME.png: the map over the image, in the proportions
    of the image and the colours of `map_range`, see `calibration.calibrate`: its middle
    is green, its end red.
    """
    rows, files = [], list(images.items())
    for start in tqdm(range(0, len(files), BATCH), "predict", mininterval=1):
        rows += _predict_batch(detector, files[start : start + BATCH], out, threads)
    with atomic(out / TABLE) as path, open(path, "w", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *sorted(rows)])
    failed = sum(row[4] != "" for row in rows)
    return Counts(sum(row[3] == 1 for row in rows), failed)


def _predict_batch(
    detector: Detector, batch: Sequence[tuple[str, Path]], out: Path, threads: int
) -> list[tuple]:
    with ThreadPoolExecutor(threads) as pool:
        read = list(pool.map(_read, batch))
    rows = [(name, "", "", "", error) for name, _, error in read if error]
    pictures = {name: picture for name, picture, error in read if not error}
    if not pictures:
        return rows
    size, described = detector.tower.config["image_size"], detector.described
    threshold, (low, high) = np.float32(described["threshold"]), described["map_range"]
    images = np.stack([square(picture, size) for picture in pictures.values()])
    scores, maps = detect(detector, images)
    heats = ((maps - low) / max(high - low, 1e-12)).clip(0, 1)
    for index, (name, picture) in enumerate(pictures.items()):
        write_image(out / "maps" / f"{name}.tiff", maps[index])
        write_image(out / "overlays" / png_name(name), _overlay(picture, heats[index]))
        above = int(scores[index] > threshold)
        rows.append((name, scores[index], threshold, above, ""))
    return rows


def _read(file: tuple[str, Path]) -> tuple[str, np.ndarray | None, str]:
    """Name and pixels of an image file, and the error if it cannot be read."""
    name, path = file
    try:
        return name, read_image(path), ""
    except UserError as error:
        logging.error(error)
        return name, None, str(error)


def _overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    scale = min(1, LONGEST / max(picture.shape[:2]))
    shape = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    picture = cv2.resize(picture, shape, interpolation=cv2.INTER_AREA)
    return overlay(picture, cv2.resize(heat, shape))
