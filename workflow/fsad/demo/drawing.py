"""Drawing operations on planes, coverages and scenes.

Planes are float [2, H, W], the x and y of every pixel in the coordinates of a part;
coverages are float [H, W], 1 inside a shape, 0 outside, in between on its edge;
scenes are float [H, W, 3] RGB reflectances, 0 to 1. Fields are functions of a plane to
float [H, W] or to a scene; makers draw a field from a generator.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

VISIBLE = 8  # smallest visible change of a pixel, of 255

Array = np.ndarray
Colour = tuple[float, float, float] | Array
Field = Callable[[Array], Array]
Maker = Callable[[Generator], Field]


def rotate(plane: Array, angle: float) -> Array:
    """Coordinates rotated by an angle in radians."""
    (x, y), cos, sin = plane, np.cos(angle), np.sin(angle)
    return np.float32([cos * x + sin * y, cos * y - sin * x])


def shift(plane: Array, x: float | Array, y: float | Array) -> Array:
    """Coordinates relative to the point (x, y)."""
    return np.float32([plane[0] - x, plane[1] - y])


def coverage(distance: Array) -> Array:
    """Coverage of a shape by its signed distance in pixels, negative inside."""
    return (0.5 - distance).clip(0, 1)


def blend(scene: Array, shape: Array, over: Colour) -> Array:
    """Composite a colour or another scene over a scene, within a coverage."""
    return scene + shape[..., None] * (np.float32(over) - scene)


def relief(height: Array) -> Array:
    """Shading of a height map by light from the upper left."""
    down, right = np.gradient(height)
    return down + right


def visible_change(before: Array, after: Array) -> tuple[Array, Array]:
    """Image with only the visible changes between two images, and their mask.

    before, after: uint8 [H, W, 3]. Invisible changes are undone, so that the mask
    uint8 [H, W], 0 or 255, holds exactly the pixels that differ from `before`.
    """
    change = (cv2.absdiff(before, after).max(-1) >= VISIBLE).astype(np.uint8)
    # A speck would count as a region of its own in per-region overlap.
    change = cv2.morphologyEx(change, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.where(change[..., None] > 0, after, before), 255 * change
