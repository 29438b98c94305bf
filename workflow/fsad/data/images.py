"""Image and mask files as square uint8 arrays."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from fsad.artifacts.files import atomic
from fsad.data.layouts import Sample
from fsad.errors import UserError

SIXTEEN_BIT = ("I;16", "I;16B", "I;16L")
THIRTY_TWO_BIT = ("I", "F")
# Modes of masks with values that are not colours: alpha, indices of a palette.
NOT_COLOUR = ("LA", "La", "PA", "RGBA", "RGBa", "P")


def load_images(
    samples: Sequence[Sample], size: int, threads: int
) -> dict[str, np.ndarray]:
    """Decode and resize images, `threads` at once.

    Returns `images` uint8 [N, size, size, 3] RGB, `labels` uint8 [N], `names` str [N].
    """
    images = np.empty((len(samples), size, size, 3), np.uint8)
    _fill(images, lambda s: square(read_image(s.path), size), samples, threads)
    return {
        "images": images,
        "labels": np.array([sample.label for sample in samples], np.uint8),
        "names": np.array([sample.name for sample in samples]),
    }


def load_masks(
    samples: Sequence[Sample], resolution: int, threads: int
) -> dict[str, np.ndarray]:
    """Decode and resize the masks of test images.

    Returns `masks` uint8 [N, resolution, resolution], 1 is defect, and `names` str [N].
    Raises UserError if a defect image has no mask, or one of another size than the
    image, or if no mask marks a pixel at this resolution.
    """
    masks = np.empty((len(samples), resolution, resolution), np.uint8)
    _fill(masks, lambda s: _load_mask(s, resolution), samples, threads)
    _check_kept(masks, samples)
    return {
        "masks": masks,
        "names": np.array([sample.name for sample in samples]),
    }


def _fill(array: np.ndarray, load: Callable, samples: Sequence, threads: int) -> None:
    """Load samples into rows of an array; a list of all would double the memory."""
    with ThreadPoolExecutor(threads) as pool:
        for index, loaded in enumerate(pool.map(load, samples)):
            array[index] = loaded


def _check_kept(masks: np.ndarray, samples: Sequence[Sample]) -> None:
    """Warn of defects too small for the resolution; UserError if all of them are."""
    marked = [m.any() for m, s in zip(masks, samples, strict=True) if s.label]
    resolution, lost = masks.shape[-1], marked.count(False)
    if marked and lost == len(marked):
        first = next(sample.mask for sample in samples if sample.label)
        raise UserError(
            f"{first}: like all masks of its class, marks no pixel at {resolution} x "
            f"{resolution}; raise `resolution`"
        )
    if lost:
        logging.warning(
            "%d of %d defects are too small for a pixel at %d x %d and count as good",
            *(lost, len(marked), resolution, resolution),
        )


def _load_mask(sample: Sample, resolution: int) -> np.ndarray:
    if sample.label == 0:
        return np.zeros((resolution, resolution), np.uint8)
    return resize_mask(defect_mask(sample), resolution)


def defect_mask(sample: Sample) -> np.ndarray:
    """Mask of a defect image, bool [H, W]; UserError if it is missing or unfit."""
    if sample.mask is None:
        raise UserError(
            f"{sample.path}: defect image without a mask; add its mask under "
            "ground_truth, or remove all masks of the class to skip seg"
        )
    mask = read_mask(sample.mask)
    if mask.shape != (expected := image_shape(sample.path)):
        raise UserError(
            f"{sample.mask}: mask is {mask.shape[1]}x{mask.shape[0]} pixels, its image "
            f"{expected[1]}x{expected[0]}; give the mask the size of the image"
        )
    if not mask.any():
        raise UserError(
            f"{sample.mask}: marks no pixel; draw the defect, or move {sample.path} "
            "to test/good"
        )
    return mask


def read_image(path: Path) -> np.ndarray:
    """Decode an image file, upright, to uint8 [H, W, 3] RGB."""
    image = _decoded(path)
    if image.mode in THIRTY_TWO_BIT:
        raise UserError(f"{path}: has 32-bit pixels; save it with 8 or 16 bits")
    if image.mode in SIXTEEN_BIT:
        image = _eight_bit(image)
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """Decode a mask file to bool [H, W]; any value above 0 is defect."""
    mask = _decoded(path)
    if mask.mode in NOT_COLOUR:
        mask = mask.convert("RGB")
    array = np.asarray(mask)
    return array.reshape(*array.shape[:2], -1).max(-1) > 0


def image_shape(path: Path) -> tuple[int, int]:
    """Height and width of an image, upright."""
    return _decoded(path).size[::-1]


def square(image: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 [H, W, 3] to [size, size, 3] without cropping, as masks are.

    An axis that shrinks is averaged over areas, one that grows is interpolated
    cubically.
    """
    height, width = image.shape[:2]
    if height > size or width > size:
        shrunk = min(width, size), min(height, size)
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
    if height < size or width < size:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
    return image


def resize_mask(mask: np.ndarray, resolution: int) -> np.ndarray:
    """Nearest-neighbour resize of a bool mask [H, W] to uint8 [resolution]*2."""
    shape = (resolution, resolution)
    return cv2.resize(mask.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST)


def write_image(path: Path, array: np.ndarray) -> None:
    """Write uint8 [H, W, 3] RGB, or float32 [H, W] (.tiff), atomically."""
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(path.suffix, array)
    with atomic(path) as temporary:
        temporary.write_bytes(encoded)


def _decoded(path: Path) -> Image.Image:
    with _named_errors(path), Image.open(path) as image:
        image.load()
        return ImageOps.exif_transpose(image)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn Pillow's errors for unreadable files into a UserError with the path."""
    try:
        yield
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path}: cannot be read as an image ({error}); replace the file"
        ) from error


def _eight_bit(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image, np.uint32) >> 8).astype(np.uint8))
