"""Threshold of the image score from good images that were not learned from.

With n scores the threshold is the j-th highest of them, an image above it is anomalous,
and j is the largest number for which

    P(Binomial(n, false_alarms) >= j) >= confidence.

With this confidence, over the draw of the n images, at most the share `false_alarms` of
new good images scores above the threshold, whatever the distribution of the scores: a
larger share does only if fewer than j of the n are among the highest `false_alarms` of
all scores (a one-sided tolerance limit: Wilks, Annals of Mathematical Statistics 12,
1941). It holds for images that are drawn as the n were, and independently.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binom, geom

from fsad.backbones.embed import BATCH
from fsad.data.faults import Fault, aspect_fault, image_faults
from fsad.data.images import read_image, warn
from fsad.deployment.good_images import counted, find_good
from fsad.errors import UserError
from fsad.evaluation.calibration import map_extent, operating_point, source_of
from fsad.evaluation.detector import SHAPE, Detector, Seen, detect, view_of


class Bound(NamedTuple):
    """Share of new good images above a threshold, at most, with a confidence."""

    false_alarms: float
    confidence: float


class Calibration(NamedTuple):
    """A calibrated detector, and what its threshold comes from.

    scores: float32 [n] of the good images. rank: of the threshold among them, 1 for the
    highest. left_out: a line for each image that does not count.
    """

    detector: Detector
    scores: np.ndarray
    rank: int
    left_out: list[str]


def calibrate_on_good(
    detector: Detector, folder: str | Path, bound: Bound
) -> Calibration:
    """Set `threshold`, `map_range` and `calibrated` of a detector, from good images.

    folder: of image files, at any depth. Support images of the detector and copies of
    files do not count. Raises UserError for too few images, for one that cannot be
    read, and for a folder that holds others than good ones.
    """
    images, _, left_out = counted(find_good(folder), detector)
    rank = threshold_rank(len(images), bound)
    if rank == 0:
        raise UserError(
            f"{folder}: {len(images)} good images are too few for a bound of "
            f"{_percent(bound.false_alarms)} with {_percent(bound.confidence)} "
            f"confidence, which takes {images_needed(bound)}; add some, or allow more "
            "with --false-alarms"
        )
    scores, extents = _scored(detector, [*images.values()])
    found = operating_point(scores, extents, rank)
    found["calibrated"] = source_of("good images", len(images), *bound)
    described = detector.described | found
    return Calibration(detector._replace(described=described), scores, rank, left_out)


def summary(found: Calibration, bound: Bound) -> list[str]:
    """Lines about a calibration for a user."""
    threshold, count = found.detector.described["threshold"], len(found.scores)
    above = int((found.scores > np.float32(threshold)).sum())
    return [
        *found.left_out,
        f"threshold {threshold:.6g}: of {count} good images the score of rank "
        f"{found.rank} from the highest, {above} above it",
        f"of new good images like these at most {_percent(bound.false_alarms)} are "
        f"above it, with {_percent(bound.confidence)} confidence",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.6g} %"


def threshold_rank(count: int, bound: Bound) -> int:
    """Rank of the threshold among `count` scores, from 1 for the highest; 0 for too few
    scores."""
    ranks = np.arange(1, count + 1)
    at_least = binom.sf(ranks - 1, count, bound.false_alarms)
    return int((at_least >= bound.confidence).sum())


def images_needed(bound: Bound) -> int:
    """Number of scores from which on there is a threshold."""
    # Draws until the first success: one of these is among the highest, most likely.
    return int(geom.ppf(bound.confidence, bound.false_alarms))


def _scored(
    detector: Detector, paths: list[Path]
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Scores float32 [n] of images, and the `map_extent` of each."""
    scores, extents, doubts = [], [], []
    for start in range(0, len(paths), BATCH):
        read = [_read(detector, path) for path in paths[start : start + BATCH]]
        doubts += [fault for _, faults in read for fault in faults]
        found, maps = detect(detector, [seen for seen, _ in read])
        scores, extents = [*scores, found], [*extents, *map(map_extent, maps)]
    warn(doubts)
    return np.concatenate(scores), extents


def _read(detector: Detector, path: Path) -> tuple[Seen, list[Fault]]:
    """An image as the network takes it, and reasons to doubt it."""
    picture = read_image(path)
    shapes = [seen[SHAPE].tolist() for seen in detector.seen]
    reasons = [*image_faults(picture), aspect_fault(picture.shape[:2], shapes)]
    try:
        seen = view_of(detector, picture)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return seen, [(path, why) for why in reasons if why]
