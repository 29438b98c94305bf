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
from fsad.data.region import as_image, check_region, without_outside
from fsad.data.support import named_support
from fsad.data.tiles import INSIDE, insides, pictures
from fsad.data.views import View
from fsad.errors import UserError

REGION = "region"  # of a class, among the arrays of its support images


def write_class(
    files: ClassFiles,
    test: Sequence[Source],
    support: Sequence[Source],
    threads: int,
    region: np.ndarray | None = None,
) -> None:
    """Write the test images and support images of a class, unless they are as planned.

    test: one for each view. support: for each seed, view and kind of copies. Reasons to
    doubt images are logged, and stored as `notes`. Support images are written again
    with the test images, since test images should be none of them, and of the aspect of
    one. region: of interest, bool of the shape of all images, see `region`.
    """
    missing = [source for source in test if not is_whole(*source)]
    views = [View(**source.record["view"]) for source in missing]
    made = load_test(files.test, views, threads, region) if missing else []
    for source, arrays in zip(missing, made, strict=True):
        _write(source, arrays)
    tested = looks(files.test, read_npz(test[0].path, *LOOKS))
    for source in support:
        if missing or not is_whole(*source):
            samples = named_support(
                files.train, [n for n, _ in source.record["images"]]
            )
            arrays = load_support(samples, source.record, threads, region)
            notes = warn(comparison_faults(looks(samples, arrays), tested))
            arrays["notes"] = np.append(arrays["notes"], notes)
            _write(source, arrays)


def write_tiled(
    files: ClassFiles, target: Source, threads: int, region: np.ndarray | None = None
) -> None:
    """Write test images or support images of a class as tiles, unless they are as
    planned. region: see `write_class`."""
    record = target.record
    if is_whole(*target):
        return
    if record["stage"] == "images":
        (arrays,) = load_test(files.test, [View(**record["view"])], threads, region)
    else:
        samples = named_support(files.train, [name for name, _ in record["images"]])
        arrays = load_support(samples, record, threads, region)
    _write(target, arrays)


def load_test(
    samples: Sequence[Sample],
    views: Sequence[View],
    threads: int,
    region: np.ndarray | None = None,
) -> list[dict[str, np.ndarray]]:
    """Decode test images once for several views.

    region: see `write_class`. Returns for each view what `tiles.pictures` gives, and
    `insides` of the region, as in `groups`, and others of `load_images`.
    """
    marked = [_seen_region(region, view) for view in views]
    empty = [_shapes(*pair) for pair in zip(views, marked, strict=True)]
    places = [_places(len(samples), *x) for x in zip(views, empty, strict=True)]

    def put(row: int, image: np.ndarray) -> None:
        image = _inside(image, region, samples[row])
        for place, view, inside in zip(places, views, marked, strict=True):
            _put(place, row, pictures(image, view) | inside)

    shared = load_images(samples, put, threads)
    stacks = (
        place if isinstance(place, dict) else stacked(place, shapes)
        for place, shapes in zip(places, empty, strict=True)
    )
    return [images | shared for images in stacks]


def _places(count: int, view: View, shapes: Mapping[str, tuple]) -> dict | list:
    """Where images of a view go: of one shape into arrays, which hold none twice."""
    if view.fit == "edge" or view.tile is not None:
        return [None] * count
    return {n: np.empty((count, *shape), np.uint8) for n, shape in shapes.items()}


def _shapes(view: View, marked: Mapping[str, np.ndarray]) -> dict[str, tuple]:
    """Shapes of what is seen of a square image, with a region if one is marked."""
    image = np.zeros((view.size, view.size, 3), np.uint8)
    seen = pictures(image, view) | (insides(image, view) if marked else {})
    return {name: array.shape for name, array in seen.items()}


def _seen_region(region: np.ndarray | None, view: View) -> dict[str, np.ndarray]:
    """`tiles.insides` of a region, nothing without one; UserError if none of it is left
    in the view of a backbone."""
    if region is None:
        return {}
    seen = insides(as_image(region), view)
    if not seen[INSIDE].any():
        raise UserError(
            f"roi: the region of interest has no pixel in images of {view.size} "
            "pixels; widen it, or take `tiles`"
        )
    return seen


def _inside(image: np.ndarray, region: np.ndarray | None, sample: Sample) -> np.ndarray:
    """An image without what lies outside the region of interest, if there is one."""
    if region is None:
        return image
    check_region(region, sample.path, image.shape[:2])
    return without_outside(image, region)


def _put(place: dict | list, row: int, seen: Mapping[str, np.ndarray]) -> None:
    if isinstance(place, list):
        place[row] = seen
        return
    for name, array in seen.items():
        place[name][row] = array


def load_support(
    samples: Sequence[Sample],
    record: Mapping,
    threads: int,
    region: np.ndarray | None = None,
    first: int = 0,
) -> dict[str, np.ndarray]:
    """Decode support images and make copies of them.

    record: of stage `support`, with seed, class, view and augment. Returns `images`
    [k, c, H, W, 3], c copies of each, or tiles [k, c, R, C, H, W, 3] of them, `whole`
    where the view has it, and others of `load_images`. region: see `write_class`; it is
    returned as `region` too, uint8. first: place of the first image in its draw. Raises
    UserError if the images are of several shapes.
    """
    view, augment = View(**record["view"]), Augment(**record["augment"])
    key = random_key(record["seed"], record["class"])
    images = [None] * len(samples)

    def put(row: int, image: np.ndarray) -> None:
        image = _inside(image, region, samples[row])
        key_of_row = *key, first + row
        seen = [pictures(x, view) for x in copies(image, augment, key_of_row)]
        if region is not None:
            white = copies(as_image(region), augment, key_of_row)
            seen = [a | insides(b, view) for a, b in zip(seen, white, strict=True)]
        images[row] = {name: np.stack([x[name] for x in seen]) for name in seen[0]}

    shared = load_images(samples, put, threads)
    arrays = stacked(images, {})
    if "images" not in arrays:
        raise UserError(
            "fit: edge, or tiles by size: the support images of a class must be of one "
            "shape; name such by `support` of its overrides, or take `fit: square` and "
            "tiles by `grid`"
        )
    kept = {} if region is None else {REGION: region.astype(np.uint8)}
    return arrays | shared | kept


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


def write_masks(
    target: Source,
    samples: Sequence[Sample],
    threads: int,
    region: np.ndarray | None = None,
) -> None:
    """Write the masks of test images; see `load_masks` for resolution and region."""
    _write(target, load_masks(samples, target.record["resolution"], threads, region))
