"""Tasks of evaluation: by image scores (cls) or by anomaly maps (seg)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fsad.evaluation import metrics
from fsad.methods.base import Prediction
from fsad.methods.maps import full_maps
from fsad.methods.patches import upsample


class Truth(NamedTuple):
    """Labels [N] of test images, 0 good or 1 defective, and masks [N, R, R] for seg."""

    labels: np.ndarray
    masks: np.ndarray | None


class Task(NamedTuple):
    """A task of evaluation.

    values: the scores [N] or maps [N, gh, gw] of a prediction, which are ranked. auroc:
    from truth, device and sigma to a function that gives the AUROC of values in
    percent. metrics: all metrics by name, of truth, values and sigma.
    """

    values: Callable[[Prediction], Tensor]
    auroc: Callable[[Truth, torch.device, float], Callable[[Tensor], float]]
    metrics: Callable[[Truth, np.ndarray, float], dict[str, float]]


def _image_auroc(truth: Truth, device: torch.device, sigma: float):
    return lambda scores: metrics.auroc(truth.labels, scores.cpu().numpy())


def _pixel_auroc(truth: Truth, device: torch.device, sigma: float):
    full = partial(upsample, resolution=truth.masks.shape[-1], sigma=sigma)
    if device.type == "cpu":
        return lambda maps: metrics.auroc(truth.masks, full(maps).numpy())
    defective = torch.from_numpy(truth.masks != 0).to(device)
    return lambda maps: device_auroc(defective, full(maps))


def _pixel_metrics(truth: Truth, maps: np.ndarray, sigma: float) -> dict:
    full = full_maps(maps, truth.masks.shape[-1], sigma)
    return metrics.pixel_metrics(truth.masks, full)


def device_auroc(defective: Tensor, scores: Tensor) -> float:
    """`metrics.auroc` on a device, of bool and float32 tensors of one shape."""
    if scores.isnan().any():
        raise ValueError("scores must not be nan")
    good, defects = scores[~defective].sort().values, scores[defective]
    sides = (torch.searchsorted(good, defects, right=right) for right in (False, True))
    won, won_or_tied = (int(side.sum()) for side in sides)
    pairs = len(good) * len(defects)
    return 50 * (won + won_or_tied) / pairs if pairs else float("nan")


TASKS = {
    "cls": Task(
        lambda prediction: prediction.scores,
        _image_auroc,
        lambda truth, scores, _: metrics.image_metrics(truth.labels, scores),
    ),
    "seg": Task(lambda prediction: prediction.maps, _pixel_auroc, _pixel_metrics),
}
