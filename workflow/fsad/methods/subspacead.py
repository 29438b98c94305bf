"""SubspaceAD (CLendering/SubspaceAD): distance of patches to a linear subspace.

The subspace is spanned by the principal components of the patch features of support
images and their rotated copies.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fsad.backbones.devices import check_device
from fsad.methods.base import Features, Prediction, Step
from fsad.methods.patches import top_mean, upsample

SIGMA = 0.81 / 672  # of the published blur of 3 pixels, as a share of the side of a map
TOP_SHARE = 0.01  # of the pixels, whose mean is the score of an image
BLOCK = 16  # full maps at once


class Moments(NamedTuple):
    """Number of patches, their sum [D], and the sum of their outer products [D, D]."""

    count: float
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
        patches of all copies of an image.
        """
        names = "count", "sum", "outer"
        count, *sums = (torch.as_tensor(support[name]).cpu().sum(0) for name in names)
        moments = Moments(count.item(), *sums)
        fitted = subspace(moments, self.options["explained_variance"])
        learned = {"mean": fitted.mean.float(), "components": fitted.components.float()}
        yield Step(1, {}, restore(self.task, self.options, {}, learned))


class SubspaceADDetector(NamedTuple):
    """Subspace of one class; learned: `mean` [D], `components` [D, r], float32."""

    resolution: int
    sigma: float
    support: dict[str, Tensor]
    learned: dict[str, Tensor]

    @torch.inference_mode()
    def observe(self, features: Features) -> dict[str, Tensor]:
        """`residuals` [n, gh, gw] of patches from the subspace."""
        patch = torch.as_tensor(features["patch"])
        return {"residuals": residuals(patch, **self.learned)}

    @torch.inference_mode()
    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """Residuals as maps, and the mean of the largest pixels as scores."""
        maps = observed["residuals"]
        blocks = (upsample(m, self.resolution, self.sigma) for m in maps.split(BLOCK))
        scores = torch.cat([pixel_scores(full) for full in blocks])
        return Prediction(scores, maps, {})


def create(task: str, options: Mapping, text: None) -> SubspaceAD:
    """SubspaceAD for a class, on the device of the options."""
    check_device(options["device"])
    return SubspaceAD(task, options)


def restore(
    task: str, options: Mapping, support: Features, learned: Features
) -> SubspaceADDetector:
    """A detector from its subspace; features of support images are not needed."""
    names, device = ("mean", "components"), options["device"]
    tensors = {name: torch.as_tensor(learned[name]).to(device) for name in names}
    sigma = SIGMA * options["resolution"]
    return SubspaceADDetector(options["resolution"], sigma, {}, tensors)


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
    count, total, outer = moments
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
    """Squared distances of patches [n, gh, gw, D] from a subspace, [n, gh, gw].

    mean [D], components [D, r]: float32, on the device of the computation.
    """
    found = mean.new_empty(patch.shape[:3])
    for image, values in enumerate(patch):
        centred = values.to(mean.device).float() - mean  # (gh, gw, D)
        inside = centred @ components @ components.T
        found[image] = (centred - inside).square().sum(-1)
    return found


def pixel_scores(full: Tensor) -> Tensor:
    """Mean of the largest 1 % of the pixels of full maps [n, R, R], [n]."""
    return top_mean(full.flatten(1), TOP_SHARE)
