"""Random shapes of scenes as signed distances, negative inside.

Shapes have about the given size; planes, sizes and distances are in halves of an
image's side.
"""

from functools import partial

import numpy as np
from numpy.random import Generator

from fsad.demo.drawing import Array, Field, blend, coverage, relief, rotate, shift
from fsad.demo.scene_textures import noise_tile, sample_tile

SIDE = 112  # side of an image in pixels


def soft_coverage(distance: Array, softness: float = 1 / SIDE) -> Array:
    """Coverage of a shape with an edge of width `softness` on both sides."""
    return coverage(distance / (2 * softness))


def emboss(
    scene: Array, distance: Array, over: Array, height: float, width: float
) -> Array:
    """Scene with a shape on it, or sunk into it if `height` is negative.

    over: colour or scene of the shape. height, width: of its bevel.
    """
    bevel = relief((-distance / width).clip(0, 1) * width * SIDE / 4)
    scene = blend(scene, soft_coverage(distance), over)
    return scene * (1 + height * bevel[..., None]).clip(0, 3)


def blot(plane: Array, radius: float, rng: Generator) -> Array:
    """Signed distance to an irregular blot around the origin."""
    x, y = rotate(plane, rng.uniform(0, 2 * np.pi))
    ragged = rng.uniform(0.05, 0.4) * radius
    noise = sample_tile(noise_tile(rng, 6, 6), plane, 0.075 / max(radius, 0.05))
    return np.hypot(x, y * rng.uniform(1, 2)) - radius + ragged * noise


def _round(size: float, profile: Field) -> Field:
    """Signed distance to a shape by its radius, relative to `size`, at an angle."""
    return lambda p: np.hypot(*p) - size * profile(np.arctan2(p[1], p[0]))


def _lump(rng: Generator, size: float) -> Field:
    waves = np.arange(2, 6)
    amounts, starts = rng.normal(0, 0.12, 4) / waves**0.5, rng.uniform(0, 7, 4)
    ripples = list(zip(waves, amounts, starts, strict=True))
    return _round(size, lambda x: 1 + sum(a * np.cos(n * x + s) for n, a, s in ripples))


def _polygon(rng: Generator, size: float) -> Field:
    sides, stretch = rng.integers(3, 9), rng.uniform(0.6, 1)
    angles = np.arange(sides) * 2 * np.pi / sides
    return lambda p: (
        np.max([p[0] * np.cos(a) + p[1] / stretch * np.sin(a) for a in angles], 0)
        - 0.85 * size
    )


def _box(rng: Generator, size: float) -> Field:
    width, height = size * rng.uniform(0.8, 1.1), size * rng.uniform(0.25, 1.1)
    corner = rng.uniform(0, 0.9) * min(width, height)

    def distance(p: Array) -> Array:
        x, y = np.abs(p[0]) - width + corner, np.abs(p[1]) - height + corner
        inside = np.minimum(np.maximum(x, y), 0)
        return np.hypot(x.clip(0), y.clip(0)) + inside - corner

    return distance


def _gear(rng: Generator, size: float) -> Field:
    teeth, depth, edge = rng.integers(6, 30), rng.uniform(0.03, 0.15), rng.uniform(1, 6)

    def profile(angle: Array) -> Array:
        return 1 - depth + depth * np.tanh(edge * np.cos(teeth * angle))

    return _round(size, profile)


def _disc(rng: Generator, size: float) -> Field:
    return lambda p: np.hypot(*p) - size


def _hoop(rng: Generator, size: float) -> Field:
    width = size * rng.uniform(0.1, 0.35)
    return lambda p: np.abs(np.hypot(*p) - size + width) - width


def _screw(rng: Generator, size: float) -> Field:
    height, pitch = size * rng.uniform(0.15, 0.4), rng.uniform(15, 50)
    depth, slant = height * rng.uniform(0.05, 0.3), rng.uniform(-0.3, 0.3)

    def distance(p: Array) -> Array:
        thread = depth * np.sin(pitch * (p[0] + slant * p[1]))
        return np.maximum(np.abs(p[1]) - height - thread, np.abs(p[0]) - 1.1 * size)

    return distance


def random_fold(rng: Generator, size: float) -> Field:
    """Function of a plane to the plane around the nearest copy of a detail.

    The copies are one at the centre or elsewhere, or several on a circle or a grid.
    """
    kind = rng.integers(4)
    if kind == 0:
        return lambda p: p
    if kind == 1:
        place = rng.uniform(-0.6, 0.6, 2) * size
        return lambda p: shift(p, *place)
    if kind == 2:
        return partial(_fold_circle, rng.integers(2, 13), size * rng.uniform(0.4, 0.85))
    step, most = size * rng.uniform(0.2, 0.6), rng.integers(1, 4, (2, 1, 1))
    return lambda p: np.float32(p - step * np.round(p / step).clip(-most, most))


def _fold_circle(count: int, radius: float, plane: Array) -> Array:
    step = 2 * np.pi / count
    angle = (np.arctan2(plane[1], plane[0]) + step / 2) % step - step / 2
    distance = np.hypot(*plane)
    return np.float32([distance * np.cos(angle) - radius, distance * np.sin(angle)])


SHAPES = {
    _lump: ["nut", "seed", "pebble", "cookie"],
    _polygon: ["badge", "bolt head", "prism"],
    _box: ["plate", "box", "chip", "card"],
    _gear: ["gear", "bottle cap", "cog"],
    _disc: ["disc", "coin", "lens", "bottle"],
    _hoop: ["washer", "hoop", "bearing"],
    _screw: ["screw", "rod", "shaft", "cable"],
}
