"""Materials of the demo's parts: colours, noise and shading of scenes.

Lengths and sigmas are in pixels.
"""

import cv2
import numpy as np
from numpy.random import Generator

from fsad.demo.drawing import Array, Colour, blend, coverage, relief

BLACK, STEEL, FOIL = (0.06, 0.06, 0.07), (0.6, 0.61, 0.63), (0.66, 0.68, 0.7)
RUBBER, SHADE, BEIGE = (0.16, 0.17, 0.18), (0.3, 0.32, 0.35), (0.66, 0.64, 0.6)
SLATE, BLUE, GREY = (0.2, 0.24, 0.28), (0.36, 0.5, 0.68), (0.62, 0.68, 0.74)
CREAM, COFFEE, RUST = (0.9, 0.86, 0.76), (0.3, 0.2, 0.1), (0.42, 0.2, 0.08)
GREASE, ORANGE = (0.75, 0.62, 0.25), (0.86, 0.62, 0.5)


def smooth_noise(
    shape: tuple, rng: Generator, sigma: float, sigma_y: float = 0
) -> Array:
    """Blurred noise of unit variance; a `sigma_y` of 0 stands for `sigma`."""
    white = rng.standard_normal(shape, np.float32)
    noise = cv2.GaussianBlur(white, (0, 0), sigmaX=sigma, sigmaY=sigma_y)
    return noise / noise.std()


def surface(plane: Array, colour: Colour, rng: Generator, *noise: float) -> Array:
    """Scene of one colour with smooth noise, by its contrast and sigma."""
    contrast, sigma = noise
    values = contrast * smooth_noise(plane.shape[1:], rng, sigma)
    return np.float32(colour) * (1 + values)[..., None]


def shade(scene: Array, shading: Array) -> Array:
    """Scene with its reflectance changed by a share of it, [H, W]."""
    return scene * (1 + shading[..., None])


def cast_shadow(scene: Array, shape: Array) -> Array:
    """Scene with the soft shadow of a shape to its lower right."""
    shadow = np.pad(cv2.GaussianBlur(shape, (0, 0), 4), ((4, 0), (4, 0)))[:-4, :-4]
    return shade(scene, -0.5 * shadow)


def emboss(scene: Array, distance: Array, over: Colour, height: float) -> Array:
    """Scene with a bevelled shape on it, or sunk into it if `height` is negative."""
    bevel = relief((-distance / 5).clip(0, 1))
    return shade(blend(scene, coverage(distance), over), height * bevel)


def batch_tint(rng: Generator) -> Array:
    """Variation of a material's colour between production batches, [3]."""
    return rng.uniform(0.7, 1.2) * rng.normal(1, 0.05, 3)
