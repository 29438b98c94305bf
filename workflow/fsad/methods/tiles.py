"""Tiles of images: patches that are compared with each other, and one map of all."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fsad.backbones.features import SPANS
from fsad.data.tiles import INSIDE
from fsad.methods.base import Features
from fsad.methods.memory import nearest_in_each

NEAR = "near"
EDGE = 1e-6  # of a tile, so that rounding leaves no gap between two
# Centre of a tile, as shares of the height and width: images of other sizes may have
# other numbers of tiles.
Place = tuple[float, float]
# Of a tile, or of all for None, the patches of each support image, [M, D] each.
Bank = Callable[[Place | None], Sequence[Tensor]]


class Search(NamedTuple):
    """How patches are searched for.

    metric, neighbours: see `memory.nearest`. position: `any` searches among the patches
    of all tiles, `near` among those of the same tile.
    """

    metric: str
    position: str
    neighbours: int = 1


def nearest_patches(
    features: Features, name: str, banks: Sequence[Bank], search: Search
) -> list[Tensor]:
    """Distances of patches to the memory banks of detectors, [n, ...] each.

    name: of the patches in features, [n, gh, gw, D], or of tiles [n, R, C, gh, gw, D].
    Patches outside a region of interest, see `inside`, have the distance 0.
    """
    patches, inside = torch.as_tensor(features[name]), features.get(INSIDE)
    found = _all_nearest(patches, inside, banks, search)
    if inside is None:
        return found
    return [x * torch.as_tensor(inside).to(x.device) for x in found]


def _all_nearest(
    patches: Tensor, inside: Tensor | None, banks: Sequence[Bank], search: Search
) -> list[Tensor]:
    metric, position, count = search
    if position != NEAR or patches.ndim == 4:
        return _nearest(patches, [bank(None) for bank in banks], metric, count)
    found = [patches.new_zeros(patches.shape[:-1], dtype=torch.float32) for _ in banks]
    for (row, column), place in tile_places(patches.shape[1:3]):
        if inside is not None and not inside[:, row, column].any():
            continue
        near = [bank(place) for bank in banks]
        parts = _nearest(patches[:, row, column], near, metric, count)
        for whole, part in zip(found, parts, strict=True):
            whole[:, row, column] = part
    return found


def _nearest(
    patches: Tensor, banks: Sequence[Sequence[Tensor]], metric: str, count: int
) -> list[Tensor]:
    flat = patches.flatten(1, -2)
    found = nearest_in_each(flat, banks, metric, count)
    return [distances.unflatten(1, patches.shape[1:-1]) for distances in found]


def bank_of(support: Features, name: str, place: Place | None) -> Sequence[Tensor]:
    """Patches of k support images in a region of interest, [M, D] each.

    name: of the patches in features, [k, ..., gh, gw, D], or of tiles
    [k, ..., R, C, gh, gw, D]. place: of the one tile that is taken, or None for all.
    """
    patches, inside = support[name], support.get(INSIDE)
    if place is not None:
        row, column = tile_at(place, patches.shape[-5:-3])
        patches = patches[..., row, column, :, :, :]
        inside = None if inside is None else inside[..., row, column, :, :]
    patches = patches.flatten(1, -2)
    if inside is None:
        return patches
    rows = map(np.flatnonzero, np.asarray(inside))
    places = (torch.from_numpy(row).to(patches.device) for row in rows)
    return [x[place] for x, place in zip(patches, places, strict=True)]


def share_inside(support: Features) -> float:
    """Share of the patches of a support image that lie in a region of interest."""
    if INSIDE not in support:
        return 1.0
    inside = torch.as_tensor(support[INSIDE])[0]
    # Of the copies of an image the first is the image itself.
    own = inside[0] if inside.ndim in (3, 5) else inside
    return own.float().mean().item()


def tile_places(grid: Sequence[int]) -> Iterator[tuple[tuple[int, int], Place]]:
    """Row and column of each tile of R x C, and its place."""
    rows, columns = grid
    for row, column in product(range(rows), range(columns)):
        yield (row, column), ((row + 0.5) / rows, (column + 0.5) / columns)


def tile_at(place: Place, grid: Sequence[int]) -> tuple[int, int]:
    """Row and column of the tile of R x C at a place."""
    row, column = (int(share * count) for share, count in zip(place, grid, strict=True))
    return row, column


def mosaic(values: Tensor) -> Tensor:
    """Values of patches of tiles [n, R, C, gh, gw, ...], [n, R * gh, C * gw, ...]."""
    return values.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def apart(values: Tensor, grid: Sequence[int]) -> Tensor:
    """Values of `mosaic` [n, R * gh, C * gw] by tile, [n, R, C, gh, gw].

    grid: R, C, gh and gw.
    """
    rows, columns, *cells = grid
    by_row = values.unflatten(1, (rows, cells[0])).unflatten(3, (columns, cells[1]))
    return by_row.transpose(2, 3)


def joined(maps: Tensor, features: Features) -> Tensor:
    """One map [n, rows, columns] of each image, from maps of its tiles.

    maps: [n, R, C, gh, gw], or [n, gh, gw] of whole images, which stay as they are.
    features: those that the maps were made of. Each tile is interpolated on the grid of
    the whole map, and where tiles overlap their mean is taken.
    """
    if maps.ndim == 3:
        return maps
    cells = maps.shape[3:]
    spans = (np.asarray(features[name]) for name in SPANS)
    matrices = map(torch.from_numpy, map(_matrices, spans, cells))
    rows, columns = (matrix.to(maps) for matrix in matrices)
    return rows @ mosaic(maps) @ columns.mT


def of_images(scores: Tensor, features: Features) -> Tensor:
    """Scores of images [n], the highest of their tiles [n, R, C].

    Tiles outside a region of interest do not count; scores are not negative.
    """
    if scores.ndim == 1:
        return scores
    if INSIDE in features:
        inside = torch.as_tensor(features[INSIDE]).to(scores.device)
        scores = scores * inside.any(-1).any(-1)
    return scores.amax((1, 2))


def _matrices(spans: np.ndarray, cells: int) -> np.ndarray:
    """Matrices float32 [n, T * cells, T * cells] from cells of tiles to those of maps.

    spans: of tiles along a side of each image, [n, T, 2], as shares of it.
    """
    count = spans.shape[1] * cells
    found = np.empty((len(spans), count, count), np.float32)
    known = {}
    for matrix, own in zip(found, spans, strict=True):
        key = own.tobytes()
        if key not in known:
            known[key] = _matrix(own.astype(float), cells)
        matrix[:] = known[key]
    return found


def _matrix(spans: np.ndarray, cells: int) -> np.ndarray:
    count = len(spans) * cells
    centres = (np.arange(count) + 0.5) / count
    parts = [_tile_matrix(span, cells, centres) for span in spans]
    matrix = np.concatenate(parts, 1)
    return matrix / matrix.sum(1, keepdims=True)


def _tile_matrix(span: np.ndarray, cells: int, centres: np.ndarray) -> np.ndarray:
    """Weights [count, cells] of the cells of a tile at places that it covers."""
    start, end = span
    places = (centres - start) / (end - start)
    covered = (places > -EDGE) & (places < 1 + EDGE)
    positions = (places * cells - 0.5).clip(0, cells - 1)
    weights = 1 - np.abs(positions[:, None] - np.arange(cells))
    return weights.clip(min=0) * covered[:, None]
