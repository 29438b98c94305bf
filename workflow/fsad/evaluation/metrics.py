"""Detection metrics in percent, all from one sort of the scores, ties exact.

Labels are 0 good, 1 defect; a higher score means more anomalous. Where a metric is
undefined (only one kind of label) it is nan. Pixels that do not count, see
`fsad.data.masks`, are left out of all pixel metrics, and of regions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from fsad.artifacts.files import read_record
from fsad.data.masks import GOOD, IGNORED

METRICS = {
    "cls": ("image_auroc", "image_aupr", "image_f1max"),
    "seg": ("pixel_auroc", "pixel_aupr", "pixel_f1max", "aupro"),
}
SELECTIONS = ("last", "best")
SCORE_BITS = 31


def read_metrics(path: str | Path) -> dict:
    """Read the metrics.json of a run, in which null is a metric that is nan.

    Raises UserError if it is missing or damaged.
    """
    content = read_record(path)
    return content | {name: _with_nan(content[name]) for name in SELECTIONS}


def _with_nan(value: object) -> object:
    if isinstance(value, dict):
        return {name: _with_nan(entry) for name, entry in value.items()}
    return float("nan") if value is None else value


class Ranking(NamedTuple):
    """Labels in the order of falling scores, and a threshold at each distinct score.

    labels: int32 [N], 0 is good. positives: int64 [T], number of scores at or above
    each threshold, of labels other than 0 (true) or of label 0 (false).
    """

    labels: np.ndarray
    positives: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the share of pairs in which the defect scores higher.

    labels and scores have any one shape; equal scores count half.
    """
    return _auroc(_ranked(labels != 0, scores))


def image_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Image-level metrics of labels [N] and scores [N]."""
    ranking = _ranked(labels != 0, scores)
    values = _auroc(ranking), *_precision_recall(ranking)
    return dict(zip(METRICS["cls"], values, strict=True))


def pixel_auroc(masks: np.ndarray, maps: np.ndarray) -> float:
    """`auroc` of the pixels of masks and anomaly maps, of any one shape."""
    return auroc(*_counted(masks, masks, maps))


def pixel_metrics(
    masks: np.ndarray, maps: np.ndarray, fpr_limit: float = 0.3
) -> dict[str, float]:
    """Pixel-level metrics of masks and anomaly maps, both [N, R, R].

    fpr_limit: false positive rate that AUPRO ends at.
    """
    ranking = _ranked(*_counted(masks, label_regions(masks), maps))
    values = _auroc(ranking), *_precision_recall(ranking), _aupro(ranking, fpr_limit)
    return dict(zip(METRICS["seg"], values, strict=True))


def _auroc(ranking: Ranking) -> float:
    true, false = ranking.true_positives, ranking.false_positives
    pairs = int(true[-1]) * int(false[-1])
    # Good scores at a threshold lose to the defects above it and tie with those at it.
    twice = np.sum(np.diff(false, prepend=0) * (true + np.r_[0, true[:-1]]))
    return 50 * int(twice) / pairs if pairs else float("nan")


def _precision_recall(ranking: Ranking) -> tuple[float, float]:
    """Average precision, and the best F1 over all thresholds."""
    true, positives = ranking.true_positives, ranking.positives
    if not true[-1] or not ranking.false_positives[-1]:
        return float("nan"), float("nan")
    # At the other thresholds recall stays, and both precision and F1 fall.
    gained = np.flatnonzero(np.diff(true, prepend=0))
    true, positives = true[gained], positives[gained]
    precision, recall = true / positives, true / true[-1]
    average = np.sum(precision * np.diff(recall, prepend=0))
    f1 = 2 * true / (positives + true[-1])
    return 100 * float(average), 100 * float(f1.max())


def _aupro(ranking: Ranking, limit: float) -> float:
    """Area under the per-region overlap curve up to a false positive rate of `limit`.

    Every 8-connected defect region counts the same, whatever its area (Bergmann et
    al., IJCV 2021). Scaled so that a perfect map gives 100.
    """
    areas, false = np.bincount(ranking.labels), ranking.false_positives
    if len(areas) < 2 or not areas[0]:
        return float("nan")
    kept = np.searchsorted(false, limit * areas[0], "right") + 1  # one beyond the limit
    positives, rates = ranking.positives[:kept], np.r_[0, false[:kept] / areas[0]]
    share = np.r_[0, 1 / areas[1:]] / (len(areas) - 1)
    overlap = np.cumsum(share[ranking.labels[: positives[-1]]])[positives - 1]
    overlap, inside = np.r_[0, overlap], rates <= limit
    y = np.r_[overlap[inside], np.interp(limit, rates, overlap)]
    return 100 * float(np.trapezoid(y, np.r_[rates[inside], limit])) / limit


def label_regions(masks: np.ndarray) -> np.ndarray:
    """Number the 8-connected regions of defects in masks [N, R, R], int32.

    Numbers start at 1; other pixels are 0.
    """
    numbered, count = np.zeros(masks.shape, np.int32), 0
    for mask, out in zip(masks, numbered, strict=True):
        found, regions = cv2.connectedComponents(defective(mask).astype(np.uint8))
        out[:] = np.where(regions, regions + count, 0)
        count += found - 1
    return numbered


def defective(masks: np.ndarray) -> np.ndarray:
    """Whether the pixels of masks are defective, bool of the shape of masks."""
    return (masks != GOOD) & (masks != IGNORED)


def _counted(masks: np.ndarray, *arrays: np.ndarray) -> Sequence[np.ndarray]:
    """Arrays of the shape of masks, without the pixels that do not count."""
    counted = masks != IGNORED
    return arrays if counted.all() else [array[counted] for array in arrays]


def _ranked(labels: np.ndarray, scores: np.ndarray) -> Ranking:
    """Ranking of labels (bool, or int32 >= 0), by one sort of scores and labels."""
    if not scores.size:
        return Ranking(labels.ravel(), *np.zeros((3, 1), np.int64))
    bits = int(labels.max(initial=0)).bit_length()
    kind = np.uint32 if SCORE_BITS + bits <= 32 else np.uint64
    keys = _ordered(scores).astype(kind) << kind(bits) | labels.ravel().astype(kind)
    keys.sort()
    keys = keys[::-1]
    labels = (keys & kind((1 << bits) - 1)).astype(np.int32)
    keys >>= kind(bits)
    positives = np.flatnonzero(np.append(keys[1:] != keys[:-1], True)) + 1
    true = np.cumsum(labels != 0, dtype=np.int32)[positives - 1].astype(np.int64)
    return Ranking(labels, positives, true, positives - true)


def _ordered(scores: np.ndarray) -> np.ndarray:
    """Ranks of scores, uint32 below 2**31, equal for equal scores.

    The bits of float32 values from 0 on are in order already; all else is ranked.
    """
    scores = scores.ravel()
    if np.isnan(scores).any():
        raise ValueError("scores must not be nan")
    if scores.dtype == np.float32 and scores.min(initial=0) >= 0:
        return (scores + 0.0).view(np.uint32)  # -0.0 becomes 0.0
    return np.unique(scores, return_inverse=True)[1].astype(np.uint32)
