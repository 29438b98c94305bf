"""The score above which an image is called anomalous, from the support images alone.

With k > 1 support images each is scored against the memory of the others, and the
threshold is the highest of these scores. A new good image scores higher with a
probability of at most 1 / (k + 1), if good images are exchangeable: of k + 1 images,
each scored against all others, each is as likely as any other to be the highest, and
a score against fewer others is no lower. (The reasoning of conformal prediction: Vovk,
Gammerman and Shafer, Algorithmic Learning in a Random World, 2005.) This holds for the
visual part; the learned prompts are those of all k images.

A single support image has no other. It is scored as photographed again: slightly
moved, turned, nearer or farther, brighter or darker, against the memory of itself as
it is. That tells nothing of how one good part differs from the next, so more good
images than with k > 1 score higher where parts vary.
"""

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from promptad.detector import Detector, detect, read_off, score
from promptad.scores import MEMORY

MOVE = 0.035  # of the image's side
TURN = 2  # degrees
ZOOM = 0.05
LIGHT = 0.1


def calibrate(
    detector: Detector, support: Mapping[str, Tensor], images: np.ndarray
) -> Detector:
    """The detector with `threshold` and `map_range` among its options.

    support: features of the k support images that are its memory, `mid1`, `mid2` and
    `global` for cls, `patch` for seg. images: the images, uint8 [k, S, S, 3].
    map_range: what overlays tell apart, from the median of the maps that the
    threshold comes from to twice as far above it as their maximum.
    """
    if len(images) > 1:
        values, maps = _left_out(detector, support)
    else:
        values, maps = detect(detector, views(images[0]))
    low, high = float(np.median(maps)), float(maps.max())
    found = {"threshold": float(values.max()), "map_range": [low, 2 * high - low]}
    return detector._replace(options=detector.options | found)


def _left_out(
    detector: Detector, support: Mapping[str, Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [k] and maps [k, R, R] of support images that the memory lacks."""
    found = []
    for index in range(len(detector.memory[MEMORY[0]])):
        others = {n: _without(x, index) for n, x in detector.memory.items()}
        one = {n: x[index : index + 1] for n, x in support.items()}
        alone = detector._replace(memory=others)
        found.append(read_off(alone, *score(alone, one)))
    values, maps = zip(*found, strict=True)
    return np.concatenate(values), np.concatenate(maps)


def _without(features: Tensor, index: int) -> Tensor:
    return torch.cat([features[:index], features[index + 1 :]])


def views(image: np.ndarray) -> np.ndarray:
    """An image uint8 [S, S, 3] as it might be photographed again, [8, S, S, 3]."""
    step = MOVE * len(image)
    moved = [_warped(image, move=move) for move in (step, -step)]
    turned = [_warped(image, turn=turn) for turn in (TURN, -TURN)]
    zoomed = [_warped(image, zoom=zoom) for zoom in (1 + ZOOM, 1 - ZOOM)]
    lit = [cv2.convertScaleAbs(image, alpha=1 + light) for light in (LIGHT, -LIGHT)]
    return np.stack([*moved, *turned, *zoomed, *lit])


def _warped(
    image: np.ndarray, move: float = 0, turn: float = 0, zoom: float = 1
) -> np.ndarray:
    """Moved right and down by pixels, turned by degrees, zoomed; edges mirrored."""
    middle = (len(image) - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), turn, zoom)
    matrix[:, 2] += move
    shape, border = image.shape[:2], cv2.BORDER_REFLECT_101
    return cv2.warpAffine(image, matrix, shape, borderMode=border)
