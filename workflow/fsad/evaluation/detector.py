"""A run as a detector: anomaly scores and maps of new images."""

from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from itertools import chain
from typing import NamedTuple

import numpy as np

from fsad.backbones.embed import BATCH, embed_pictures
from fsad.backbones.features import stored, tile_spans
from fsad.backbones.networks import Network
from fsad.backbones.readout import Readout
from fsad.data.groups import split, stacked
from fsad.data.masks import RAW
from fsad.data.region import as_image, check_region, resized_region, without_outside
from fsad.data.tiles import insides, pictures
from fsad.errors import UserError
from fsad.evaluation.tasks import image_scores
from fsad.evaluation.timing import timed
from fsad.methods import base
from fsad.methods.maps import full_maps, picture_map

SHAPE = "shape"
# What a network takes of an image, see `tiles.pictures`, and `shape`, its height and
# width.
Seen = Mapping[str, np.ndarray]


class Detector(NamedTuple):
    """A network, and a method that was fitted to its features of a class.

    network: of the vision tower. readout: the features, and the view of images that
    they are of. fitted: see `methods.base`. described: `class`, `method`, `task`,
    `options` of the run, `readout`, `threshold`, `map_range` and `calibrated` of
    `calibration` (no threshold, None, at zero shots), `images`, names and digests of
    the support images, `backbone` (its name, with the tag or digest of the weights),
    and `run`, the settings stored in the run. seen: what the network takes of each
    support image. region: of interest, bool of the shape [H, W] of all images, or None.
    """

    network: Network
    readout: Readout
    fitted: base.Detector
    described: dict
    seen: Sequence[Seen] = ()
    region: np.ndarray | None = None

    def predict(
        self, images: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Scores float32 [N], anomaly maps float32 [N, R, R], and bool [N], whether
        images are anomalous, their score above the threshold.

        images: uint8 [H, W, 3] RGB each, 0 to 255, of any sizes; an array [N, H, W, 3]
        will do. At `resolution: raw` the maps are a list, [H, W] of each image. A
        detector without a threshold, of zero shots, gives None in place of the third.
        Raises UserError for an image of another type or shape, before any is looked at.
        """
        _check_images(images)
        starts = range(0, len(images), BATCH)
        views = ([view_of(self, x) for x in images[i : i + BATCH]] for i in starts)
        scores, maps = zip(*(detect(self, seen) for seen in views), strict=True)
        scores, maps = np.concatenate(scores), [one for some in maps for one in some]
        threshold = self.described["threshold"]
        anomalous = None if threshold is None else scores > np.float32(threshold)
        return scores, maps if _is_raw(self) else np.stack(maps), anomalous


def detect(
    detector: Detector, seen: Sequence[Seen], seconds: Counter[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [N] and anomaly maps float32 [N, R, R] of images.

    seen: of each image, of `view_of`. With PromptAD a cls detector gives fused scores
    and maps of the memory alone, a seg detector fused maps and their maxima. At
    `resolution: raw` the maps are a list, [H, W] of each image. seconds: to which the
    wall-clock time of the steps `network` and `score` is added.
    """
    seconds = Counter() if seconds is None else seconds
    shapes = np.array([image[SHAPE] for image in seen])
    names = [name for name in seen[0] if name != SHAPE]
    groups = split(stacked([{n: x[n] for n in names} for x in seen], {}), names)
    found = [_detect(detector, own, shapes[rows], seconds) for rows, own in groups]
    scores, maps = (chain.from_iterable(x) for x in zip(*found, strict=True))
    order = np.argsort(np.concatenate([rows for rows, _ in groups]))
    scores, maps = np.array([*scores])[order], [*maps]
    maps = [maps[place] for place in order]
    return scores, maps if _is_raw(detector) else np.stack(maps)


def _detect(
    detector: Detector,
    pictures: Mapping[str, np.ndarray],
    shapes: np.ndarray,
    seconds: Counter[str],
) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """Scores [n] and full maps of images of one shape as the network takes them."""
    network, readout = detector.network, detector.readout
    with timed(seconds, "network"):  # waits for a GPU: features come back to the CPU
        found = stored(embed_pictures(network, pictures, readout), readout)
    with timed(seconds, "score"):
        found |= tile_spans({"shapes": shapes}, readout.view)
        return score(detector, found, shapes)


def view_of(detector: Detector, image: np.ndarray) -> Seen:
    """What the network takes of an image uint8 [H, W, 3] RGB.

    Raises UserError for anything else, since values of other types have another range,
    and for an image of another shape than the region of interest.
    """
    _check_image(image, "image")
    shape, region, view = image.shape[:2], detector.region, detector.readout.view
    inside = {}
    if region is not None:
        check_region(region, "the image", shape)
        image, inside = without_outside(image, region), insides(as_image(region), view)
    return {**pictures(image, view), **inside, SHAPE: np.array(shape)}


def _check_images(images: Sequence[np.ndarray]) -> None:
    single = isinstance(images, np.ndarray) and images.ndim != 4
    if single or not isinstance(images, list | tuple | np.ndarray) or not len(images):
        raise UserError(
            "images: must be one or more images uint8 [H, W, 3] RGB, in a list or an "
            f"array [N, H, W, 3], not {_summary(images)}"
        )
    for index, image in enumerate(images):
        _check_image(image, f"images[{index}]")


def _check_image(image: np.ndarray, name: str) -> None:
    is_bytes = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if is_bytes and image.shape[2:] == (3,) and image.size:
        return
    raise UserError(
        f"{name}: must be uint8 [H, W, 3] RGB, 0 to 255, in a NumPy array, not "
        f"{_summary(image)}; see `fsad.data.images.read_image`"
    )


def _summary(value: object) -> str:
    """Type, shape and range of a value, in words."""
    if not isinstance(value, np.ndarray):
        size = f" of {len(value)}" if isinstance(value, Sized) else ""
        return f"{type(value).__name__}{size}"
    summary = f"{value.dtype} {list(value.shape)}"
    is_number = value.size and np.issubdtype(value.dtype, np.number)
    if not is_number:
        return summary
    return f"{summary}, {value.min():g} to {value.max():g}"


def score(
    detector: Detector, features: base.Features, shapes: np.ndarray
) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """Scores [N] and full maps [N, R, R] of images, from their features.

    shapes: of the images before resizing, [N, 2], and of maps at `resolution: raw`.
    """
    fitted, resolution = detector.fitted, detector.described["options"]["resolution"]
    prediction = fitted.predict(fitted.observe(features))

    def full(maps: np.ndarray) -> Sequence[np.ndarray]:
        if not _is_raw(detector):
            return full_maps(maps, resolution, fitted.sigma)
        pairs = zip(maps, map(tuple, shapes.tolist()), strict=True)
        return [picture_map(small, shape, fitted.sigma) for small, shape in pairs]

    scores, maps = image_scores(prediction, full)
    return scores, _in_region(full(maps), detector.region)


def _in_region(
    maps: Sequence[np.ndarray], region: np.ndarray | None
) -> Sequence[np.ndarray]:
    """Full maps, 0 outside the region of interest."""
    if region is None:
        return maps
    return [full * resized_region(region, full.shape) for full in maps]


def _is_raw(detector: Detector) -> bool:
    return detector.described["options"]["resolution"] == RAW
