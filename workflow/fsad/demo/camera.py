"""The camera of the demo: the pose of a part, the light, the lens and the sensor."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from fsad.demo.drawing import Array, rotate, shift


class Exposure(NamedTuple):
    """Light [H, W, 3], sigma of the lens's blur in pixels, sensor noise [H, W, 3]."""

    light: Array
    blur: float
    noise: Array

    def within(self, window: tuple[slice, slice]) -> "Exposure":
        """The exposure of a part of the image."""
        return self._replace(light=self.light[window], noise=self.noise[window])


def draw_pose(shape: tuple[int, int], largest_turn: float, rng: Generator) -> Array:
    """Plane of a part at a random place, scale and angle, float32 [2, H, W].

    largest_turn: in radians.
    """
    x, y = np.indices(shape, np.float32)[::-1]
    centre = np.array([shape[1] - 1, shape[0] - 1]) / 2 + rng.uniform(-4, 4, 2)
    plane = shift((x, y), *centre) / rng.uniform(0.96, 1.04)
    return rotate(plane, rng.uniform(-largest_turn, largest_turn))


def draw_exposure(shape: tuple[int, int], rng: Generator, dtype=np.float64) -> Exposure:
    """Uneven tinted light, a soft lens and a noisy sensor, for images of this shape.

    dtype: of the light, and so of the computation.
    """
    height, width = shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(dtype)
    slope, _ = rotate((x, y), rng.uniform(0, 2 * np.pi))
    falloff = 1 + rng.uniform(0.1, 0.25) * slope - 0.05 * (x**2 + y**2)
    brightness = falloff * rng.uniform(0.65, 1.1)
    light = brightness.astype(dtype)[..., None] * rng.normal(1, 0.03, 3).astype(dtype)
    blur, contrast = rng.uniform(0.4, 0.9), rng.uniform(0.01, 0.02)
    noise = contrast * rng.standard_normal((*shape, 3), np.float32)
    return Exposure(light, blur, noise)


def expose(scene: Array, exposure: Exposure) -> Array:
    """Photograph uint8 [H, W, 3] of a scene."""
    image = cv2.GaussianBlur(scene * exposure.light, (0, 0), exposure.blur)
    image += exposure.noise
    return (255 * image).clip(0, 255).round().astype(np.uint8)
