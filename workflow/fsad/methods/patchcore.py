"""PatchCore (Roth et al., CVPR 2022): distance to a memory bank of patch features.

As the official code (amazon-science/patchcore-inspection) does it: squared Euclidean
distances, and no reweighting of the score of an image.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fsad.backbones.devices import check_device
from fsad.methods.base import Features, Prediction, Step
from fsad.methods.maps import side
from fsad.methods.memory import nearest
from fsad.methods.patches import kept
from fsad.methods.tiles import (
    NEAR,
    Place,
    Search,
    bank_of,
    joined,
    nearest_patches,
    tile_at,
    tile_places,
)

SIGMA = 4 / 256  # published sigma, as a share of the side of a map
PROJECTED = 128  # width in which the coreset is selected
START_POINTS = 10
KEPT = "patch", "inside"  # features of the support images


class PatchCore(NamedTuple):
    """PatchCore for one class; options: `coreset`, `neighbours`."""

    task: str
    options: Mapping

    def fit(self, support: Features, key: tuple[int, ...]) -> Iterator[Step]:
        """Keep the `patch` features [k, gh, gw, T] of the support images, or a coreset.

        key: of the random draws.
        """
        learned, share = {}, self.options["coreset"]
        if share < 1:
            support = {name: torch.as_tensor(x) for name, x in support.items()}
            by_tile = self.options["position"] == NEAR and support["patch"].ndim == 6
            select = _tile_coresets if by_tile else _coreset
            learned = select(support, share, key)
        yield Step(1, {}, restore(self.task, self.options, support, learned))


def _coreset(
    support: Features, share: float, key: tuple[int, ...], place: Place | None = None
) -> dict[str, Tensor]:
    rows, images = _rows(support, place)
    if not len(rows):  # a tile outside the region of interest
        return {"bank": rows, "images": images}
    chosen = greedy_coreset(rows, share, *coreset_draws(rows.shape, key))
    return {"bank": rows[chosen], "images": images[chosen]}


def _rows(support: Features, place: Place | None) -> tuple[Tensor, Tensor]:
    """Patches of all images [M, T], and the number of the image of each, int32 [M]."""
    banks = [*bank_of(support, "patch", place)]
    counts = torch.tensor([len(bank) for bank in banks])
    numbers = torch.arange(len(banks), dtype=torch.int32)
    return torch.cat(banks), numbers.repeat_interleave(counts)


def _tile_coresets(
    support: Features, share: float, key: tuple[int, ...]
) -> dict[str, Tensor]:
    """A coreset of the patches of each tile, and their tiles."""
    places = [*tile_places(support["patch"].shape[1:3])]
    found = [_coreset(support, share, key, place) for _, place in places]
    return _of_tiles([tile for tile, _ in places], found)


def _of_tiles(
    tiles: Sequence[tuple[int, int]], found: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Coresets of tiles as one, with the tile of each row."""
    counts = torch.tensor([len(own["bank"]) for own in found])
    rows = {name: torch.cat([own[name] for own in found]) for name in found[0]}
    return rows | {"tiles": torch.tensor(tiles).repeat_interleave(counts, 0)}


class PatchCoreDetector(NamedTuple):
    """Memory bank of one class.

    support: `patch` [k, gh, gw, T] without a coreset, else none. learned: `bank` [m, T]
    with a coreset, `images` [m], the number of the image of each row, and `tiles`
    [m, 2] where each tile has a coreset; else none.
    """

    search: Search
    sigma: float
    support: dict[str, Tensor]
    learned: dict[str, Tensor]

    def bank(self, place: Place | None) -> Sequence[Tensor]:
        """The memory bank in chunks, k of [M, T] or one of [m, T], see `tiles.Bank`."""
        if not self.learned:
            return bank_of(self.support, "patch", place)
        bank, tiles = self.learned["bank"], self.learned.get("tiles")
        if place is not None:
            tile = tile_at(place, (tiles.amax(0) + 1).tolist())
            bank = bank[(tiles == tiles.new_tensor(tile)).all(1)]
        return bank[None]

    def observe(self, features: Features) -> dict[str, Tensor]:
        """`distances` [n, gh, gw] of patches to the memory bank, squared."""
        (observed,) = observe_all([self], features)
        return observed

    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """Distances as maps, and their maxima as scores."""
        return self.scored(Prediction(None, observed["distances"], {}))

    def scored(self, mean: Prediction) -> Prediction:
        """The maxima of maps as scores."""
        return mean._replace(scores=mean.maps.amax((1, 2)))


def create(task: str, options: Mapping, text: None) -> PatchCore:
    """PatchCore for a class, on the device of the options."""
    check_device(options["device"])
    return PatchCore(task, options)


def restore(
    task: str, options: Mapping, support: Features, learned: Features
) -> PatchCoreDetector:
    """A detector from features of its support images, or from a coreset of them."""
    device = options["device"]
    support = {} if learned else kept(support, KEPT, device)
    learned = kept(learned, learned, device)
    sigma = SIGMA * side(options["resolution"])
    search = Search("squared", options["position"], options["neighbours"])
    return PatchCoreDetector(search, sigma, support, learned)


@torch.inference_mode()
def observe_all(
    detectors: Sequence[PatchCoreDetector], features: Features
) -> list[dict[str, Tensor]]:
    """What `observe` of each detector gives; one search serves nested banks."""
    banks, search = [detector.bank for detector in detectors], detectors[0].search
    found = nearest_patches(features, "patch", banks, search)
    return [{"distances": joined(distances, features)} for distances in found]


def grown(
    detector: PatchCoreDetector, features: Features, options: Mapping, first: int
) -> PatchCoreDetector:
    """A detector whose coreset goes on with the patches of more support images.

    features: of these images. options: `coreset`, the share of their patches that is
    taken. first: number of support images before.
    """
    share = options["coreset"]
    new = {name: torch.as_tensor(x) for name, x in features.items()}
    places = [(None, None)]
    if "tiles" in detector.learned:
        places = [*tile_places(new["patch"].shape[1:3])]
    found = [_grown(detector, new, share, place) for _, place in places]
    found = [own | {"images": own["images"] + first} for own in found]
    tiles = [tile for tile, _ in places]
    added = found[0] if tiles == [None] else _of_tiles(tiles, found)
    known = detector.learned
    learned = {n: torch.cat([known[n], x.to(known[n])]) for n, x in added.items()}
    return detector._replace(learned=learned)


def _grown(
    detector: PatchCoreDetector, new: Features, share: float, place: Place | None
) -> dict[str, Tensor]:
    """Rows of new patches that are the farthest from a bank and from each other."""
    rows, images = _rows(new, place)
    (bank,) = detector.bank(place)
    if not len(rows):
        return {"bank": rows, "images": images}
    (distances,) = nearest(rows[None], [bank], "squared")
    count = max(1, int(share * len(rows)))
    chosen = _farthest(rows.float(), distances[0].sqrt().to(rows.device), count)
    return {"bank": rows[chosen], "images": images[chosen]}


def greedy_coreset(
    features: Tensor, share: float, projection: Tensor | None, start_points: np.ndarray
) -> Tensor:
    """Indices int64 of `int(share * n)` features, one or more, that cover the others.

    Each is the farthest from those taken before. features: [n, T]. projection:
    [d, T], taken to this width first, or None. start_points: indices of features, which
    are not taken themselves; the first distance of a feature is the mean of those to
    them, and stays an upper bound.
    """
    points = features.float()
    points = points if projection is None else points @ projection.T
    starts = [(points - points[start]).norm(dim=1) for start in start_points]
    count = max(1, int(share * len(points)))
    return _farthest(points, torch.stack(starts).mean(0), count)


def _farthest(points: Tensor, distances: Tensor, count: int) -> Tensor:
    """Indices int64 of points [n, T], each the farthest from those before.

    distances: [n], to what was taken before them.
    """
    indices = torch.empty(count, dtype=torch.int64)
    for place in range(count):
        indices[place] = taken = distances.argmax()
        distances = torch.minimum(distances, (points - points[taken]).norm(dim=1))
    return indices


def coreset_draws(
    shape: Sequence[int], key: tuple[int, ...]
) -> tuple[Tensor | None, np.ndarray]:
    """Projection float32 [128, T] and start points of features of shape [n, T].

    Features of width 128 are not projected. key: of the generator.
    """
    (count, width), generator = shape, np.random.default_rng(key)
    limit, projection = width**-0.5, None
    if width != PROJECTED:
        drawn = generator.uniform(-limit, limit, (PROJECTED, width))
        projection = torch.from_numpy(drawn.astype(np.float32))
    starts = generator.choice(count, min(START_POINTS, count), replace=False)
    return projection, starts
