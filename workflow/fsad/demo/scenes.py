"""Generated photographs of normal and defective parts, to train the demo's CLIP.

A design fixes the appearance of a kind of part; each photograph has its own pose, light
and noise. No texture, shape or defect here is one of `fsad.demo.dataset`, which is for
testing alone. Planes are in halves of an image's side, -1 to 1.
"""

from itertools import chain
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator, default_rng

from fsad.demo.drawing import Array, Field, Maker, rotate, shift, visible_change
from fsad.demo.scene_defects import DEFECTS, Defect, Part
from fsad.demo.scene_shapes import SHAPES, SIDE, emboss, random_fold
from fsad.demo.scene_textures import MATERIALS, plain, random_colour, random_material

PLANE = np.float32(np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j][::-1])
LAMP = (0, np.pi), (-1, 1), (0.2, 1)  # limits of direction, place and width
SPECK = 12  # defective pixels below which another defect is drawn
TRIES = 6


class Design(NamedTuple):
    """A kind of part."""

    noun: str
    ground: Maker
    layers: list[tuple]  # from the body of the part up; none if it is the ground itself
    camera: dict  # conditions of all photographs


class Episode(NamedTuple):
    """Three photographs of parts of one design, the third one defective."""

    images: Array  # uint8 [3, SIDE, SIDE, 3] RGB
    mask: Array  # of the defect, uint8 [SIDE, SIDE], 0 or 255
    noun: str
    defect: str  # the word for it


def draw_episode(seed: int) -> Episode:
    """Episode of a seed, always the same."""
    rng = default_rng([seed, SIDE])
    design, defect = _draw_design(rng), rng.choice(list(DEFECTS))
    seeds = rng.integers(2**62, size=3)
    normal = [_photographs(design, seed)[0] for seed in seeds[:2]]
    defective, mask = _defective_image(design, defect, seeds[2])
    words = str(rng.choice(DEFECTS[defect]))
    return Episode(np.stack([*normal, defective]), mask, design.noun, words)


def vocabulary() -> tuple[list[str], list[str]]:
    """All nouns of parts, and all words for defects."""
    nouns = chain(*MATERIALS.values(), *SHAPES.values())
    return list(nouns), list(chain(*DEFECTS.values()))


def _draw_design(rng: Generator) -> Design:
    ground, kind = random_material(rng)
    if rng.random() < 0.4:
        noun = str(rng.choice(MATERIALS[kind]))
        return Design(noun, ground, [], _draw_camera(rng, [0.05, 0.3]))
    if rng.random() < 0.5:
        ground = plain(random_colour(rng) * rng.choice([0.2, 1, 1]))
    shape, size = rng.choice(list(SHAPES)), rng.uniform(0.5, 1.0)
    body = shape(rng, size)
    layers = [_draw_layer(rng, body, (-0.5, 1.2), (0.03, 0.15))]
    for _ in range(rng.integers(0, 5)):
        detail = _draw_detail(rng, body, size)
        layers.append(_draw_layer(rng, detail, (-1.2, 1.2), (0.02, 0.08)))
    noun = str(rng.choice(SHAPES[shape]))
    return Design(noun, ground, layers, _draw_camera(rng, [0.03, 0.03, 0.15, np.pi]))


def _draw_camera(rng: Generator, turns: list[float]) -> dict:
    return {
        "turn": rng.choice(turns),  # largest angle
        "shift": rng.uniform(0.01, 0.08),
        "light": rng.choice([0.05, 0.2, 0.3]),  # its spread
        "glow": rng.choice([0, rng.uniform(-0.7, 1.2)]),  # of a bright or dark stripe
        "lamp": [rng.uniform(*limits) for limits in LAMP],
        "blur": rng.uniform(0.3, 0.9),
        "noise": rng.choice([0.004, 0.015, 0.03]),
        "saturation": rng.choice([0, 0, 0.3, 1]),
        "gamma": rng.choice([0, 0.1, 0.3]),  # spread of its logarithm
    }


def _draw_layer(rng: Generator, distance: Field, height: tuple, width: tuple) -> tuple:
    """A shape, its material, and height and width of its bevel between two limits."""
    drawn = rng.uniform(*height) * rng.integers(0, 2)
    return distance, random_material(rng)[0], (drawn, rng.uniform(*width))


def _draw_detail(rng: Generator, body: Field, size: float) -> Field:
    """Signed distance to a smaller shape within the body, in one or several copies."""
    shape = rng.choice(list(SHAPES))(rng, size * rng.uniform(0.06, 0.6))
    fold, angle = random_fold(rng, size), rng.uniform(0, 2 * np.pi)
    return lambda p: np.maximum(shape(fold(rotate(p, angle))), body(p) + 0.01)


def _defective_image(design: Design, defect: Defect, seed: int) -> tuple[Array, Array]:
    """Photograph with a defect, and its mask; drawn again if it is hardly visible."""
    for attempt in range(seed, seed + TRIES):
        image, mask = visible_change(*_photographs(design, attempt, defect))
        if np.count_nonzero(mask) >= SPECK:
            break
    return image, mask


def _photographs(design: Design, seed: int, *defects: Defect) -> list[Array]:
    """Photographs of a part without a defect and with each of some defects."""
    pose, part_seed, exposure, damage = default_rng(seed).integers(2**62, size=4)
    plane = _draw_pose(design.camera, default_rng(pose))
    part = _make_part(design, default_rng(part_seed))
    scenes = [defect(part, plane, default_rng(damage)) for defect in defects]
    scenes = [part.paint(plane), *scenes]
    return [_expose(scene, design.camera, default_rng(exposure)) for scene in scenes]


def _make_part(design: Design, rng: Generator) -> Part:
    ground = design.ground(rng)
    layers = [(shape, make(rng), bevel) for shape, make, bevel in design.layers]

    def paint(plane: Array) -> Array:
        scene = ground(plane)
        for distance, material, bevel in layers:
            scene = emboss(scene, distance(plane), material(plane), *bevel)
        return scene

    return Part(paint, layers[0][0] if layers else None, design.ground)


def _draw_pose(camera: dict, rng: Generator) -> Array:
    spread = camera["shift"]
    plane = shift(PLANE, *rng.uniform(-spread, spread, 2))
    plane /= rng.uniform(1 - spread, 1 + spread)
    return rotate(plane, rng.uniform(-camera["turn"], camera["turn"]))


def _expose(scene: Array, camera: dict, rng: Generator) -> Array:
    """Image uint8 of a scene under random light, by a camera."""
    light = _draw_light(camera, rng)
    lit = np.float32(scene * light[..., None] * rng.normal(1, 0.02, 3))
    image = cv2.GaussianBlur(lit, (0, 0), camera["blur"] * rng.uniform(0.8, 1.2))
    image = image.clip(0, None) ** np.exp(rng.normal(0, camera["gamma"]))
    image = image + camera["noise"] * rng.standard_normal(image.shape, np.float32)
    grey = image.mean(-1, keepdims=True)
    image = grey + camera["saturation"] * (image - grey)
    return (255 * image).clip(0, 255).round().astype(np.uint8)


def _draw_light(camera: dict, rng: Generator) -> Array:
    spread, (direction, place, width) = camera["light"], camera["lamp"]
    slope, _ = rotate(PLANE, rng.uniform(0, 2 * np.pi))
    across, _ = rotate(PLANE, direction)
    far = (across - place - rng.normal(0, 0.5 * spread)) / width
    glow = camera["glow"] * rng.normal(1, spread) * np.exp(-(far**2))
    light = (1 + spread * rng.uniform(0, 1) * slope) * (1 + glow)
    return light * rng.normal(1, spread / 2)
