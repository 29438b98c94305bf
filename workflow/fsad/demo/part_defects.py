"""Defects of the demo's parts.

Functions of the painter of a part, its plane and a generator that return the scene of
the defective part. Lengths are in pixels.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from fsad.demo.drawing import (
    Array,
    Colour,
    Field,
    blend,
    coverage,
    relief,
    rotate,
    shift,
)
from fsad.demo.materials import (
    BEIGE,
    SHADE,
    cast_shadow,
    shade,
    smooth_noise,
    surface,
)
from fsad.demo.parts import (
    COLUMNS,
    MAT_NOISE,
    PILL,
    RING,
    ROWS,
    cells,
    gasket_distance,
)

Defect = Callable[[Field, Array, Generator], Array]


def _blob(plane: Array, radius: float, rng: Generator) -> Array:
    """Coverage of an irregular, slightly elongated disc around the origin."""
    x, y = rotate(plane, rng.uniform(0, np.pi))
    radius = rng.uniform(0.8, 1.2) * radius
    ragged = 0.2 * radius * smooth_noise(x.shape, rng, radius / 3)
    return coverage(np.hypot(x, y * rng.uniform(1, 1.5)) - radius + ragged)


def _stroke(plane: Array, length: float, width: float, rng: Generator) -> Array:
    """Coverage of a bent line through the origin with round ends."""
    x, y = rotate(plane, rng.uniform(0, np.pi))
    length, width = rng.uniform(0.8, 1.2, 2) * (length, width)
    along = x.clip(-length / 2, length / 2)
    bend = rng.uniform(-1, 1) / length
    return coverage(np.hypot(x - along, y - bend * along**2) - width / 2)


def _anywhere(plane: Array, rng: Generator) -> Array:
    """Plane around a random pixel in the middle half of the image."""
    row, column = (int(rng.uniform(0.25, 0.75) * n) for n in plane.shape[1:])
    return shift(plane, *plane[:, row, column])


def on_ring(plane: Array, rng: Generator) -> Array:
    """Plane around a random point of the gasket's ring."""
    angle = rng.uniform(0, 2 * np.pi)
    return shift(plane, RING * np.cos(angle), RING * np.sin(angle))


def spot(radius: float, colour: Colour, soaked=False, place=_anywhere) -> Defect:
    """Blob of a colour; with `soaked` the pattern below shows through."""

    def draw(paint: Field, plane: Array, rng: Generator) -> Array:
        scene, blob = paint(plane), _blob(place(plane, rng), radius, rng)
        matter = surface(plane, colour, rng, 0.1, 2)
        if soaked:
            matter *= scene.mean(-1, keepdims=True) / scene.mean()
        return blend(scene, rng.uniform(0.85, 1) * blob, matter)

    return draw


def line(length: float, width: float, colour: Colour, height: float) -> Defect:
    """Line on top of the part, or a groove in it if `height` is negative."""

    def draw(paint: Field, plane: Array, rng: Generator) -> Array:
        scene, thread = paint(plane), _stroke(_anywhere(plane, rng), length, width, rng)
        if height > 0:
            scene = cast_shadow(scene, thread)
        return shade(blend(scene, thread, colour), height * relief(thread))

    return draw


def dent(paint: Field, plane: Array, rng: Generator) -> Array:
    hollow = cv2.GaussianBlur(_blob(_anywhere(plane, rng), 16, rng), (0, 0), 3)
    return shade(paint(plane), -rng.uniform(4, 5) * relief(hollow))


def cut(paint: Field, plane: Array, rng: Generator) -> Array:
    """Gap across the gasket's ring."""
    x, y = rotate(plane, rng.uniform(0, 2 * np.pi))
    edge = rng.uniform(6, 9) + rng.uniform(-0.2, 0.2) * (x - RING)
    gap = coverage(np.abs(y) - edge) * coverage(gasket_distance(plane) - 1)
    return blend(paint(plane), gap * (x > 0), surface(plane, BEIGE, rng, *MAT_NOISE))


def bend(paint: Field, plane: Array, rng: Generator) -> Array:
    """Part of the gasket's ring displaced inwards or outwards."""
    reach = np.exp(-(on_ring(plane, rng) ** 2).sum(0) / (2 * 14**2))
    pull = rng.choice([-1, 1]) * rng.uniform(24, 30) * reach
    return paint(plane * (1 + pull / np.hypot(*plane).clip(1)))


def lost_pill(edge: float) -> Defect:
    """One pill lost up to a ragged line at the distance `edge` from its centre."""

    def draw(paint: Field, plane: Array, rng: Generator) -> Array:
        cell, number = cells(plane)
        x, _ = rotate(cell, rng.uniform(0, 2 * np.pi))
        line = x - edge - rng.uniform(-3, 3)
        lost = coverage(line + 1.5 * smooth_noise(line.shape, rng, 2))
        lost *= number == rng.integers(COLUMNS * ROWS)
        return blend(paint(plane), lost * coverage(np.hypot(*cell) - PILL - 2), SHADE)

    return draw
