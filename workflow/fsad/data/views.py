"""Views: the geometry in which a backbone sees an image."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image


class View(NamedTuple):
    """Size and resampling of images.

    fit: `square` resizes to `size` x `size` and does not keep the aspect ratio, `edge`
    resizes the shorter edge to `size` and keeps it. size: in pixels. filter: `area`
    averages over areas where an axis shrinks and interpolates cubically where it grows
    (OpenCV), `bicubic` is Pillow's, with which the published numbers of AnomalyDINO
    and SubspaceAD were made.

    An image may be cut into tiles of the size of the view. grid: rows and columns of
    tiles, into which the resized image is cut. tile: side of a tile in pixels of the
    image, each of which is resized. overlap: share of a tile that the next one covers
    too. whole: whether the whole image is seen as well.
    """

    fit: str
    size: int
    filter: str = "area"
    grid: Sequence[int] | None = None
    tile: int | None = None
    overlap: float = 0.0
    whole: bool = False

    @property
    def is_tiled(self) -> bool:
        """Whether images are cut into tiles."""
        return self.grid is not None or self.tile is not None

    def of_whole(self) -> "View":
        """The view of the same size without tiles."""
        return View(*self[:3])

    @property
    def name(self) -> str:
        """Part of the names of files."""
        side = "px" if self.fit == "square" else self.fit
        resampling = "" if self.filter == "area" else f"_{self.filter}"
        return f"{side}{self.size}{resampling}{self.tiles_name}"

    @property
    def tiles_name(self) -> str:
        """Part of the names of files, empty without tiles."""
        if not self.is_tiled:
            return ""
        cut = "{}x{}".format(*self.grid) if self.grid else self.tile
        overlap = f"o{self.overlap:g}" if self.overlap else ""
        return f"_tiles{cut}{overlap}{'_whole' if self.whole else ''}"


def resized(image: np.ndarray, view: View) -> np.ndarray:
    """Resize uint8 [H, W, 3] without cropping, see `view_shape`."""
    return resampled(image, view_shape(image.shape[:2], view), view.filter)


def resampled(image: np.ndarray, shape: tuple[int, int], how: str) -> np.ndarray:
    """Resize uint8 [H, W, 3] to a height and width; how: the filter of a view."""
    if how == "area":
        return area_or_cubic(image, shape)
    pixels = Image.fromarray(image).resize(shape[::-1], Image.Resampling.BICUBIC)
    return np.asarray(pixels)


def view_shape(shape: tuple[int, int], view: View) -> tuple[int, int]:
    """Height and width of an image of this height and width in a view.

    The longer edge is rounded down, as torchvision does it.
    """
    if view.fit == "square":
        return view.size, view.size
    height, width = (view.size * edge // min(shape) for edge in shape)
    return height, width


def area_or_cubic(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize uint8 [H, W, 3] to a height and width.

    An axis that shrinks is averaged over areas, one that grows is interpolated
    cubically.
    """
    shrunk = tuple(map(min, image.shape[:2], shape))
    if shrunk != image.shape[:2]:
        image = cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != shape:
        image = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return image
