"""Threshold of the image score, calibrated on the support images alone.

With k > 1 support images each is scored against the memory of the others, and the
threshold is the highest of these scores. A new good image scores higher with a
probability of at most 1 / (k + 1), if good images are exchangeable: of k + 1 images,
each scored against all others, each is as likely as any other to be the highest, and
a score against fewer others is no lower. (The reasoning of conformal prediction: Vovk,
Gammerman and Shafer, Algorithmic Learning in a Random World, 2005.) This holds for the
distance to the memory; learned prompts are those of all k images.

A single support image has no other. It is scored as if photographed again: slightly
moved, turned, nearer or farther, brighter or darker, against the memory of itself.
That says nothing about how one good part differs from the next, so more good images
than with k > 1 score higher where parts vary.

Without support images there is no threshold, and overlays show probabilities, 0 to 1.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module

import cv2
import numpy as np

from fsad.data.prepare import random_key
from fsad.evaluation.detector import Detector, Seen, detect
from fsad.methods import parts

POINT = "threshold", "map_range", "calibrated"
PICTURES = "images", "whole"
MOVE = 0.035  # of the image's side
TURN = 2  # degrees
ZOOM = 0.05
LIGHT = 0.1


def calibrate(
    detector: Detector, support: Mapping[str, np.ndarray], images: Sequence[Seen]
) -> Detector:
    """Set `threshold`, `map_range` and `calibrated` of a detector, from its support
    images.

    support: features of the k support images that it was fitted to. images: of each
    what the network takes. threshold: the highest score, None for zero shots.
    map_range: see `operating_point`. calibrated: where they come from, see `source_of`.
    """
    found = {"threshold": None, "map_range": [0.0, 1.0]}
    if len(images) > 1:
        values, maps = _left_out(detector, support, images)
    elif images:
        values, maps = detect(detector, changed(images[0]))
    if images:
        found = operating_point(values, [*map(map_extent, maps)], rank=1)
    found["calibrated"] = source_of("support", len(images))
    return detector._replace(described=detector.described | found)


def source_of(
    origin: str,
    images: int,
    false_alarms: float | None = None,
    confidence: float | None = None,
) -> dict:
    """Where a threshold comes from, and the number of images.

    origin: `support`, `good images`, or `new support images` after a coreset.
    false_alarms, confidence: see `deployment.thresholds`, None for support
    images.
    """
    bound = {"false_alarms": false_alarms, "confidence": confidence}
    return {"from": origin, "images": images, **bound}


def map_extent(full: np.ndarray) -> tuple[float, float]:
    """Median and maximum of an anomaly map [H, W]."""
    return float(np.median(full)), float(full.max())


def operating_point(
    scores: np.ndarray, extents: Sequence[tuple[float, float]], rank: int
) -> dict:
    """`threshold` and `map_range` from good images.

    scores: [n]. extents: `map_extent` of each image. rank: of the threshold among the
    scores, 1 for the highest. map_range: map values that overlays show. It starts at
    the median of the medians. Its middle has the rank of the threshold among the
    maxima, so that where a score is the maximum of its map the middle is the threshold,
    and elsewhere as many of these images reach beyond the middle as are above the
    threshold.
    """
    medians, maxima = np.transpose(extents)
    threshold, middle = (float(np.sort(x)[-rank]) for x in (scores, maxima))
    low = float(np.median(medians))
    return {"threshold": threshold, "map_range": [low, max(low, 2 * middle - low)]}


def _left_out(
    detector: Detector, support: Mapping[str, np.ndarray], images: Sequence[Seen]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores [k] and full maps of support images, each against all others."""
    found = []
    for index in range(len(images)):
        others = {name: np.delete(x, index, 0) for name, x in support.items()}
        found.append(detect(refitted(detector, others), [images[index]]))
    scores, maps = zip(*found, strict=True)
    return np.concatenate(scores), [one for own in maps for one in own]


def refitted(detector: Detector, support: Mapping[str, np.ndarray]) -> Detector:
    """The detector with other support images, fitted to them unless it read text.

    What a method has learned from text is kept: there is no text tower any more.
    """
    names = "task", "options", "run"
    task, options, run = (detector.described[name] for name in names)
    module = import_module(run["module"])
    if "text" not in run["made_from"]:
        key = random_key(run["seed"], run["class"])
        (step,) = parts.create(module, task, options, None).fit(support, key)
        return detector._replace(fitted=step.detector)
    tensors = support, detector.fitted.learned
    fitted = parts.restore(module, task, options, tensors)
    return detector._replace(fitted=fitted)


def changed(seen: Seen) -> list[Seen]:
    """Slightly changed views of what a network takes of an image, of each tile."""
    made = {name: _changed(x) for name, x in seen.items() if name in PICTURES}
    count = len(made["images"])
    same = {name: x for name, x in seen.items() if name not in PICTURES}
    return [{**same, **{n: x[i] for n, x in made.items()}} for i in range(count)]


def _changed(images: np.ndarray) -> np.ndarray:
    """Views of an image, or of each tile, uint8 [..., H, W, 3], [8, ..., H, W, 3]."""
    flat = images.reshape(-1, *images.shape[-3:])
    return np.stack([views(x) for x in flat], 1).reshape(-1, *images.shape)


def views(image: np.ndarray) -> np.ndarray:
    """Slightly changed views of an image uint8 [H, W, 3], [8, H, W, 3]."""
    step = MOVE * len(image)
    moved = [_warped(image, move=move) for move in (step, -step)]
    turned = [_warped(image, turn=turn) for turn in (TURN, -TURN)]
    zoomed = [_warped(image, zoom=zoom) for zoom in (1 + ZOOM, 1 - ZOOM)]
    lit = [cv2.convertScaleAbs(image, alpha=1 + light) for light in (LIGHT, -LIGHT)]
    return np.stack([*moved, *turned, *zoomed, *lit])


def _warped(
    image: np.ndarray, move: float = 0, turn: float = 0, zoom: float = 1
) -> np.ndarray:
    """Move an image right and down by pixels, turn it by degrees, and zoom."""
    (height, width), border = image.shape[:2], cv2.BORDER_REFLECT_101
    middle = (width - 1) / 2, (height - 1) / 2
    matrix = cv2.getRotationMatrix2D(middle, turn, zoom)
    matrix[:, 2] += move
    return cv2.warpAffine(image, matrix, (width, height), borderMode=border)
