"""Detection metrics from one sort, ties exact; all in percent.

Labels are 0 good, 1 defect; a higher score means more anomalous.
"""

import cv2
import numpy as np

FPR_LIMIT = 0.3


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: how often a defect outscores a good one.

    labels and scores have any one shape; equal scores count half. nan without
    both kinds.
    """
    labels, scores = labels.ravel().astype(bool), scores.ravel()
    defect, good = scores[labels], scores[~labels]
    if not len(defect) or not len(good):
        return float("nan")
    few, many = sorted((defect, good), key=len)
    few = np.sort(few)
    below = few.searchsorted(many, "left").sum(dtype=np.int64)
    up_to = few.searchsorted(many, "right").sum(dtype=np.int64)
    won_by_many = (below + up_to) / 2 / (len(few) * len(many))
    return 100 * float(won_by_many if many is defect else 1 - won_by_many)


def image_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Image-level metrics of labels [N] and scores [N]."""
    aupr, f1max = precision_recall(labels, scores)
    return {
        "image_auroc": auroc(labels, scores),
        "image_aupr": aupr,
        "image_f1max": f1max,
    }


def pixel_metrics(masks: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    """Pixel-level metrics of masks and anomaly maps, both [N, R, R]."""
    aupr, f1max = precision_recall(masks, maps)
    return {
        "pixel_auroc": auroc(masks, maps),
        "pixel_aupr": aupr,
        "pixel_f1max": f1max,
        "aupro": aupro(masks, maps),
    }


def precision_recall(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Average precision, and the best F1 over all thresholds."""
    labels, scores = labels.ravel().astype(bool), scores.ravel()
    if not labels.any():
        return float("nan"), float("nan")
    order = np.argsort(-scores, kind="stable")
    last = _last_of_ties(scores[order])
    hits = np.cumsum(labels[order])[last]
    precision, recall = hits / (last + 1), hits / hits[-1]
    average = np.sum(precision * np.diff(recall, prepend=0))
    f1 = 2 * hits / (last + 1 + hits[-1])
    return 100 * float(average), 100 * float(f1.max())


def aupro(masks: np.ndarray, maps: np.ndarray, limit: float = FPR_LIMIT) -> float:
    """Area under the per-region overlap curve up to a false positive rate of `limit`.

    Every 8-connected defect region counts the same, whatever its area (Bergmann et
    al., IJCV 2021). Scaled so that a perfect map gives 100.
    """
    overlap, false = _region_weights(masks), (masks == 0).ravel()
    if not overlap.any() or not false.any():
        return float("nan")
    scores = maps.ravel()
    order = np.argsort(-scores, kind="stable")
    last = _last_of_ties(scores[order])
    fpr = np.cumsum(false[order])[last] / false.sum()
    pro = np.cumsum(overlap.ravel()[order])[last]
    return 100 * _area_up_to(np.r_[0, fpr], np.r_[0, pro], limit) / limit


def _region_weights(masks: np.ndarray) -> np.ndarray:
    """Weights [N, R, R] that sum to 1, shared evenly by regions, then by pixels."""
    weights = np.zeros(masks.shape)
    for mask, weight in zip(masks.astype(np.uint8), weights, strict=True):
        _, regions = cv2.connectedComponents(mask, connectivity=8)
        areas = np.bincount(regions.ravel())
        weight[mask > 0] = 1 / areas[regions[mask > 0]]
    total = weights.sum()
    return weights / total if total else weights


def _area_up_to(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    inside = x <= limit
    end = np.interp(limit, x, y)
    return float(np.trapezoid(np.r_[y[inside], end], np.r_[x[inside], limit]))


def _last_of_ties(ordered: np.ndarray) -> np.ndarray:
    """Indices of the last of each run of equal values."""
    return np.r_[np.flatnonzero(np.diff(ordered)), len(ordered) - 1]
