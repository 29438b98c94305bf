"""Augmentation of support images: rotated copies, made before they are resized."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

LARGEST_ANGLE = 345  # degrees, of SubspaceAD's random rotations


class Augment(NamedTuple):
    """Copies of each support image.

    kind: `none`, `rotations` by `count` equal steps of a turn (the image itself is the
    first of them), or `random_rotations`, the image and `count` copies.
    """

    kind: str = "none"
    count: int = 0

    @property
    def name(self) -> str:
        """Part of the names of files; empty without copies."""
        return "" if self.kind == "none" else f"_{self.kind}{self.count}"


def copies(
    image: np.ndarray, augment: Augment, key: Sequence[int] = ()
) -> list[np.ndarray]:
    """The copies of an image uint8 [H, W, 3], of the same shape, itself first.

    key: seeds the angles of random rotations; for a support image its run's seed,
    class and index, so that it has the same copies in every draw.
    """
    if augment.kind == "none":
        return [image]
    if augment.kind == "rotations":
        return [rotated(image, angle) for angle in equal_angles(augment.count)]
    angles = random_angles(augment.count, key)
    return [image, *(rotated_onto_black(image, angle) for angle in angles)]


def copies_number(augment: Augment) -> int:
    """Number of arrays that `copies` gives for one image."""
    kind, count = augment
    return {"none": 1, "rotations": count, "random_rotations": 1 + count}[kind]


def equal_angles(count: int) -> list[float]:
    """Degrees of `count` equal steps of a turn, from 0 on."""
    return [360 * step / count for step in range(count)]


def random_angles(count: int, key: Sequence[int]) -> list[float]:
    """Degrees of `count` rotations, uniform in 0 to 345."""
    return np.random.default_rng(key).uniform(0, LARGEST_ANGLE, count).tolist()


def rotated(image: np.ndarray, angle: float) -> np.ndarray:
    """Rotate about the centre on the same canvas, counter-clockwise by degrees.

    Bilinear, with the image mirrored at its edges. Source: AnomalyDINO (Damm et al.,
    WACV 2025), public code.
    """
    if angle == 0:
        return image
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    mirrored = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
    return cv2.warpAffine(image, matrix, (width, height), **mirrored)


def rotated_onto_black(image: np.ndarray, angle: float) -> np.ndarray:
    """Rotate about the centre on the same canvas, counter-clockwise by degrees.

    Nearest pixels, with black corners. Source: SubspaceAD, public code.
    """
    return np.asarray(Image.fromarray(image).rotate(angle, Image.Resampling.NEAREST))
