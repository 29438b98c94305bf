"""Cached images and masks of a class, decoded and resized once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fsad.artifacts.files import is_whole, read_npz, write_npz
from fsad.artifacts.provenance import with_provenance
from fsad.artifacts.sources import Source
from fsad.data.faults import Look, comparison_faults, pixel_digest
from fsad.data.images import load_images, load_masks, warn
from fsad.data.layouts import ClassFiles, Sample
from fsad.data.support import named_support


def write_class(
    files: ClassFiles, test: Source, support: Sequence[Source], threads: int
) -> None:
    """Write the test images and support images of a class, unless they are as planned.

    Reasons to doubt them are logged, and stored as `notes`. Support images are written
    again with the test images, since test images should be none of them, and of the
    aspect of one.
    """
    is_new = not is_whole(*test)
    if is_new:
        _write(test, load_images(files.test, test.record["size"], threads))
    tested = looks(files.test, read_npz(test.path))
    for target in support:
        if is_new or not is_whole(*target):
            names = [name for name, _ in target.record["images"]]
            samples = named_support(files.train, names)
            arrays = load_images(samples, target.record["size"], threads)
            notes = warn(comparison_faults(looks(samples, arrays), tested))
            _write(target, arrays | {"notes": np.append(arrays["notes"], notes)})


def looks(
    samples: Sequence[Sample], arrays: Mapping[str, np.ndarray]
) -> dict[Path, Look]:
    """How the images of `load_images` look, by file."""
    shapes, depths = (arrays[name].tolist() for name in ("shapes", "depths"))
    found = zip(samples, shapes, depths, arrays["images"], strict=True)
    return {
        sample.path: Look(tuple(shape), depth, pixel_digest(image))
        for sample, shape, depth, image in found
    }


def _write(target: Source, arrays: Mapping[str, np.ndarray]) -> None:
    write_npz(target.path, arrays, with_provenance(target.record))


def write_masks(target: Source, samples: Sequence[Sample], threads: int) -> None:
    """Write the masks of test images at the resolution of the record."""
    _write(target, load_masks(samples, target.record["resolution"], threads))
