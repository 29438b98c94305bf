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
from fsad.methods.memory import nearest_in_each

SIGMA = 4 / 256  # published sigma, as a share of the side of a map
PROJECTED = 128  # width in which the coreset is selected
START_POINTS = 10


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
            patches = torch.as_tensor(support["patch"]).flatten(0, 2)
            draws = coreset_draws(patches.shape, key)
            learned = {"bank": patches[greedy_coreset(patches, share, *draws)]}
        yield Step(1, {}, restore(self.task, self.options, support, learned))


class PatchCoreDetector(NamedTuple):
    """Memory bank of one class.

    support: `patch` [k, gh, gw, T] without a coreset, else none. learned: `bank` [m, T]
    with a coreset, else none.
    """

    neighbours: int
    sigma: float
    support: dict[str, Tensor]
    learned: dict[str, Tensor]

    def bank(self) -> Tensor:
        """The memory bank in chunks, [k, gh * gw, T] or [1, m, T]."""
        if self.learned:
            return self.learned["bank"][None]
        return self.support["patch"].flatten(1, 2)

    def observe(self, features: Features) -> dict[str, Tensor]:
        """`distances` [n, gh, gw] of patches to the memory bank, squared."""
        (observed,) = observe_all([self], features)
        return observed

    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """Distances as maps, and their maxima as scores."""
        distances = observed["distances"]
        return Prediction(distances.amax((1, 2)), distances, {})


def create(task: str, options: Mapping, text: None) -> PatchCore:
    """PatchCore for a class, on the device of the options."""
    check_device(options["device"])
    return PatchCore(task, options)


def restore(
    task: str, options: Mapping, support: Features, learned: Features
) -> PatchCoreDetector:
    """A detector from features of its support images, or from a coreset of them."""
    kept = {} if learned else {"patch": support["patch"]}
    support, learned = (
        {name: torch.as_tensor(x).to(options["device"]) for name, x in group.items()}
        for group in (kept, learned)
    )
    sigma = SIGMA * options["resolution"]
    return PatchCoreDetector(options["neighbours"], sigma, support, learned)


@torch.inference_mode()
def observe_all(
    detectors: Sequence[PatchCoreDetector], features: Features
) -> list[dict[str, Tensor]]:
    """What `observe` of each detector gives; one search serves nested banks."""
    patch = torch.as_tensor(features["patch"])
    grid, banks = patch.shape[1:3], [detector.bank() for detector in detectors]
    neighbours = detectors[0].neighbours
    found = nearest_in_each(patch.flatten(1, 2), banks, "squared", neighbours)
    return [{"distances": distances.unflatten(1, grid)} for distances in found]


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
    distances = torch.stack(starts).mean(0)
    indices = torch.empty(max(1, int(share * len(points))), dtype=torch.int64)
    for place in range(len(indices)):
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
