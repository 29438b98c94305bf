"""Nearest neighbours of patch features in a memory bank."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Similarities in one product. On a CPU the product then stays in the cache, on a GPU
# the arithmetic outweighs the launch.
PRODUCT_SIZE = {"cpu": 2**20, "cuda": 2**23}
TRACED = 2**12  # rows of a bank in one product of a graph


class Metric(NamedTuple):
    """A distance as `offset - max(vectors @ rows.T + bias)`.

    query: from patches [P, D] to vectors [P, D] and offset, a number or [P, 1]. bank:
    from a chunk [M, D] to rows [M, D] and bias [M]. All are tensors of their own, so
    that results do not depend on where the features lie in memory; those of float16 are
    float32. pairs: distances [...] of patches [..., D] to rows [..., D], without the
    cancellation of the other formula.
    """

    query: Callable[[Tensor], tuple[Tensor, Tensor | float]]
    bank: Callable[[Tensor], tuple[Tensor, Tensor]]
    pairs: Callable[[Tensor, Tensor], Tensor]


def _precise(vectors: Tensor) -> Tensor:
    return vectors if vectors.dtype == torch.float64 else vectors.float()


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(_precise(vectors), dim=-1)


def _unit_bank(chunk: Tensor) -> tuple[Tensor, Tensor]:
    rows = _unit(chunk)
    return rows, rows.new_zeros(len(rows))


def _squared_query(patches: Tensor) -> tuple[Tensor, Tensor]:
    patches = _precise(patches)
    return 2 * patches, patches.square().sum(-1, keepdim=True)


def _squared_bank(chunk: Tensor) -> tuple[Tensor, Tensor]:
    rows = _precise(chunk).clone()
    return rows, -rows.square().sum(-1)


def _squared(patches: Tensor, rows: Tensor) -> Tensor:
    return (_precise(patches) - rows).square().sum(-1)


METRICS = {
    # 1 - cosine
    "cosine": Metric(
        query=lambda patches: (_unit(patches), 1.0),
        bank=_unit_bank,
        pairs=lambda patches, rows: _squared(_unit(patches), rows) / 2,
    ),
    # squared Euclidean distance, |a|^2 + |b|^2 - 2ab
    "squared": Metric(query=_squared_query, bank=_squared_bank, pairs=_squared),
}


def nearest(
    patches: Tensor, chunks: Sequence[Tensor], metric: str, neighbours: int = 1
) -> Iterator[Tensor]:
    """Distances of patches to a growing memory bank, float32 [n, P] after each chunk.

    A distance is the mean of those to the `neighbours` nearest rows of the chunks so
    far, or to all of them while they are fewer. patches: [n, P, D] of n images, of any
    floating type and device. chunks: of the bank, each [M, D] with M > 0, on the device
    of the search. metric: `cosine`, 1 - cosine, or `squared`, the squared Euclidean
    distance.

    The result after a chunk has the same bits whatever chunks follow, and an image's
    whatever images stand beside it: images are searched for one by one.
    """
    if torch.compiler.is_exporting():
        yield from _traced(patches, chunks, METRICS[metric], neighbours)
        return
    of_query, of_bank, _ = METRICS[metric]
    largest = [torch.empty(patches.shape[1], 0)] * len(patches)
    for chunk in chunks:
        rows, bias = of_bank(chunk)
        distances = torch.empty(patches.shape[:2], device=rows.device)
        for image, found in enumerate(largest):
            vectors, offset = of_query(patches[image].to(rows.device))
            found = _largest(vectors, rows, bias, neighbours, found.to(rows.device))
            distances[image] = (offset - found).clamp(min=0).mean(-1)
            largest[image] = found
        yield distances


def _traced(
    patches: Tensor, chunks: Sequence[Tensor], metric: Metric, neighbours: int
) -> Iterator[Tensor]:
    """`nearest` of any number of images at once, for a graph."""
    vectors, _ = metric.query(patches)
    rows, bias, largest, places = [], [], [], []
    for own, added in map(metric.bank, chunks):
        first = sum(map(len, rows))
        rows, bias = [*rows, *own.split(TRACED)], [*bias, *added.split(TRACED)]
        for index in range(len(places), len(rows)):
            product = vectors @ rows[index].T + bias[index]  # (B, P, m)
            found = product.topk(min(neighbours, product.shape[-1]))
            largest.append(found.values)
            places.append(found.indices + first)
            first += len(rows[index])
        chosen = torch.cat(largest, -1)
        count = min(neighbours, chosen.shape[-1])
        near = torch.cat(places, -1).gather(-1, chosen.topk(count).indices)
        yield metric.pairs(patches[:, :, None], torch.cat(rows)[near]).mean(-1)


def _largest(
    vectors: Tensor, rows: Tensor, bias: Tensor, count: int, found: Tensor
) -> Tensor:
    """Largest similarities of vectors [P, D] to rows [M, D] and those found, [P, k]."""
    tile = max(1, PRODUCT_SIZE[rows.device.type] // len(vectors))  # rows
    buffer = vectors.new_empty(len(vectors) * min(tile, len(rows)))
    candidates = [found]
    for part, added in zip(rows.split(tile), bias.split(tile), strict=True):
        product = buffer[: len(vectors) * len(part)].view(len(vectors), len(part))
        torch.addmm(added, vectors, part.T, out=product)  # (P, tile)
        candidates.append(_top(product, count))
    return _top(torch.cat(candidates, 1), count)


def _top(values: Tensor, count: int) -> Tensor:
    """The `count` largest of each row, or all where there are fewer, descending."""
    if count == 1:
        return values.amax(-1, keepdim=True)  # several times as fast as topk
    return values.topk(min(count, values.shape[-1])).values


def nearest_in_each(
    patches: Tensor, banks: Sequence[Sequence[Tensor]], metric: str, neighbours: int = 1
) -> list[Tensor]:
    """Distances of patches [n, P, D] to several banks, float32 [n, P] each.

    banks: each of k chunks [M, D] for `nearest`. One search through a bank also serves
    those that are its first chunks, as the 1, 2 and 4 shots of one draw are.
    """
    found = {}
    for whole in sorted(banks, key=len, reverse=True):
        pending = [i for i in range(len(banks)) if i not in found]
        nested = [i for i in pending if _begins(banks[i], whole)]
        if nested:
            steps = dict(enumerate(nearest(patches, whole, metric, neighbours), 1))
            found |= {i: steps[len(banks[i])] for i in nested}
    return [found[i] for i in range(len(banks))]


def _begins(bank: Sequence[Tensor], whole: Sequence[Tensor]) -> bool:
    return bank is whole or all(map(torch.equal, bank, whole))
