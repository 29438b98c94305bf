"""Painters of the demo's parts: functions of a plane and a generator to a scene.

The origin of a plane is the centre of the part; lengths are in pixels.
"""

import cv2
import numpy as np
from numpy.random import Generator

from fsad.demo.drawing import Array, Colour, blend, coverage, rotate, shift
from fsad.demo.materials import (
    BEIGE,
    BLUE,
    FOIL,
    GREY,
    ORANGE,
    RUBBER,
    SHADE,
    SLATE,
    STEEL,
    batch_tint,
    cast_shadow,
    emboss,
    shade,
    smooth_noise,
    surface,
)

MAT_NOISE = 0.08, 1.2  # contrast and sigma of the surface below an object
THREAD = 11.0
RING, RING_WIDTH, LUG, BOLT = 60.0, 28.0, 18.0, 8.0
COLUMNS, ROWS, PITCH, POCKET, PILL = 4, 3, 52.0, 23.0, 18.0


def fabric(plane: Array, rng: Generator, dtype=np.float64, coarse: int = 1) -> Array:
    """Plain weave of blue and grey threads that drift to the sides.

    dtype: of the computation. The drift is drawn at 1 / coarse of the resolution.
    """
    # The weave repeats after two threads; `first` more keep their numbers above 0.
    first = max(64, max(plane.shape) // 16)
    drift = [0.12 * _drift(side.shape, rng, coarse) for side in plane]
    phase = rng.uniform(first, first + 2, (2, 1, 1)).astype(dtype)
    u, v = plane / THREAD + drift + phase
    warp_on_top = (u // 1 + v // 1) % 2 == 0
    warp = _threads(u, v, BLUE, 2 * first, rng)
    weft = _threads(v, u, GREY, 2 * first, rng)
    scene = np.where(warp_on_top[..., None], warp, weft)
    return scene * batch_tint(rng).astype(dtype)


def _drift(shape: tuple[int, int], rng: Generator, coarse: int) -> Array:
    small = tuple(side // coarse for side in shape)
    noise = smooth_noise(small, rng, 25 / coarse)
    return cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _threads(
    across: Array, along: Array, colour: Colour, count: int, rng: Generator
) -> Array:
    tones = rng.normal(1, 0.12, count).astype(across.dtype)
    arch = np.abs(np.sin(np.pi * across)) ** 0.6 * np.abs(np.sin(np.pi * along)) ** 0.3
    fibre = 0.06 * smooth_noise(across.shape, rng, 0.8)
    grey = tones[across.astype(int)] * (0.15 + 0.85 * arch) + fibre
    return grey[..., None] * np.float32(colour)


def metal(plane: Array, rng: Generator) -> Array:
    streaks = smooth_noise((400, 400), rng, 60, 0.7) + 0.5 * smooth_noise(
        (400, 400), rng, 15, 1
    )
    streaks = cv2.remap(streaks, *(plane + 200), cv2.INTER_LINEAR)
    steel = surface(plane, STEEL * batch_tint(rng), rng, 0.03, 12)
    return shade(steel, 0.18 * streaks)


def gasket(plane: Array, rng: Generator) -> Array:
    mat = surface(plane, BEIGE, rng, *MAT_NOISE)
    rubber = surface(plane, RUBBER, rng, 0.05, 1)
    distance = gasket_distance(plane)
    return emboss(cast_shadow(mat, coverage(distance)), distance, rubber, 1.5)


def gasket_distance(plane: Array) -> Array:
    """Signed distance to a ring with three lugs, each with a bolt hole."""
    distance = np.abs(np.hypot(*plane) - RING) - RING_WIDTH / 2
    for angle in np.arange(3) * 2 * np.pi / 3:
        from_bolt = np.hypot(*shift(rotate(plane, angle), RING + 8, 0))
        distance = np.maximum(np.minimum(distance, from_bolt - LUG), BOLT - from_bolt)
    return distance


def blister(plane: Array, rng: Generator) -> Array:
    x, y = np.abs(plane)
    card = coverage(np.maximum(x - COLUMNS * PITCH / 2, y - ROWS * PITCH / 2))
    foil = surface(plane, FOIL, rng, 0.03, 1)
    mat = surface(plane, SLATE, rng, *MAT_NOISE)
    scene = blend(cast_shadow(mat, card), card, foil)
    cell, number = cells(plane)
    scene = emboss(scene, np.hypot(*cell) - POCKET, SHADE, -0.8)
    pill = shift(cell, *rng.uniform(-1.5, 1.5, (2, COLUMNS * ROWS))[:, number])
    return emboss(scene, np.hypot(*pill) - PILL, ORANGE * rng.normal(1, 0.03, 3), 0.8)


def cells(plane: Array) -> tuple[Array, Array]:
    """Plane around the centre of the nearest pocket, and its number [H, W]."""
    right, bottom = (COLUMNS - 1) / 2, (ROWS - 1) / 2
    column = (plane[0] / PITCH + right).round().clip(0, 2 * right)
    row = (plane[1] / PITCH + bottom).round().clip(0, 2 * bottom)
    cell = shift(plane, (column - right) * PITCH, (row - bottom) * PITCH)
    return cell, (row * COLUMNS + column).astype(int)
