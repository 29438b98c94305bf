"""Pixel metrics of pictures of any sizes, exact, in bounded memory.

They are those of `metrics`. All follow from two numbers at each distinct score of the
defective pixels: how many good pixels score higher, and how many at least as high.
So only defective pixels, a few percent of all, are kept in order; good ones are sorted
block by block, counted and dropped. Where more than BLOCK pixels are defective, their
scores are taken in ranges of at most so many, from the highest down, with two passes
over the maps for each range; equal scores are never in two ranges.

Memory, beside the masks and a few copies of one map: up to 100 bytes for each pixel of
a block, 0.8 GB; more only where more defective pixels than that share one score.
Nothing is written to the disk.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fsad.data.masks import GOOD
from fsad.evaluation.metrics import METRICS, defective, label_regions

BLOCK = 2**23  # pixels that are sorted at once
CELL_BITS = 20  # 1 million cells
BITS = 32  # of a score, and of the number of a region, in a key


class Pictures(NamedTuple):
    """Masks and anomaly maps of pictures.

    masks: uint8 [H, W] each, 0 good, 1 defective, 255 does not count. full_map: from
    the index of a picture to its map float32 [H, W]; called again in every pass.
    """

    masks: Sequence[np.ndarray]
    full_map: Callable[[int], np.ndarray]


class Thresholds(NamedTuple):
    """Pixels at or above distinct scores of defective pixels, in falling order.

    good, defects: int64 [T + 1], the first of them above all T scores. above: int64
    [T], good pixels above each score. overlap: float64 [T + 1], mean share of a region.
    """

    good: np.ndarray
    defects: np.ndarray
    above: np.ndarray
    overlap: np.ndarray


def pixel_auroc(pictures: Pictures, block: int = BLOCK) -> float:
    """`metrics.pixel_auroc` of pictures."""
    good = sum(int((mask == GOOD).sum()) for mask in pictures.masks)
    defects = sum(int(defective(mask).sum()) for mask in pictures.masks)
    if not good or not defects:
        return float("nan")
    areas = np.array([good, defects])  # all defects as one region
    steps = thresholds(pictures, lambda index: 1, areas, block)
    return 50 * sum(_won_twice(step, good) for step in steps) / (good * defects)


def pixel_metrics(
    pictures: Pictures, fpr_limit: float = 0.3, block: int = BLOCK
) -> dict[str, float]:
    """`metrics.pixel_metrics` of pictures."""
    number, areas = _regions(pictures.masks)
    good, defects = int(areas[0]), int(areas[1:].sum())
    if not good or not defects:
        return dict.fromkeys(METRICS["seg"], float("nan"))
    won_twice, precision, f1, area = 0, 0.0, 0.0, 0.0
    for step in thresholds(pictures, number, areas, block):
        won_twice += _won_twice(step, good)
        precision += _precision(step, defects)
        f1 = max(f1, _best_f1(step, defects))
        area += _area(step, good, fpr_limit)
    # Good pixels that score lower than all defects.
    area += step.overlap[-1] * max(0, fpr_limit - step.good[-1] / good)
    aupro = 100 * float(area) / fpr_limit
    values = 50 * won_twice / (good * defects), 100 * precision, 100 * f1, aupro
    return dict(zip(METRICS["seg"], values, strict=True))


def _won_twice(step: Thresholds, good: int) -> int:
    """Twice the pairs in which the defect scores higher, where equal scores half."""
    below = 2 * good - step.above - step.good[1:]
    return int(np.sum(np.diff(step.defects) * below))


def _precision(step: Thresholds, defects: int) -> float:
    """Part of the average precision."""
    precision = step.defects[1:] / (step.good + step.defects)[1:]
    return float(np.sum(precision * np.diff(step.defects / defects)))


def _best_f1(step: Thresholds, defects: int) -> float:
    return float((2 * step.defects / (step.good + step.defects + defects)).max())


def _area(step: Thresholds, good: int, limit: float) -> float:
    """Area under the per-region overlap, up to a false positive rate of `limit`."""
    # The overlap stays while good pixels alone are added, then grows.
    places = np.stack([step.above, step.good[1:]], 1).ravel()
    rates = np.r_[step.good[0], places] / good
    overlap = np.repeat(step.overlap, 2)[:-1]
    inside, end = rates <= limit, min(limit, rates[-1])
    y = np.r_[overlap[inside], np.interp(end, rates, overlap)]
    return float(np.trapezoid(y, np.r_[rates[inside], end]))


def _regions(masks: Sequence[np.ndarray]) -> tuple[Callable, np.ndarray]:
    """Number of good pixels and area of each region, int64 [1 + regions].

    Also a function from the index of a picture to the numbers of the regions that its
    defective pixels belong to, int64 [n]. They run on through the pictures.
    """
    first, areas, good = [], [], 0

    def numbered(index: int) -> np.ndarray:
        mask = masks[index]
        return label_regions(mask[None])[0][defective(mask)].astype(np.int64)

    for index, mask in enumerate(masks):
        good += np.count_nonzero(mask == GOOD)
        first.append(len(areas))
        areas.extend(np.bincount(numbered(index))[1:].tolist())
    return lambda index: numbered(index) + first[index], np.array([good, *areas])


def thresholds(
    pictures: Pictures, number: Callable, areas: np.ndarray, block: int
) -> Iterator[Thresholds]:
    """Counts at all distinct scores of defective pixels, range by range.

    number: from the index of a picture to the regions of its defective pixels. areas:
    int64 [1 + regions], the first is the number of good pixels.
    """
    share = np.r_[0, 1 / areas[1:]] / (len(areas) - 1)
    good, defects, overlap, end = 0, 0, 0.0, 2 ** (2 * BITS) - 1
    while defects < areas[1:].sum():
        keys = _highest(_defect_keys(pictures, number, end), block)[::-1]
        scores = (keys >> BITS).astype(np.uint32)
        ties = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        numbers = (keys & (2**BITS - 1)).astype(np.int64)
        above, at = _count_good(pictures, scores[ties][::-1], block)
        sums = np.cumsum(np.r_[overlap, share[numbers]])[1:][ties]
        step = Thresholds(
            np.r_[good, at],
            np.r_[defects, defects + ties + 1],
            above,
            np.r_[overlap, sums],
        )
        yield step
        good, defects, overlap = step.good[-1], step.defects[-1], step.overlap[-1]
        end = int(scores[-1]) << BITS


def _defect_keys(pictures: Pictures, number: Callable, end: int) -> Iterator:
    """Keys below `end` of the defective pixels of each picture that has any, uint64.

    A key is a score and, below it, the number of a region.
    """
    for index, mask in enumerate(pictures.masks):
        marked = defective(mask)
        if marked.any():
            scores = _ordered(pictures.full_map(index)[marked]).astype(np.uint64)
            keys = scores << BITS | np.asarray(number(index), np.uint64)
            yield keys[keys < end]


def _highest(parts: Iterable[np.ndarray], block: int) -> np.ndarray:
    """Keys of the highest scores among all parts, sorted.

    They are `block` keys or fewer, since equal scores stay together; more only if the
    highest score alone has more.
    """
    kept, added, floor = [], 0, 0
    for part in parts:
        kept.append(part[part >= floor])
        added += len(kept[-1])
        if added > block:
            keys, floor = _cut(np.concatenate(kept), block, floor)
            kept, added = [keys], 0
    return _cut(np.concatenate(kept), block, floor)[0]


def _cut(keys: np.ndarray, block: int, floor: int) -> tuple[np.ndarray, int]:
    """Sort keys and keep the highest, see `_highest`; with the lowest that may join."""
    keys.sort()
    if len(keys) > block:
        score, highest = (int(keys[place]) >> BITS for place in (-block - 1, -1))
        floor = min(score + 1, highest) << BITS
    return keys[np.searchsorted(keys, np.uint64(floor)) :], floor


def _count_good(
    pictures: Pictures, scores: np.ndarray, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Good pixels above, and at or above, each of distinct ordered scores.

    scores: uint32 [T], rising, see `_ordered`. Returns two int64 [T], in falling order
    of the scores.
    """
    cells = _cells(scores)
    above, at = np.zeros((2, len(scores)), np.int64)
    for values in _joined(_near_scores(pictures, cells), block):
        values.sort()
        at += len(values) - np.searchsorted(values, scores, "left")
        above += len(values) - np.searchsorted(values, scores, "right")
    alone = cells.alone[::-1].cumsum()[::-1][_cell_of(cells, scores)]
    return (above + alone)[::-1], (at + alone)[::-1]


class Cells(NamedTuple):
    """Cells of equal width that ordered scores fall into, from `low` on.

    Most good pixels are in cells without a score of a defective pixel; these are
    counted, and need not be sorted. is_near: bool [C], whether a cell has such a score.
    alone: int64 [C], good pixels counted so far in the cells that have none.
    """

    low: int
    shift: int
    is_near: np.ndarray
    alone: np.ndarray


def _cells(scores: np.ndarray) -> Cells:
    low, high = int(scores[0]), int(scores[-1])
    shift = max(0, (high - low).bit_length() - CELL_BITS)
    count = ((high - low) >> shift) + 2  # the last one for all that is higher
    cells = Cells(low, shift, np.zeros(count, bool), np.zeros(count, np.int64))
    cells.is_near[_cell_of(cells, scores)] = True
    return cells


def _cell_of(cells: Cells, scores: np.ndarray) -> np.ndarray:
    found = (scores - np.uint32(cells.low)) >> np.uint32(cells.shift)
    return np.minimum(found, np.uint32(len(cells.alone) - 1))


def _near_scores(pictures: Pictures, cells: Cells) -> Iterator[np.ndarray]:
    """Ordered scores of good pixels in cells that are near, of each picture.

    Good pixels in other cells are counted in `cells.alone`.
    """
    for index, mask in enumerate(pictures.masks):
        scores = _ordered(pictures.full_map(index)[mask == GOOD])
        scores = scores[scores >= cells.low]
        found = _cell_of(cells, scores)
        is_near = cells.is_near[found]
        cells.alone[:] += np.bincount(found[~is_near], minlength=len(cells.alone))
        yield scores[is_near]


def _joined(parts: Iterable[np.ndarray], block: int) -> Iterator[np.ndarray]:
    """Parts in arrays of `block` values, or a little more."""
    held, size = [], 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= block:
            yield np.concatenate(held)
            held, size = [], 0
    if size:
        yield np.concatenate(held)


def _ordered(scores: np.ndarray) -> np.ndarray:
    """Numbers uint32 in the order of scores float32 [n], equal for equal scores."""
    if np.isnan(scores).any():
        raise ValueError("scores must not be nan")
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
