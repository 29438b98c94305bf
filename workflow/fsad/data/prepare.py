"""Cached images and masks of a class, decoded and resized once."""

from collections.abc import Sequence
from pathlib import Path

from fsad.artifacts.files import is_whole, read_npz, write_npz
from fsad.artifacts.provenance import with_provenance
from fsad.artifacts.sources import Source
from fsad.data.decode import image_shape
from fsad.data.faults import Look, pixel_digest, set_faults
from fsad.data.images import load_images, load_masks, warn
from fsad.data.layouts import ClassFiles, Sample
from fsad.data.support import named_support


def write_class(
    files: ClassFiles, test: Source, support: Sequence[Source], threads: int
) -> None:
    """Write the test images and support images of a class, and log reasons to doubt.

    Test images should not be support images, and be of the aspect of one.
    """
    write_images(test, files.test, threads)
    learned = {}
    for target in support:
        names = [name for name, _ in target.record["images"]]
        samples = named_support(files.train, names)
        write_images(target, samples, threads)
        learned |= _looks(target.path, samples)
    warn(set_faults(learned, _looks(test.path, files.test)))


def _looks(path: str | Path, samples: Sequence[Sample]) -> dict[Path, Look]:
    images = read_npz(path, "images")["images"]
    return {
        sample.path: Look(image_shape(sample.path), 0, pixel_digest(image))
        for sample, image in zip(samples, images, strict=True)
    }


def write_images(target: Source, samples: Sequence[Sample], threads: int) -> None:
    """Write images at the size of the record, unless they exist as planned."""
    path, record = target
    if not is_whole(path, record):
        arrays = load_images(samples, record["size"], threads)
        write_npz(path, arrays, with_provenance(record))


def write_masks(target: Source, samples: Sequence[Sample], threads: int) -> None:
    """Write the masks of test images at the resolution of the record."""
    path, record = target
    arrays = load_masks(samples, record["resolution"], threads)
    write_npz(path, arrays, with_provenance(record))
