"""Regions of interest: the part of the images of a class that is looked at."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fsad.data.faults import FileError
from fsad.data.masks import IGNORED, image_values, marked


def read_region(path: str | Path) -> np.ndarray:
    """Read a region from an image in which it is white, bool [H, W].

    Raises UserError if the file cannot be read or the region is empty.
    """
    path = Path(path)
    region = marked(image_values(path))
    if not region.any():
        raise FileError(path, "the region of interest covers nothing; paint it white")
    return region


def check_region(region: np.ndarray, image: str | Path, shape: Sequence[int]) -> None:
    """Raise UserError unless a region has the shape of an image, which is named."""
    if region.shape != tuple(shape):
        (height, width), (rows, columns) = region.shape, shape
        raise FileError(
            Path(image),
            f"is {columns}x{rows} pixels, the region of interest (`roi`) "
            f"{width}x{height}; draw it on an image of this class, or resize the image",
        )


def without_outside(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """An image uint8 [H, W, 3] whose pixels outside have the mean colour of those
    inside, so that nothing outside is seen, and no edge is added."""
    colour = image[region].mean(0).round().astype(np.uint8)
    return np.where(region[..., None], image, colour)


def as_image(region: np.ndarray) -> np.ndarray:
    """A region as a white area on black, uint8 [H, W, 3]."""
    return np.repeat(region[..., None] * np.uint8(255), 3, 2)


def resized_region(region: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour resize of a region to height and width, bool."""
    nearest = {"interpolation": cv2.INTER_NEAREST}
    return cv2.resize(region.astype(np.uint8), shape[::-1], **nearest) > 0


def ignored_outside(mask: np.ndarray, region: np.ndarray) -> np.ndarray:
    """A mask uint8 [R, S] whose pixels outside a region do not count."""
    return np.where(resized_region(region, mask.shape), mask, np.uint8(IGNORED))
