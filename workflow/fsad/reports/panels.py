"""Pictures of a run: image, mask and anomaly map side by side."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from fsad.artifacts.files import read_npz, remove_temporary, write_record
from fsad.artifacts.names import file_names
from fsad.artifacts.paths import RECORD
from fsad.artifacts.sources import Source
from fsad.data.groups import in_order
from fsad.data.images import resize_mask, write_image
from fsad.data.masks import IGNORED
from fsad.data.overlay import overlay, png_name
from fsad.errors import UserError
from fsad.methods.maps import full_maps, side

PERCENTILES = (1, 99.5)
GREY = np.uint8(128)


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
) -> tuple[dict[str, np.ndarray], list[np.ndarray] | None]:
    """Cached images, and masks where there are any, see `write_panels`."""
    test = read_npz(images[0], record=images[1])
    if masks is None:
        return test, None
    return test, in_order(read_npz(masks[0], record=masks[1]), "masks")


def run_maps(scores: str | Path, settings: Mapping) -> np.ndarray:
    """Square maps [N, R, R] of a run's scores.npz, whose record is given, last epoch.

    See `maps.side` for R.
    """
    small, sigma = small_maps(scores, settings)
    return full_maps(small, side(settings["options"]["resolution"]), sigma)


def small_maps(scores: str | Path, settings: Mapping) -> tuple[np.ndarray, float]:
    """Maps [N, gh, gw] of the last epoch in a run's scores.npz, and their sigma."""
    run = read_npz(scores, "last_maps", "sigma", record=settings)
    return run["last_maps"], float(run["sigma"])


def write_panels(
    folder: str | Path,
    test: Mapping[str, np.ndarray],
    maps: np.ndarray,
    masks: Sequence[np.ndarray] | None,
) -> None:
    """Write one PNG per test image into `folder`, all with one colour scale.

    Their names are `DEFECT_NAME.png`, or `DEFECT_NAME.jpg.png`, see `file_names`. test:
    `images` uint8 [N, H, W, 3] RGB, see `groups`, and `names`. maps: [N, R, R]. masks:
    N of any shapes, or None. Raises UserError at the end if a panel cannot be drawn.
    """
    remove_temporary(folder)
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

    image: uint8 [H, W, 3] RGB. heat: [R, R] in 0..1. mask: uint8 of any shape, see
    `fsad.data.masks`. Defects are white, pixels that do not count grey.
    """
    image = cv2.resize(image, heat.shape[::-1], interpolation=cv2.INTER_AREA)
    tiles = [image, overlay(image, heat)]
    if mask is not None:
        shown = np.where(mask == IGNORED, GREY, mask * np.uint8(255))
        shown = resize_mask(shown, len(heat))
        tiles.insert(1, np.repeat(shown[..., None], 3, axis=2))
    return np.hstack(tiles)
