"""What generated images are painted with: planes, covers, light on relief.

Planes are float [2, H, W], every pixel's x and y in the coordinates of a part;
covers are float [H, W], 1 inside a shape, 0 outside, in between on its edge;
scenes are float [H, W, 3] RGB reflectances, 0 to 1.
"""

import cv2
import numpy as np

VISIBLE = 8  # of 255: smaller changes are undone, so that masks end where eyes see it

Array = np.ndarray
Colour = tuple[float, float, float] | Array


def turned(plane: Array, angle: float) -> Array:
    (x, y), cos, sin = plane, np.cos(angle), np.sin(angle)
    return np.float32([cos * x + sin * y, cos * y - sin * x])


def moved(plane: Array, x: float | Array, y: float | Array) -> Array:
    return np.float32([plane[0] - x, plane[1] - y])


def cover(distance: Array) -> Array:
    """Cover of the shape whose signed distance, negative inside, is given."""
    return (0.5 - distance).clip(0, 1)


def blend(scene: Array, shape: Array, over: Colour) -> Array:
    """Lay `over`, a colour or another scene, over a scene."""
    return scene + shape[..., None] * (np.float32(over) - scene)


def relief(height: Array) -> Array:
    """Shading of a height map by light from the upper left."""
    down, right = np.gradient(height)
    return down + right


def changed(before: Array, after: Array) -> tuple[Array, Array]:
    change = (cv2.absdiff(before, after).max(-1) >= VISIBLE).astype(np.uint8)
    # A speck would count as a region of its own in per-region overlap.
    change = cv2.morphologyEx(change, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.where(change[..., None] > 0, after, before), 255 * change
