"""Detection metrics in percent, each from one sort of all scores, ties exact.

Labels are 0 good, 1 defect; a higher score means more anomalous. Where a metric is
undefined (only one kind of label) it is nan.
"""

import cv2
import numpy as np

METRICS = {
    "cls": ("image_auroc", "image_aupr", "image_f1max"),
    "seg": ("pixel_auroc", "pixel_aupr", "pixel_f1max", "aupro"),
}
SELECTIONS = ("last", "best")
FPR_LIMIT = 0.3
SCORE_BITS = 31


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: how often a defect outscores a good one.

    labels and scores have any one shape; equal scores count half.
    """
    ordered, labels = _ordered(scores), labels.ravel() != 0
    won, won_or_tied = (_wins(labels, ordered, first) for first in (True, False))
    defects = int(np.count_nonzero(labels))
    pairs = defects * (labels.size - defects)
    return 50 * (won + won_or_tied) / pairs if pairs else float("nan")


def _wins(labels: np.ndarray, ordered: np.ndarray, defects_first: bool) -> int:
    """Pairs sorted with the defect last, where `defects_first` is said of ties."""
    keys = ordered << 1 | (labels ^ defects_first)
    keys.sort()
    places = np.flatnonzero((keys & 1) ^ defects_first)
    return int(places.sum()) - len(places) * (len(places) - 1) // 2


def image_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Image-level metrics of labels [N] and scores [N]."""
    values = auroc(labels, scores), *precision_recall(labels, scores)
    return dict(zip(METRICS["cls"], values, strict=True))


def pixel_metrics(masks: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    """Pixel-level metrics of masks and anomaly maps, both [N, R, R]."""
    values = auroc(masks, maps), *precision_recall(masks, maps), aupro(masks, maps)
    return dict(zip(METRICS["seg"], values, strict=True))


def precision_recall(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Average precision, and the best F1 over all thresholds."""
    labels, ends = _descending(labels != 0, scores)
    hits = np.cumsum(labels, dtype=np.int32)[ends]
    if not hits[-1]:
        return float("nan"), float("nan")
    # At the other thresholds recall stays, and both precision and F1 fall.
    gained = np.flatnonzero(np.diff(hits, prepend=0))
    hits, ends = hits[gained].astype(np.int64), ends[gained]
    precision, recall = hits / (ends + 1), hits / hits[-1]
    average = np.sum(precision * np.diff(recall, prepend=0))
    f1 = 2 * hits / (ends + 1 + hits[-1])
    return 100 * float(average), 100 * float(f1.max())


def aupro(masks: np.ndarray, maps: np.ndarray, limit: float = FPR_LIMIT) -> float:
    """Area under the per-region overlap curve up to a false positive rate of `limit`.

    Every 8-connected defect region counts the same, whatever its area (Bergmann et
    al., IJCV 2021). Scaled so that a perfect map gives 100.
    """
    regions = label_regions(masks)
    areas = np.bincount(regions.ravel())
    if len(areas) == 1 or not areas[0]:
        return float("nan")
    regions, ends = _descending(regions, maps)
    wrong = np.cumsum(regions == 0, dtype=np.int32)[ends]
    kept = np.searchsorted(wrong, limit * areas[0], "right") + 1  # one beyond the limit
    ends, false_rate = ends[:kept], wrong[:kept] / areas[0]
    share = np.r_[0, 1 / areas[1:]] / (len(areas) - 1)
    overlap = np.cumsum(share[regions[: ends[-1] + 1]])[ends]
    return 100 * _area_up_to(np.r_[0, false_rate], np.r_[0, overlap], limit) / limit


def label_regions(masks: np.ndarray) -> np.ndarray:
    """Number the 8-connected regions of masks [N, R, R] from 1 on, int32; 0 is good."""
    numbered, count = np.zeros(masks.shape, np.int32), 0
    for mask, out in zip(masks, numbered, strict=True):
        found, regions = cv2.connectedComponents((mask != 0).astype(np.uint8))
        out[:] = np.where(regions, regions + count, 0)
        count += found - 1
    return numbered


def _descending(tags: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tags (int32 >= 0) by falling score, and the index that ends each run of ties."""
    bits = int(tags.max(initial=0)).bit_length()
    kind = np.uint32 if SCORE_BITS + bits <= 32 else np.uint64
    keys = _ordered(scores).astype(kind) << kind(bits) | tags.ravel().astype(kind)
    keys.sort()
    keys = keys[::-1]
    tags = (keys & kind((1 << bits) - 1)).astype(np.int32)
    keys >>= kind(bits)
    return tags, np.flatnonzero(np.append(keys[1:] != keys[:-1], True))


def _ordered(scores: np.ndarray) -> np.ndarray:
    """uint32 below 2**31 in the order of the scores, ties kept.

    The bits of non-negative float32 are in order already; anything else is ranked.
    """
    scores = scores.ravel()
    if np.isnan(scores).any():
        raise ValueError("scores hold nan")
    if scores.dtype == np.float32 and scores.min(initial=0) >= 0:
        return (scores + 0.0).view(np.uint32)  # -0.0 becomes 0.0
    return np.unique(scores, return_inverse=True)[1].astype(np.uint32)


def _area_up_to(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    inside = x <= limit
    end = np.interp(limit, x, y)
    return float(np.trapezoid(np.r_[y[inside], end], np.r_[x[inside], limit]))
