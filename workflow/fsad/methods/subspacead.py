"""SubspaceAD (CLendering/SubspaceAD): distance of patches to a linear subspace.

The subspace is spanned by the principal components of the patch features of support
images and their rotated copies.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fsad.backbones.devices import check_device
from fsad.backbones.tracing import in_blocks
from fsad.data.tiles import INSIDE
from fsad.methods.base import Features, Prediction, Step
from fsad.methods.maps import side
from fsad.methods.patches import kept, top_mean, upsample
from fsad.methods.tiles import NEAR, joined, share_inside, tile_at, tile_places

SIGMA = 0.81 / 672  # of the published blur of 3 pixels, as a share of the side of a map
TOP_SHARE = 0.01  # of the pixels, whose mean is the score of an image
BLOCK = 16  # full maps at once
SUMS = "count", "sum", "outer"  # features of the support images
KEPT = *SUMS, INSIDE


class Moments(NamedTuple):
    """Number of patches, their sum [D], and the sum of their outer products [D, D].

    Of tiles they are [R, C], [R, C, D] and [R, C, D, D].
    """

    count: Tensor | float
    total: Tensor
    outer: Tensor


class Subspace(NamedTuple):
    """Mean [D], eigenvalues [D] (descending) and the first components [D, r]."""

    mean: Tensor
    eigenvalues: Tensor
    components: Tensor


class SubspaceAD(NamedTuple):
    """SubspaceAD for one class; options: `explained_variance`."""

    task: str
    options: Mapping

    def fit(self, support: Features, key: tuple[int, ...]) -> Iterator[Step]:
        """Fit a subspace to moments of the support images.

        support: `count` [k], `sum` [k, D] and `outer` [k, D, D], float64, of the
        patches of all copies of an image; of tiles [k, R, C] and so on.
        """
        sums = Moments(*(torch.as_tensor(support[name]).cpu().sum(0) for name in SUMS))
        share, near = self.options["explained_variance"], self.options["position"]
        if sums.count.ndim == 0 or near != NEAR:
            learned = _learned(subspace(_added(sums), share))
        else:
            tiles = product(*map(range, sums.count.shape))
            own = (Moments(*(x[tile] for x in sums)) for tile in tiles)
            found = [_learned(_subspace_of(moments, share)) for moments in own]
            learned = _of_tiles(found, sums.count.shape)
        share = TOP_SHARE * share_inside(support)
        learned["top_share"] = torch.tensor(share, dtype=torch.float64)
        yield Step(1, {}, restore(self.task, self.options, support, learned))


def _subspace_of(moments: Moments, share: float) -> Subspace:
    """The subspace of a tile; of one outside the region of interest a point."""
    if moments.count > 0:
        return subspace(moments, share)
    width = len(moments.total)
    zeros = moments.total.new_zeros
    return Subspace(zeros(width), zeros(width), zeros(width, 0))


def _added(moments: Moments) -> Moments:
    """Moments of all tiles together, and of images that are not cut as they are."""
    tiles = tuple(range(moments.count.ndim))
    return Moments(*(x.sum(tiles) if tiles else x for x in moments))


def _learned(fitted: Subspace) -> dict[str, Tensor]:
    return {"mean": fitted.mean.float(), "components": fitted.components.float()}


def _of_tiles(
    found: Sequence[Mapping[str, Tensor]], grid: Sequence[int]
) -> dict[str, Tensor]:
    """Subspaces of tiles in one tensor each: fewer components are filled with zeros."""
    most = max(own["components"].shape[1] for own in found)
    padded = [
        F.pad(x["components"], (0, most - x["components"].shape[1])) for x in found
    ]
    parts = {"mean": [own["mean"] for own in found], "components": padded}
    return {name: torch.stack(x).unflatten(0, grid) for name, x in parts.items()}


class SubspaceADDetector(NamedTuple):
    """Subspace of one class; learned: `mean` [D], `components` [D, r], float32, and
    `top_share` of the pixels.

    Where each tile has its own they are [R, C, D] and [R, C, D, r]. support: the sums
    that the subspace was fitted to, on the CPU; it grows by those of more images.
    """

    resolution: int
    sigma: float
    support: dict[str, Tensor]
    learned: dict[str, Tensor]

    @torch.inference_mode()
    def observe(self, features: Features) -> dict[str, Tensor]:
        """`residuals` [n, gh, gw] of patches from the subspace."""
        patch = torch.as_tensor(features["patch"])
        mean, components = self.learned["mean"], self.learned["components"]
        if mean.ndim == 1:
            found = residuals(patch, mean, components)
        else:
            found = mean.new_empty(patch.shape[:-1])
            for (r, c), place in tile_places(patch.shape[1:3]):
                own = tile_at(place, mean.shape[:2])
                parts = patch[:, r, c], mean[own], components[own]
                found[:, r, c] = residuals(*parts)
        if INSIDE in features:
            found = found * torch.as_tensor(features[INSIDE]).to(found.device)
        return {"residuals": joined(found, features)}

    @torch.inference_mode()
    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """Residuals as maps, and the mean of the largest pixels as scores."""
        return self.scored(Prediction(None, observed["residuals"], {}))

    @torch.inference_mode()
    def scored(self, mean: Prediction) -> Prediction:
        """The means of the largest pixels of maps as scores."""
        parts = in_blocks(mean.maps, BLOCK)
        full = (upsample(maps, self.resolution, self.sigma) for maps in parts)
        share = self.learned["top_share"].item()
        scores = torch.cat([top_mean(maps.flatten(1), share) for maps in full])
        return mean._replace(scores=scores)


def create(task: str, options: Mapping, text: None) -> SubspaceAD:
    """SubspaceAD for a class, on the device of the options."""
    check_device(options["device"])
    return SubspaceAD(task, options)


def restore(
    task: str, options: Mapping, support: Features, learned: Features
) -> SubspaceADDetector:
    """A detector from its subspace, and the sums of the support images to grow it."""
    names, device = ("mean", "components", "top_share"), options["device"]
    tensors = {name: torch.as_tensor(learned[name]).to(device) for name in names}
    resolution = side(options["resolution"])
    sums = kept(support, KEPT, "cpu")
    return SubspaceADDetector(resolution, SIGMA * resolution, sums, tensors)


def observe_all(
    detectors: Sequence[SubspaceADDetector], features: Features
) -> list[dict[str, Tensor]]:
    """What `observe` of each detector gives; their subspaces share no work."""
    return [detector.observe(features) for detector in detectors]


def subspace(
    moments: Moments, explained_variance: float, mean: Tensor | None = None
) -> Subspace:
    """Principal components that explain a share of the variance, float64.

    mean: around which the covariance is taken, by default that of the moments. The
    published code draws the rotated copies twice, and takes the mean from one sample
    and the outer products from the other. A subspace has as many components as the
    rank of the covariance at most.
    """
    count, total, outer = float(moments.count), moments.total, moments.outer
    mean = total / count if mean is None else mean
    cross = torch.outer(mean, total)
    covariance = outer - cross - cross.T + count * torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance / max(count - 1, 1))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    shares = values.cumsum(0) / values.sum()
    wanted = int((shares < explained_variance).sum()) + 1
    rank = int((values > 0).sum())
    return Subspace(mean, values, vectors[:, : min(wanted, rank)])


def residuals(patch: Tensor, mean: Tensor, components: Tensor) -> Tensor:
    """Squared distances of patches [n, ..., D] from a subspace, [n, ...].

    mean [D], components [D, r]: float32, on the device of the computation.
    """
    found = []
    for values in in_blocks(patch, 1):
        centred = values.to(mean.device).float() - mean  # (1, ..., D)
        inside = centred @ components @ components.T
        found.append((centred - inside).square().sum(-1))
    return torch.cat(found)


def pixel_scores(full: Tensor) -> Tensor:
    """Mean of the largest 1 % of the pixels of full maps [n, R, R], [n]."""
    return top_mean(full.flatten(1), TOP_SHARE)
