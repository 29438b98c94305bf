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

from fsad.demo.drawing import Array, rotate, shift, visible_change
from fsad.demo.scene_defects import DEFECTS, Defect, Part
from fsad.demo.scene_shapes import SHAPES, SIDE, emboss, random_fold
from fsad.demo.scene_textures import (
    MATERIALS,
    Field,
    Maker,
    choose,
    plain,
    random_colour,
    random_material,
)

SPECK = 12  # defective pixels below which another defect is drawn
TRIES = 6


class Lamp(NamedTuple):
    """A bright or dark stripe: direction, place, width and gain of its glow."""

    direction: float
    place: float
    width: float
    gain: float


class Camera(NamedTuple):
    """Conditions of all photographs of a design.

    turn, shift, light: spread of angles, places and light. lamp: see `Lamp`. blur,
    noise, saturation: of every photograph. gamma: spread of the logarithmic gamma.
    """

    turn: float
    shift: float
    light: float
    lamp: Lamp
    blur: float
    noise: float
    saturation: float
    gamma: float


class Layer(NamedTuple):
    """A shape, by its signed distance, with its material and bevel."""

    distance: Field
    material: Maker
    height: float
    bevel: float


class Design(NamedTuple):
    """A kind of part.

    layers: from the body of the part up; empty if the part is the ground itself.
    """

    noun: str
    ground: Maker
    layers: list[Layer]
    camera: Camera


class Episode(NamedTuple):
    """Three photographs of parts of one design, the third one defective.

    images: uint8 [3, SIDE, SIDE, 3] RGB. mask: of the defect, uint8 [SIDE, SIDE], 0 or
    255. noun, defect: the words for both.
    """

    images: Array
    mask: Array
    noun: str
    defect: str


def draw_episode(seed: int) -> Episode:
    """Episode of a seed, always the same."""
    rng = default_rng([seed, SIDE])
    design = _draw_design(rng)
    defect = rng.integers(len(DEFECTS))
    seeds = rng.integers(2**62, size=3)
    normal = [_normal_image(design, seed) for seed in seeds[:2]]
    defective, mask = _defective_image(design, list(DEFECTS)[defect], seeds[2])
    words = str(rng.choice(list(DEFECTS.values())[defect]))
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
    shape = choose(rng, list(SHAPES))
    size = rng.uniform(0.5, 1.0)
    body = shape(rng, size)
    layers = [_draw_layer(rng, body, (-0.5, 1.2), (0.03, 0.15))]
    for _ in range(rng.integers(0, 5)):
        detail = _draw_detail(rng, body, size)
        layers.append(_draw_layer(rng, detail, (-1.2, 1.2), (0.02, 0.08)))
    noun = str(rng.choice(SHAPES[shape]))
    return Design(noun, ground, layers, _draw_camera(rng, [0.03, 0.03, 0.15, np.pi]))


def _draw_camera(rng: Generator, turns: list[float]) -> Camera:
    return Camera(
        turn=rng.choice(turns),
        shift=rng.uniform(0.01, 0.08),
        light=rng.choice([0.05, 0.2, 0.3]),
        lamp=_draw_lamp(rng),
        blur=rng.uniform(0.3, 0.9),
        noise=rng.choice([0.004, 0.015, 0.03]),
        saturation=rng.choice([0, 0, 0.3, 1]),
        gamma=rng.choice([0, 0.1, 0.3]),
    )


def _draw_lamp(rng: Generator) -> Lamp:
    gain = rng.choice([0, rng.uniform(-0.7, 1.2)])
    direction, place = rng.uniform(0, np.pi), rng.uniform(-1, 1)
    return Lamp(direction, place, rng.uniform(0.2, 1), gain)


def _draw_layer(
    rng: Generator,
    distance: Field,
    heights: tuple[float, float],
    bevels: tuple[float, float],
) -> Layer:
    height = rng.uniform(*heights) * rng.integers(0, 2)
    return Layer(distance, random_material(rng)[0], height, rng.uniform(*bevels))


def _draw_detail(rng: Generator, body: Field, size: float) -> Field:
    """Signed distance to a smaller shape within the body, in one or several copies."""
    shape = choose(rng, list(SHAPES))(rng, size * rng.uniform(0.06, 0.6))
    fold, angle = random_fold(rng, size), rng.uniform(0, 2 * np.pi)
    return lambda p: np.maximum(shape(fold(rotate(p, angle))), body(p) + 0.01)


def _normal_image(design: Design, seed: int) -> Array:
    pose, part, exposure, _ = _generators(seed)
    plane = _draw_pose(design.camera, pose)
    return _expose(_painter(design, part)(plane), design.camera, exposure)


def _defective_image(design: Design, defect: Defect, seed: int) -> tuple[Array, Array]:
    """Photograph with a defect, and its mask; drawn again if it is hardly visible."""
    for attempt in range(TRIES):
        pose, part, exposure, damage = _generators(seed + attempt)
        plane, paint = _draw_pose(design.camera, pose), _painter(design, part)
        body = design.layers[0].distance if design.layers else None
        scene = defect(Part(paint, body, design.ground), plane, damage)
        after = _expose(scene, design.camera, exposure)
        before = _expose(paint(plane), design.camera, _generators(seed + attempt)[2])
        image, mask = visible_change(before, after)
        if np.count_nonzero(mask) >= SPECK:
            break
    return image, mask


def _generators(seed: int) -> list[Generator]:
    """Generators of the pose, the part, the exposure and the defect of a photograph."""
    return [default_rng(s) for s in default_rng(seed).integers(2**62, size=4)]


def _painter(design: Design, rng: Generator) -> Field:
    """Part of a design, as a function of a plane to a scene."""
    ground = design.ground(rng)
    layers = [(layer, layer.material(rng)) for layer in design.layers]

    def paint(plane: Array) -> Array:
        scene = ground(plane)
        for layer, material in layers:
            distance, over = layer.distance(plane), material(plane)
            bevel = {"height": layer.height, "width": layer.bevel}
            scene = emboss(scene, distance, over, **bevel)
        return scene

    return paint


def _image_plane() -> Array:
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32)
    return np.stack([x, y])


def _draw_pose(camera: Camera, rng: Generator) -> Array:
    """Plane of a part at a random place, scale and angle."""
    plane = shift(_image_plane(), *rng.uniform(-camera.shift, camera.shift, 2))
    scale = rng.uniform(1 - camera.shift, 1 + camera.shift)
    return rotate(plane / scale, rng.uniform(-camera.turn, camera.turn))


def _expose(scene: Array, camera: Camera, rng: Generator) -> Array:
    """Image uint8 of a scene under random light, by a camera."""
    lit = np.float32(scene * _light(camera, rng)[..., None] * rng.normal(1, 0.02, 3))
    image = cv2.GaussianBlur(lit, (0, 0), camera.blur * rng.uniform(0.8, 1.2))
    image = image.clip(0, None) ** np.exp(rng.normal(0, camera.gamma))
    image = image + camera.noise * rng.standard_normal(image.shape, np.float32)
    grey = image.mean(-1, keepdims=True)
    image = grey + camera.saturation * (image - grey)
    return (255 * image).clip(0, 255).round().astype(np.uint8)


def _light(camera: Camera, rng: Generator) -> Array:
    slope, _ = rotate(_image_plane(), rng.uniform(0, 2 * np.pi))
    direction, place, width, gain = camera.lamp
    across, _ = rotate(_image_plane(), direction)
    far = (across - place - rng.normal(0, 0.5 * camera.light)) / width
    glow = gain * rng.normal(1, camera.light) * np.exp(-(far**2))
    light = (1 + camera.light * rng.uniform(0, 1) * slope) * (1 + glow)
    return light * rng.normal(1, camera.light / 2)
