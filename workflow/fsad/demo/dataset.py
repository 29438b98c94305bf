"""Synthetic data set of industrial parts with defects.

Every image is a rendered photograph with its own pose and light. A defect image is
rendered without and with the defect: its mask holds exactly the pixels that differ.

Planes, coverages and scenes are those of `fsad.demo.drawing`. Lengths are in pixels.
"""

from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng

from fsad.artifacts.code import code_digest
from fsad.data.layouts import GOOD
from fsad.demo.camera import draw_exposure, draw_pose, expose
from fsad.demo.drawing import Array, visible_change
from fsad.demo.folders import prompts_of, write_class, write_once
from fsad.demo.materials import BLACK, COFFEE, CREAM, GREASE, RUST, SLATE
from fsad.demo.part_defects import bend, cut, dent, line, lost_pill, on_ring, spot
from fsad.demo.parts import blister, fabric, gasket, metal

PARTS = {  # height and width of the images, largest turn in radians, painter
    "woven_fabric": ((192, 192), 0.15, fabric),
    "brushed_metal": ((192, 192), 0.15, metal),
    "rubber_gasket": ((192, 192), 0.15, gasket),
    "blister_pack": ((184, 240), 0.1, blister),
}
DEFECTS = {
    "woven_fabric": {
        "hole": spot(16, BLACK),
        "stain": spot(20, COFFEE, soaked=True),
        "loose_thread": line(100, 5, CREAM, height=0.5),
    },
    "brushed_metal": {
        "scratch": line(95, 4, SLATE, height=-1),
        "dent": dent,
        "rust_spot": spot(18, RUST),
    },
    "rubber_gasket": {
        "cut": cut,
        "bend": bend,
        "grease_spot": spot(13, GREASE, place=on_ring),
    },
    "blister_pack": {
        "missing_pill": lost_pill(40),
        "broken_pill": lost_pill(6),
        "tear": line(65, 7, BLACK, height=-1),
    },
}
CLASSES = tuple(PARTS)
PROMPTS = {name: prompts_of(name, kinds) for name, kinds in DEFECTS.items()}


GOOD_TESTS = 16


def write_demo(root: Path, seed: int = 0, good: int = GOOD_TESTS) -> None:
    """Write the data set and its prompts into a folder, unless they are up to date.

    good: number of good test images per class. Raises UserError if the folder holds
    anything else.
    """
    made_by = {"seed": seed, "good": good, "code": code_digest("fsad.demo.dataset")}
    write_once(root, made_by, PROMPTS, lambda: generate(root, seed, good=good))


def generate(
    root: Path,
    seed: int = 0,
    *,
    train: int = 12,
    good: int = GOOD_TESTS,
    defect: int = 8,
) -> None:
    """Write the data set into a folder, in the layout of MVTec AD.

    train, good: number of good training and test images per class. defect: number of
    images per type of defect. Images are uint8 RGB, masks 0 or 255 in one channel. An
    image depends on `seed` and its own path alone, not on these numbers.
    """
    for name in CLASSES:
        counts = {f"train/{GOOD}": train, f"test/{GOOD}": good}
        counts |= {f"test/{kind}": defect for kind in DEFECTS[name]}
        write_class(Path(root, name), counts, seed, render)


def render(name: str, kind: str, rng: Generator) -> tuple[Array, Array]:
    """Photograph of a part of a class, and the mask of its defect.

    kind: a defect of the class, or `good`. Returns the image uint8 [H, W, 3] RGB and
    the mask uint8 [H, W], 0 or 255. Equal generators give the same part for every kind,
    with equal pixels outside the mask.
    """
    shape, largest_turn, painter = PARTS[name]
    pose_seed, part_seed, exposure_seed, defect_seed = rng.integers(2**63, size=4)
    plane = draw_pose(shape, largest_turn, default_rng(pose_seed))
    exposure = draw_exposure(shape, default_rng(exposure_seed))

    def paint(plane: Array) -> Array:
        return painter(plane, default_rng(part_seed))

    image = expose(paint(plane), exposure)
    if kind == GOOD:
        return image, np.zeros(shape, np.uint8)
    scene = DEFECTS[name][kind](paint, plane, default_rng(defect_seed))
    return visible_change(image, expose(scene, exposure))
