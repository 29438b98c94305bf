"""Cached images and masks of a class, decoded and resized once."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fsad.artifacts.files import is_whole, read_npz, write_npz
from fsad.artifacts.provenance import with_provenance
from fsad.artifacts.sources import Source
from fsad.data.augment import Augment, copies
from fsad.data.faults import Look, comparison_faults
from fsad.data.groups import stacked
from fsad.data.images import load_images, load_masks, warn
from fsad.data.layouts import ClassFiles, Sample
from fsad.data.support import named_support
from fsad.data.views import View, resized
from fsad.errors import UserError


def write_class(
    files: ClassFiles,
    test: Sequence[Source],
    support: Sequence[Source],
    threads: int,
) -> None:
    """Write the test images and support images of a class, unless they are as planned.

    test: one for each view. support: for each seed, view and kind of copies. Reasons to
    doubt images are logged, and stored as `notes`. Support images are written again
    with the test images, since test images should be none of them, and of the aspect of
    one.
    """
    missing = [source for source in test if not is_whole(*source)]
    views = [View(**source.record["view"]) for source in missing]
    made = load_test(files.test, views, threads) if missing else []
    for source, arrays in zip(missing, made, strict=True):
        _write(source, arrays)
    tested = looks(files.test, read_npz(test[0].path, *LOOKS))
    for source in support:
        if missing or not is_whole(*source):
            samples = named_support(
                files.train, [n for n, _ in source.record["images"]]
            )
            arrays = load_support(samples, source.record, threads)
            notes = warn(comparison_faults(looks(samples, arrays), tested))
            arrays["notes"] = np.append(arrays["notes"], notes)
            _write(source, arrays)


def load_test(
    samples: Sequence[Sample], views: Sequence[View], threads: int
) -> list[dict[str, np.ndarray]]:
    """Decode test images once for several views; `images` as in `groups`, and others of
    `load_images`, for each."""
    places = [_places(len(samples), view) for view in views]

    def put(row: int, image: np.ndarray) -> None:
        for place, view in zip(places, views, strict=True):
            place[row] = resized(image, view)

    shared = load_images(samples, put, threads)
    stacks = (
        {"images": place} if view.fit == "square" else stacked(place, "images", shape)
        for place, view, shape in zip(places, views, map(_shape, views), strict=True)
    )
    return [images | shared for images in stacks]


def _places(count: int, view: View) -> np.ndarray | list:
    """Where images of a view go: squares into one array, which holds none twice."""
    is_square = view.fit == "square"
    return np.empty((count, *_shape(view)), np.uint8) if is_square else [None] * count


def _shape(view: View) -> tuple[int, int, int]:
    return view.size, view.size, 3


def load_support(
    samples: Sequence[Sample], record: Mapping, threads: int
) -> dict[str, np.ndarray]:
    """Decode support images and make copies of them.

    record: of stage `support`, with seed, class, view and augment. Returns `images`
    [k, c, H, W, 3], c copies of each, and others of `load_images`. Raises UserError if
    they are of several shapes.
    """
    view, augment = View(**record["view"]), Augment(**record["augment"])
    key = random_key(record["seed"], record["class"])
    images = [None] * len(samples)

    def put(row: int, image: np.ndarray) -> None:
        made = copies(image, augment, (*key, row))
        images[row] = np.stack([resized(copy, view) for copy in made])

    shared = load_images(samples, put, threads)
    if len({image.shape for image in images}) > 1:
        raise UserError(
            "fit: edge: the support images of a class must be of one shape; name such "
            "by `support` of its overrides, or take `fit: square`"
        )
    return stacked(images, "images") | shared


def random_key(seed: int, class_name: str) -> tuple[int, int]:
    """Key of random numbers of a draw of a class."""
    return seed, zlib.crc32(class_name.encode())


LOOKS = ("shapes", "depths", "digests")


def looks(
    samples: Sequence[Sample], arrays: Mapping[str, np.ndarray]
) -> dict[Path, Look]:
    """How the images of `load_images` look, by file."""
    found = zip(samples, *(arrays[name].tolist() for name in LOOKS), strict=True)
    return {s.path: Look(tuple(shape), *others) for s, shape, *others in found}


def _write(target: Source, arrays: Mapping[str, np.ndarray]) -> None:
    write_npz(target.path, arrays, with_provenance(target.record))


def write_masks(target: Source, samples: Sequence[Sample], threads: int) -> None:
    """Write the masks of test images at the resolution of the record."""
    _write(target, load_masks(samples, target.record["resolution"], threads))
