"""AnomalyDINO (Damm et al., WACV 2025): cosine distance to patches of DINOv2.

The memory bank has all patches of the support images and of their rotated copies. The
background of test images may be masked, by the first principal component of their
patch features.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fsad.backbones.devices import check_device
from fsad.methods.base import Features, Prediction, Step
from fsad.methods.maps import side
from fsad.methods.patches import kept, top_mean
from fsad.methods.tiles import (
    Place,
    Search,
    apart,
    bank_of,
    joined,
    mosaic,
    nearest_patches,
    share_inside,
)

SIGMA = 4 / 900  # published sigma, as a share of the side of a typical image
KEPT = "patch", "inside"  # features of the support images
TOP_SHARE = 0.01  # of the patches, whose mean is the score of an image
THRESHOLD = 10  # of the component of the foreground
CENTRE = 0.2, 0.8  # window, as a share of both sides, in which an object is expected
LEAST_SHARE = 0.35  # of the window that is foreground
# Window of the morphology. The published code hands OpenCV the patches as one column,
# so that it acts along the raster order, across the ends of rows.
WINDOWS = {"published": (1, 3), "2d": (3, 3)}


class AnomalyDINO(NamedTuple):
    """AnomalyDINO for one class; options: `mask`, which is none, published or 2d."""

    task: str
    options: Mapping

    def fit(self, support: Features, key: tuple[int, ...]) -> Iterator[Step]:
        """Keep the `patch` features [k, c, gh, gw, D] of c copies of support images."""
        yield Step(1, {}, restore(self.task, self.options, support, {}))


class AnomalyDINODetector(NamedTuple):
    """Memory bank of one class; support: `patch` [k, c, gh, gw, D]."""

    mask: str
    search: Search
    top_share: float
    sigma: float
    support: dict[str, Tensor]
    learned: dict[str, Tensor]

    def observe(self, features: Features) -> dict[str, Tensor]:
        """`distances` [n, gh, gw] of patches to the bank, 0 in the background."""
        (observed,) = observe_all([self], features)
        return observed

    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """Distances as maps, and the mean of the largest as scores."""
        return self.scored(Prediction(None, observed["distances"], {}))

    def scored(self, mean: Prediction) -> Prediction:
        """The means of the largest values of maps as scores."""
        scores = top_mean(mean.maps.flatten(1), self.top_share)
        return mean._replace(scores=scores)

    def bank(self, place: Place | None) -> Sequence[Tensor]:
        """The memory bank in chunks, k of [M, D], see `tiles.Bank`."""
        return bank_of(self.support, "patch", place)


def create(task: str, options: Mapping, text: None) -> AnomalyDINO:
    """AnomalyDINO for a class, on the device of the options."""
    check_device(options["device"])
    return AnomalyDINO(task, options)


def restore(
    task: str, options: Mapping, support: Features, learned: Features
) -> AnomalyDINODetector:
    """A detector from features of its support images."""
    bank = kept(support, KEPT, options["device"])
    sigma = SIGMA * side(options["resolution"])
    search = Search("cosine", options["position"])
    share = TOP_SHARE * share_inside(support)
    return AnomalyDINODetector(options["mask"], search, share, sigma, bank, {})


@torch.inference_mode()
def observe_all(
    detectors: Sequence[AnomalyDINODetector], features: Features
) -> list[dict[str, Tensor]]:
    """What `observe` of each detector gives; one search serves nested banks."""
    banks, (mask, search, *_) = [detector.bank for detector in detectors], detectors[0]
    maps = nearest_patches(features, "patch", banks, search)
    if mask != "none":
        shown = _shown(torch.as_tensor(features["patch"]), mask).to(maps[0].device)
        maps = [distances * shown for distances in maps]
    return [{"distances": joined(distances, features)} for distances in maps]


def _shown(patch: Tensor, how: str) -> Tensor:
    """`foreground` of patches, that of an image as one where it is cut into tiles."""
    if patch.ndim == 4:
        return foreground(patch, how)
    return apart(foreground(mosaic(patch), how), patch.shape[1:5])


def first_component(patch: Tensor) -> Tensor:
    """First principal component of each image's own patches, float32 [n, gh, gw].

    patch: [n, gh, gw, D], not normalised. The loading of largest magnitude is positive,
    as scikit-learn has it.
    """
    values = [_component(image.flatten(0, 1).cpu().double()) for image in patch]
    flat = torch.stack(values) if values else torch.empty(0, *patch.shape[1:3])
    return flat.float().view(patch.shape[:3])


def _component(tokens: Tensor) -> Tensor:
    """First principal component [P] of tokens float64 [P, D]."""
    centred = tokens - tokens.mean(0)
    loadings = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    return centred @ (loadings * loadings[loadings.abs().argmax()].sign())


def foreground(patch: Tensor, how: str) -> Tensor:
    """Patches of the object, bool [n, gh, gw]; patch: [n, gh, gw, D], not normalised.

    The first component above 10, or its negative where that leaves the centre of the
    image mostly background; then dilation and closing with a window of 3. how: along
    the raster order (`published`) or in two dimensions (`2d`).
    """
    component = first_component(patch)
    rows, columns = (slice(*(int(c * n) for c in CENTRE)) for n in patch.shape[1:3])
    shown = component > THRESHOLD
    centre = shown[:, rows, columns].flatten(1)  # (n, window)
    turned = centre.sum(1) <= LEAST_SHARE * centre.shape[1]
    shown = torch.where(turned[:, None, None], -component > THRESHOLD, shown)
    window = WINDOWS[how]
    grid = shown if how == "2d" else shown.flatten(1)[:, None]  # (n, 1, P)
    dilated = _largest_around(grid.float(), window)
    closed = -_largest_around(-_largest_around(dilated, window), window)
    return closed.view(shown.shape) > 0


def _largest_around(maps: Tensor, window: tuple[int, int]) -> Tensor:
    """Maximum in a window around each position of maps [n, rows, columns]."""
    padding = tuple(side // 2 for side in window)
    return F.max_pool2d(maps[:, None], window, stride=1, padding=padding)[:, 0]
