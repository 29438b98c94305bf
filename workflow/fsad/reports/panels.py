"""Pictures of a run: image, mask and anomaly map side by side."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from fsad.artifacts.files import read_npz, write_record
from fsad.artifacts.names import file_names
from fsad.artifacts.paths import RECORD
from fsad.artifacts.sources import Source
from fsad.data.groups import in_order
from fsad.data.images import write_image
from fsad.data.overlay import overlay, png_name
from fsad.errors import UserError
from fsad.methods.maps import full_maps

PERCENTILES = (1, 99.5)


def draw_class(
    folders: Sequence[str],
    records: Sequence[Mapping],
    scores: Sequence[str],
    images: Source,
    masks: Source | None,
) -> None:
    """Draw the panels of several runs of a class.

    records: of the folders of panels, each with the record of its run. scores:
    scores.npz of each run. images, masks: cached files of the class.
    """
    test, truth = read_shown(images, masks)
    for folder, record, path in zip(folders, records, scores, strict=True):
        write_panels(folder, test, run_maps(path, record["run"]), truth)
        write_record(Path(folder, RECORD), record)


def read_shown(
    images: Source, masks: Source | None
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Cached images, see `write_panels`, and masks [N, R, R] where there are any."""
    test = read_npz(images[0], record=images[1])
    truth = read_npz(masks[0], record=masks[1])["masks"] if masks else None
    return test, truth


def run_maps(scores: str | Path, settings: Mapping) -> np.ndarray:
    """Full maps [N, R, R] of a run's scores.npz, whose record is given, last epoch."""
    run = read_npz(scores, "last_maps", "sigma", record=settings)
    resolution = settings["options"]["resolution"]
    return full_maps(run["last_maps"], resolution, float(run["sigma"]))


def write_panels(
    folder: str | Path,
    test: Mapping[str, np.ndarray],
    maps: np.ndarray,
    masks: np.ndarray | None,
) -> None:
    """Write one PNG per test image into `folder`, all with one colour scale.

    Their names are `DEFECT_NAME.png`, or `DEFECT_NAME.jpg.png`, see `file_names`. test:
    `images` uint8 [N, H, W, 3] RGB, see `groups`, and `names`. maps: [N, R, R]. masks:
    [N, R, R] or None. Raises UserError at the end if a panel cannot be drawn.
    """
    heat, failed = scaled(maps), []
    files = file_names({n: png_name(n.replace("/", "_")) for n in test["names"]})
    images = in_order(test, "images")
    for index, name in enumerate(test["names"]):
        mask = None if masks is None else masks[index]
        try:
            panel = draw_panel(images[index], heat[index], mask)
        except Exception:
            logging.exception("%s: its panel cannot be drawn", name)
            failed.append(name)
        else:
            write_image(Path(folder, files[name]), panel)
    if failed:
        raise UserError(
            f"{folder}: {len(failed)} of {len(files)} panels cannot be drawn, as that "
            f"of {failed[0]}; the log has the reasons"
        )


def scaled(maps: np.ndarray) -> np.ndarray:
    """Scale maps [N, R, R] to 0..1, by percentiles of all of them."""
    low, high = np.percentile(maps, PERCENTILES) if maps.size else (0, 1)
    return np.clip((maps - low) / max(high - low, 1e-12), 0, 1)


def draw_panel(
    image: np.ndarray, heat: np.ndarray, mask: np.ndarray | None
) -> np.ndarray:
    """Join image, mask if there is one, and overlay: uint8 [R, 2R or 3R, 3] RGB.

    image: uint8 [H, W, 3] RGB. heat: [R, R] in 0..1. mask: [R, R], 1 is defect.
    """
    image = cv2.resize(image, heat.shape[::-1], interpolation=cv2.INTER_AREA)
    tiles = [image, overlay(image, heat)]
    if mask is not None:
        tiles.insert(1, np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))
    return np.hstack(tiles)
