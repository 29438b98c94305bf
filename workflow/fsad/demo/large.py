"""Two classes of large images: the demo's woven fabric with small defects.

A defect is drawn in a window of the image, again and again until its mask has the
extent of its class: the longest side of the mask's bounding box, in pixels.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng

from fsad.artifacts.code import code_digest
from fsad.data.layouts import GOOD
from fsad.demo.camera import Exposure, draw_exposure, draw_pose, expose
from fsad.demo.drawing import Array, visible_change
from fsad.demo.folders import prompts_of, write_class, write_once
from fsad.demo.materials import BLACK, COFFEE, CREAM
from fsad.demo.part_defects import Defect, line, spot
from fsad.demo.parts import fabric

SIDE = 2048  # of the images
WINDOW = 192  # side of the part of an image around its defect
LARGEST_TURN = 0.15  # radians
EXTENTS = {"woven_fabric_large": (24, 64), "woven_fabric_fine": (8, 24)}
# By kind, and how many defective images have it: a defect of about an extent.
KINDS: dict[str, Callable[[float], Defect]] = {
    "hole": lambda extent: spot(extent / 2, BLACK),
    "stain": lambda extent: spot(extent / 2, COFFEE, soaked=True),
    "loose_thread": lambda extent: line(extent, 2 + extent / 25, CREAM, height=0.5),
}
DEFECTIVE = {"hole": 5, "stain": 5, "loose_thread": 6}
PROMPTS = {name: prompts_of("woven_fabric", KINDS) for name in EXTENTS}


def write_large(root: Path, seed: int = 0) -> None:
    """Write the data set and its prompts into a folder, unless they are up to date.

    Raises UserError if the folder holds anything else.
    """
    made_by = {"seed": seed, "code": code_digest("fsad.demo.large")}
    write_once(root, made_by, PROMPTS, lambda: generate(root, seed))


def generate(root: Path, seed: int = 0) -> None:
    """Write the data set into a folder, in the layout of MVTec AD.

    A class has 8 good training images, 8 good and 16 defective test images.
    """
    defective = {f"test/{kind}": count for kind, count in DEFECTIVE.items()}
    counts = {f"train/{GOOD}": 8, f"test/{GOOD}": 8} | defective
    for name in EXTENTS:
        write_class(Path(root, name), counts, seed, render)


def render(name: str, kind: str, rng: Generator) -> tuple[Array, Array]:
    """Photograph of the fabric of a class, and the mask of its defect.

    As `dataset.render`: uint8 [SIDE, SIDE, 3] RGB and uint8 [SIDE, SIDE], 0 or 255.
    """
    shape = SIDE, SIDE
    pose_seed, part_seed, exposure_seed, defect_seed = rng.integers(2**63, size=4)
    plane = draw_pose(shape, LARGEST_TURN, default_rng(pose_seed))
    # Single precision and a coarse drift take a third of the time.
    scene = fabric(plane, default_rng(part_seed), np.float32, coarse=4)
    exposure = draw_exposure(shape, default_rng(exposure_seed), np.float32)
    image, mask = expose(scene, exposure), np.zeros(shape, np.uint8)
    if kind != GOOD:
        rng = default_rng(defect_seed)
        window = _draw_window(rng)
        part = scene[window], plane[:, *window], exposure.within(window)
        damaged, marked = _damage(KINDS[kind], EXTENTS[name], part, rng)
        mask[window] = marked
        image[mask > 0] = damaged[marked > 0]
    return image, mask


def _draw_window(rng: Generator) -> tuple[slice, slice]:
    corner = rng.integers(SIDE - WINDOW, size=2, endpoint=True)
    return tuple(slice(start, start + WINDOW) for start in corner)


def _damage(
    kind: Callable[[float], Defect],
    extents: tuple[int, int],
    part: tuple[Array, Array, Exposure],
    rng: Generator,
) -> tuple[Array, Array]:
    """Photograph of a damaged part of the fabric, and its mask.

    extents: smallest and largest. part: scene, plane and exposure without the damage.
    """
    scene, plane, exposure = part
    (smallest, largest), before = extents, expose(scene, exposure)
    while True:
        defect = kind(rng.uniform(smallest, largest))
        damaged = defect(lambda _: scene, plane, rng)
        image, mask = visible_change(before, expose(damaged, exposure))
        if smallest <= extent(mask) <= largest:
            return image, mask


def extent(mask: Array) -> int:
    """Longest side of the bounding box of a mask [H, W]; 0 of a blank one."""
    return max(_span(mask.any(0)), _span(mask.any(1)))


def _span(marked: Array) -> int:
    places = np.flatnonzero(marked)
    return int(places[-1] - places[0]) + 1 if len(places) else 0
