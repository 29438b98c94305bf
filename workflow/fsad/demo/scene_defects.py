"""Random defects: functions of a part, a plane and a generator to a scene."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from fsad.demo.drawing import Array, Field, Maker, blend, relief, rotate, shift
from fsad.demo.scene_shapes import blot, emboss, soft_coverage
from fsad.demo.scene_textures import log_uniform, random_colour, random_material


class Part(NamedTuple):
    """A part to be damaged."""

    paint: Field  # from a plane to the scene of the part on its ground
    body: Field | None  # signed distance to the part, None if it fills the image
    ground: Maker  # material around the part


Defect = Callable[[Part, Array, Generator], Array]


def _somewhere(part: Part, plane: Array, rng: Generator) -> Array:
    """Plane around a random pixel of the part."""
    inside = np.abs(plane).max(0) < 0.95
    if part.body is not None:
        inside &= part.body(plane) < -0.02
    rows, columns = np.nonzero(inside)
    if not len(rows):
        rows, columns = np.indices(plane.shape[1:]).reshape(2, -1)
    i = rng.integers(len(rows))
    return shift(plane, *plane[:, rows[i], columns[i]])


def _radius(rng: Generator) -> float:
    return log_uniform(rng, 0.05, 0.4)


def _bell(plane: Array, radius: float) -> Array:
    return np.exp(-(plane**2).sum(0) / (2 * (0.6 * radius) ** 2))


def _spot(part: Part, plane: Array, rng: Generator) -> Array:
    """Blot of another colour or material, sometimes translucent."""
    scene = part.paint(plane)
    shape = blot(_somewhere(part, plane, rng), _radius(rng), rng)
    plain = rng.random() < 0.5
    over = random_colour(rng) if plain else random_material(rng)[0](rng)(plane)
    if rng.random() < 0.3:  # the pattern below shows through
        over = over * scene.mean(-1, keepdims=True) / scene.mean()
    softness = rng.choice([0.006, 0.03, 0.08])
    return blend(scene, soft_coverage(shape, softness) * rng.uniform(0.6, 1), over)


def _line(part: Part, plane: Array, rng: Generator) -> Array:
    """Jagged line, raised or sunk."""
    scene, place = part.paint(plane), _somewhere(part, plane, rng)
    length, width = log_uniform(rng, 0.2, 1.2), log_uniform(rng, 0.008, 0.04)
    count, bend = rng.integers(2, 9), rng.choice([0.05, 0.3, 0.8])
    distance = _jagged_distance(place, count, length / count, bend, rng) - width
    shape, tone = soft_coverage(distance), rng.choice([0.05, 0.4, 1.5, 2.5])
    over = scene * tone if rng.random() < 0.6 else random_colour(rng)
    shading = rng.uniform(-1, 1) * relief(shape)
    return blend(scene, shape, over) * (1 + shading[..., None])


def _jagged_distance(
    plane: Array, count: int, step: float, bend: float, rng: Generator
) -> Array:
    """Distance to a line from the origin of straight pieces, each of length `step`."""
    x, y, angle, nearest = 0.0, 0.0, rng.uniform(0, 2 * np.pi), np.inf
    for _ in range(count):
        angle += rng.normal(0, bend)
        along, across = rotate(shift(plane, x, y), angle)
        nearest = np.minimum(nearest, np.hypot(along - along.clip(0, step), across))
        x, y = x + step * np.cos(angle), y + step * np.sin(angle)
    return nearest


def _hole(part: Part, plane: Array, rng: Generator) -> Array:
    shape = blot(_somewhere(part, plane, rng), 0.7 * _radius(rng), rng)
    dark = random_colour(rng) * rng.choice([0.1, 0.4])
    return emboss(part.paint(plane), shape, dark, -rng.uniform(0.3, 1.5), 0.04)


def _dent(part: Part, plane: Array, rng: Generator) -> Array:
    radius = _radius(rng)
    bell = _bell(_somewhere(part, plane, rng), radius)
    depth = rng.choice([-1, 1]) * rng.uniform(40, 100) * radius
    return part.paint(plane) * (1 + depth * relief(bell)[..., None]).clip(0.1, 3)


def _missing(part: Part, plane: Array, rng: Generator) -> Array:
    """Piece broken off, with the ground visible in its place."""
    scene, radius = part.paint(plane), 1.2 * _radius(rng)
    place = rotate(_somewhere(part, plane, rng), rng.uniform(0, 2 * np.pi))
    cut = np.maximum(blot(place, radius, rng), -place[0] - radius * rng.uniform(0, 1))
    if part.body is not None:
        below = part.ground(rng)(plane)
    else:
        below = scene[::-1, ::-1] * rng.uniform(0.3, 0.8)
    return blend(scene, soft_coverage(cut), below)


def _bend(part: Part, plane: Array, rng: Generator) -> Array:
    """Local displacement."""
    radius, angle = 1.2 * _radius(rng) + 0.05, rng.uniform(0, 2 * np.pi)
    pull = rng.uniform(0.4, 1) * radius * np.float32([np.cos(angle), np.sin(angle)])
    bell = _bell(_somewhere(part, plane, rng), radius)
    return part.paint(plane + pull[:, None, None] * bell)


def _swap(part: Part, plane: Array, rng: Generator) -> Array:
    """Blot with the texture of another place of the part."""
    shape = blot(_somewhere(part, plane, rng), _radius(rng), rng)
    shifted = shift(plane, *rng.uniform(-0.6, 0.6, 2))
    elsewhere = part.paint(rotate(shifted, rng.uniform(0, 2 * np.pi)))
    return blend(part.paint(plane), soft_coverage(shape), elsewhere)


def _discolouration(part: Part, plane: Array, rng: Generator) -> Array:
    shape = blot(_somewhere(part, plane, rng), 1.3 * _radius(rng), rng)
    shape = soft_coverage(shape, rng.choice([0.006, 0.05, 0.15]))[..., None]
    grey = np.full(3, rng.choice([0.4, 0.6, 1.5, 1.9]))
    tint = rng.normal(1, 0.35, 3) if rng.random() < 0.5 else grey
    return part.paint(plane) * (1 + shape * (tint - 1)).clip(0.1)


def _print(part: Part, plane: Array, rng: Generator) -> Array:
    """Line of rings and bars, similar to letters."""
    scene, ink = part.paint(plane), random_colour(rng)
    line = rotate(_somewhere(part, plane, rng), rng.uniform(0, 2 * np.pi))
    width, height = rng.uniform(0.01, 0.03), rng.uniform(0.05, 0.15)
    for i in range(rng.integers(2, 7)):
        place = rotate(shift(line, 1.2 * i * height, 0), rng.choice([0, np.pi / 2, 1]))
        ring = np.abs(np.hypot(*place) - height / 2) - width
        bar = np.maximum(np.abs(place[0]) - width, np.abs(place[1]) - height / 2)
        letter = ring if rng.random() < 0.4 else bar
        scene = blend(scene, soft_coverage(letter), ink)
    return scene


DEFECTS = {
    _spot: ["stain", "contamination", "spot", "grease"],
    _line: ["scratch", "crack", "thread", "cut"],
    _hole: ["hole", "poke", "blowhole"],
    _dent: ["dent", "bump", "squeeze"],
    _missing: ["missing part", "breakage", "chip"],
    _bend: ["bend", "deformation", "fold"],
    _swap: ["misplaced part", "wrong pattern"],
    _discolouration: ["discolouration", "uneven colour", "rust"],
    _print: ["print", "marking", "glue"],
}
