"""Images and masks of a class as uint8 arrays."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from fsad.artifacts.files import replaced
from fsad.data.decode import decode, open_upright
from fsad.data.faults import (
    Fault,
    FileError,
    Look,
    grouped,
    image_faults,
    pixel_digest,
    short_name,
    twin_faults,
)
from fsad.data.groups import in_order, stacked
from fsad.data.layouts import NO_MASK, Sample
from fsad.data.masks import RAW, checked_mask
from fsad.data.region import check_region, ignored_outside
from fsad.data.views import area_or_cubic

COMPARED = 240  # about the side of networks; images equal at this size are equal


def load_images(
    samples: Sequence[Sample], put: Callable[[int, np.ndarray], None], threads: int
) -> dict[str, np.ndarray]:
    """Decode images, `threads` at once, and log reasons to doubt them.

    put: takes the row and the decoded image, uint8 [H, W, 3], of each. Returns `labels`
    uint8 [N], `names` str [N], `shapes` int32 [N, 2], `depths` uint8 [N], see `decode`,
    `digests` str [N] of pixels, and the reasons, see `warn`, as `notes`.
    """

    def load(row: int) -> tuple[Look, list[Fault]]:
        image, look, faults = look_at(samples[row].path)
        put(row, image)
        return look, faults

    with ThreadPoolExecutor(threads) as pool:
        found = [*pool.map(load, range(len(samples)))]
    looks = [look for look, _ in found]
    doubts = [fault for _, faults in found for fault in faults]
    by_file = dict(zip((sample.path for sample in samples), looks, strict=True))
    return {
        **_described(looks),
        "labels": np.array([sample.label for sample in samples], np.uint8),
        "names": np.array([sample.name for sample in samples], str),
        "notes": warn(doubts + twin_faults(by_file)),
    }


def _described(looks: Sequence[Look]) -> dict[str, np.ndarray]:
    shapes = np.array([look.shape for look in looks], np.int32)
    return {
        "shapes": shapes.reshape(-1, 2),
        "depths": np.array([look.depth for look in looks], np.uint8),
        "digests": np.array([look.digest for look in looks], str),
    }


def look_at(path: Path) -> tuple[np.ndarray, Look, list[Fault]]:
    """Decode an image to uint8 [H, W, 3], with what can be doubted about it."""
    image, depth = decode(path)
    look = Look(image.shape[:2], depth, pixel_digest(square(image, COMPARED)))
    return image, look, [(path, why) for why in image_faults(image)]


def load_masks(
    samples: Sequence[Sample],
    resolution: int | str,
    threads: int,
    region: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Decode and resize the masks of test images, and log reasons to doubt them.

    resolution: side that masks are resized to, or RAW for the size of each image.
    Returns `masks` uint8 [N, resolution, resolution], 1 is defect, or at RAW as in
    `groups`; also `names` str [N] and the reasons, see `warn`, as `notes`. Raises
    UserError if a defect image has no mask, or one of another size than the image, or
    if no mask marks a pixel at this resolution. region: of interest, bool of the shape
    of all images; pixels outside do not count.
    """
    load = partial(_load_mask, resolution=resolution, region=region)
    if resolution == RAW:
        masks = [None] * len(samples)
    else:
        masks = np.empty((len(samples), resolution, resolution), np.uint8)
    found = _fill(masks, load, samples, threads)
    if resolution != RAW or region is not None:
        found += _lost(masks, samples, region is not None)
    arrays = {"masks": masks}
    if resolution == RAW:
        arrays = stacked([{"masks": mask} for mask in masks], {"masks": (1, 1)})
    names = np.array([sample.name for sample in samples], str)
    return {**arrays, "names": names, "notes": warn(found)}


def masks_in_order(
    arrays: Mapping[str, np.ndarray], resolution: int | str
) -> np.ndarray | list[np.ndarray]:
    """Masks of `load_masks`, uint8 [N, resolution, resolution], or at RAW a list."""
    return in_order(arrays, "masks") if resolution == RAW else arrays["masks"]


def _fill(
    array: np.ndarray | list, load: Callable, samples: Sequence, threads: int
) -> list[Fault]:
    """Load samples into rows of an array; a list of all would double the memory.

    load: returns the row and faults of a sample. Returns all faults.
    """
    found = []
    with ThreadPoolExecutor(threads) as pool:
        for index, (loaded, own) in enumerate(pool.map(load, samples)):
            array[index] = loaded
            found += own
    return found


def warn(found: Sequence[Fault]) -> np.ndarray:
    """Log one warning for each kind of fault; return them with short names, str [n]."""
    for line in grouped(found):
        logging.warning(line)
    return np.array(grouped(found, short_name), str)


def _lost(
    masks: Sequence[np.ndarray], samples: Sequence[Sample], in_region: bool
) -> list[Fault]:
    """Faults of defects too small for the resolution, or outside the region; UserError
    if all of them are."""
    defects = [(m, s.mask) for m, s in zip(masks, samples, strict=True) if s.label]
    lost = [(mask.shape, path) for mask, path in defects if not (mask == 1).any()]
    sizes = [" x ".join(map(str, shape)) + " in `roi`" * in_region for shape, _ in lost]
    paths = [path for _, path in lost]
    if lost and len(lost) == len(defects):
        remedy = "widen `roi`, or " * in_region + "raise `resolution`"
        why = f"like all masks of its class, marks no pixel at {sizes[0]}; {remedy}"
        raise FileError(paths[0], why)
    why = (f"marks no pixel at {size}, and counts as good" for size in sizes)
    return [*zip(paths, why, strict=True)]


def _load_mask(
    sample: Sample, resolution: int | str, region: np.ndarray | None
) -> tuple[np.ndarray, list[Fault]]:
    if region is None and resolution != RAW and not (sample.label or sample.mask):
        return np.zeros((resolution, resolution), np.uint8), []
    mask, found = _own_mask(sample)
    if region is not None:
        check_region(region, sample.path, mask.shape)
    mask = mask if resolution == RAW else resize_mask(mask, resolution)
    return mask if region is None else ignored_outside(mask, region), found


def _own_mask(sample: Sample) -> tuple[np.ndarray, list[Fault]]:
    """The mask of an image, uint8 of its size, blank for a good image."""
    if sample.label and not sample.mask:
        raise FileError(sample.path, NO_MASK)
    shape = open_upright(sample.path).size[::-1]
    if not sample.mask:
        return np.zeros(shape, np.uint8), []
    mask, found = checked_mask(sample, shape)
    return mask.astype(np.uint8), found


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file, upright, to uint8 [H, W, 3] RGB.

    Raises UserError for any file of which that is not possible. See `decode`.
    """
    return decode(Path(path))[0]


def square(image: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 [H, W, 3] to [size, size, 3] without cropping, as masks are.

    See `views.area_or_cubic`.
    """
    return area_or_cubic(image, (size, size))


def resize_mask(mask: np.ndarray, resolution: int) -> np.ndarray:
    """Nearest-neighbour resize of a mask [H, W] to uint8 [resolution]*2."""
    shape = (resolution, resolution)
    return cv2.resize(mask.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST)


def write_image(path: Path, array: np.ndarray) -> None:
    """Write uint8 [H, W, 3] RGB, or float32 [H, W] (.tiff), see `files.replaced`."""
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(path.suffix, array)
    with replaced(path) as temporary:
        temporary.write_bytes(encoded)
