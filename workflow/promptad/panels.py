"""Pictures for people: image, mask and anomaly map side by side."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from promptad.images import write_image
from promptad.maps import full_maps
from promptad.provenance import origin
from promptad.storage import read_npz

PERCENTILES = (1, 99.5)
OPACITY = 0.5


def panels_from_files(
    folder: str | Path,
    resolution: int,
    place: Mapping[str, str],
    images: str,
    scores: str,
    masks: str | None = None,
) -> None:
    """Draw the panels of a run from its cached files; see `write_panels`.

    place: `experiment`, `dataset`, `class_name`, `shots`, `seed` and `task` of the run.
    """
    made = origin("preprocess_masks.py", **place, resolution=resolution)
    mask = read_npz(masks, origin=made)["masks"] if masks else None
    test = read_npz(images, origin=origin("preprocess_test.py", **place))
    run = origin("train.py", **place) | {"class": place["class_name"]}
    write_panels(folder, test, run_grids(scores, run), mask, resolution)


def run_grids(scores: str | Path, made: Mapping | None = None) -> np.ndarray:
    """The maps [N, G, G] of a run's scores.npz that its panels show.

    Those of a seg run after the last epoch; of a cls run, which has but one score
    for an image, the visual maps.
    """
    run = read_npz(scores, "last", "visual", origin=made)
    return run["last"] if run["last"].ndim == 3 else run["visual"]


def write_panels(
    folder: str | Path,
    test: dict[str, np.ndarray],
    grids: np.ndarray,
    masks: np.ndarray | None,
    resolution: int,
) -> None:
    """Write one PNG per test image into `folder`, named `DEFECT_NAME.png` (`.jpg.png`).

    test: `images` uint8 [N, S, S, 3] RGB and `names`. grids: maps [N, G, G]. masks:
    [N, R, R] or None. All panels of a class share one colour scale.
    """
    heat = scaled(full_maps(grids, resolution))
    for index, name in enumerate(test["names"]):
        mask = None if masks is None else masks[index]
        panel = draw_panel(test["images"][index], heat[index], mask)
        write_image(Path(folder, png_name(name.replace("/", "_"))), panel)


def scaled(maps: np.ndarray) -> np.ndarray:
    """Maps [N, R, R] on the one colour scale of them all, 0 to 1."""
    low, high = np.percentile(maps, PERCENTILES)
    return np.clip((maps - low) / max(high - low, 1e-12), 0, 1)


def draw_panel(
    image: np.ndarray, heat: np.ndarray, mask: np.ndarray | None
) -> np.ndarray:
    """Image, mask if there is one, and heat over image: uint8 [R, 2R or 3R, 3] RGB.

    image: uint8 [S, S, 3] RGB. heat: [R, R] in 0..1. mask: [R, R], 1 is defect.
    """
    image = cv2.resize(image, heat.shape[::-1], interpolation=cv2.INTER_AREA)
    tiles = [image, overlay(image, heat)]
    if mask is not None:
        tiles.insert(1, np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))
    return np.hstack(tiles)


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Heat [H, W] in 0..1 as colours, blue to red, over an image uint8 [H, W, 3]."""
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_JET)
    colours = cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(image, 1 - OPACITY, colours, OPACITY, 0)


def png_name(name: str) -> str:
    """Name of the picture drawn of image `name`."""
    return name if name.endswith(".png") else f"{name}.png"
