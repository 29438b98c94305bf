"""Tasks of evaluation: by image scores (cls) or by anomaly maps (seg)."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fsad.data.masks import GOOD
from fsad.evaluation import metrics, streaming
from fsad.evaluation.streaming import Pictures
from fsad.methods.base import Prediction
from fsad.methods.maps import full_maps, picture_map, picture_sigmas
from fsad.methods.patches import upsample

Masks = np.ndarray | Sequence[np.ndarray]


class Truth(NamedTuple):
    """Labels and, for seg, masks of test images.

    labels: [N], 0 good or 1 defective. masks: uint8 [N, R, R], or at `resolution: raw`
    a list of N, [H, W] of each picture; see `fsad.data.masks` for their values.
    """

    labels: np.ndarray
    masks: Masks | None


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


def full_size(masks: Masks, maps: np.ndarray, sigma: float) -> Iterable[np.ndarray]:
    """Full maps of the size of masks, from maps float32 [N, gh, gw].

    An array [N, R, R], or one map [H, W] after the other for a list of masks.
    """
    if isinstance(masks, np.ndarray):
        return full_maps(maps, masks.shape[-1], sigma)
    pairs = zip(maps, masks, strict=True)
    return (picture_map(small, mask.shape, sigma) for small, mask in pairs)


def _pixel_auroc(truth: Truth, device: torch.device, sigma: float):
    is_square, is_cpu = isinstance(truth.masks, np.ndarray), device.type == "cpu"
    if is_square and is_cpu:
        full = partial(upsample, resolution=truth.masks.shape[-1], sigma=sigma)
        return lambda maps: metrics.pixel_auroc(truth.masks, full(maps).numpy())
    if is_cpu:
        return lambda maps: streaming.pixel_auroc(
            _pictures(truth.masks, maps.numpy(), sigma)
        )
    parts = [truth.masks] if is_square else truth.masks
    masks = [torch.from_numpy(part).to(device) for part in parts]
    full = _squares if is_square else _own_sizes
    return lambda maps: device_auroc(full(masks, maps, sigma))


def _pictures(masks: Sequence[np.ndarray], maps: np.ndarray, sigma: float) -> Pictures:
    return Pictures(
        masks, lambda index: picture_map(maps[index], masks[index].shape, sigma)
    )


def _squares(masks: Sequence[Tensor], maps: Tensor, sigma: float) -> Pictures:
    """All squares, on a device, as if they were one picture."""
    full = upsample(maps, masks[0].shape[-1], sigma)
    return Pictures(masks, lambda index: full)


def _own_sizes(masks: Sequence[Tensor], maps: Tensor, sigma: float) -> Pictures:
    """`_pictures` on a device."""

    def full(index: int) -> Tensor:
        shape = masks[index].shape
        return upsample(maps[index, None], shape, picture_sigmas(shape, sigma))[0]

    return Pictures(masks, full)


def _pixel_metrics(truth: Truth, maps: np.ndarray, sigma: float) -> dict:
    if not isinstance(truth.masks, np.ndarray):
        return streaming.pixel_metrics(_pictures(truth.masks, maps, sigma))
    return metrics.pixel_metrics(truth.masks, full_size(truth.masks, maps, sigma))


def device_auroc(pictures: Pictures) -> float:
    """`streaming.pixel_auroc` on a device, of masks and maps that are tensors there."""
    numbered = [*enumerate(pictures.masks)]
    defects = [pictures.full_map(i)[metrics.defective(m)] for i, m in numbered]
    defects = torch.cat(defects) if defects else torch.empty(0)
    count = won_twice = 0
    for index, mask in numbered:
        good = pictures.full_map(index)[mask == GOOD].sort().values
        if good.isnan().any() or defects.isnan().any():
            raise ValueError("scores must not be nan")
        for right in (False, True):
            won_twice += int(torch.searchsorted(good, defects, right=right).sum())
        count += len(good)
    pairs = count * len(defects)
    return 50 * won_twice / pairs if pairs else float("nan")


TASKS = {
    "cls": Task(
        lambda prediction: prediction.scores,
        _image_auroc,
        lambda truth, scores, _: metrics.image_metrics(truth.labels, scores),
    ),
    "seg": Task(lambda prediction: prediction.maps, _pixel_auroc, _pixel_metrics),
}


def image_scores(
    prediction: Prediction, full: Callable[[np.ndarray], Iterable[np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [N] and maps float32 [N, gh, gw] of a prediction.

    full: gives the full maps. Where the prediction has no scores, these are the maxima
    of the full maps.
    """
    maps = prediction.maps.cpu().numpy()
    if prediction.scores is None:
        return np.array([one.max() for one in full(maps)], np.float32), maps
    return prediction.scores.cpu().numpy(), maps
