"""Cached images and masks of a class, decoded and resized once."""

from collections.abc import Sequence

from fsad.artifacts.files import is_whole, write_npz
from fsad.artifacts.provenance import with_provenance
from fsad.artifacts.sources import Source
from fsad.data.images import load_images, load_masks
from fsad.data.layouts import Sample


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
