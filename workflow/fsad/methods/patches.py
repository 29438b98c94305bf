"""Operations on patches that methods share."""

from collections.abc import Iterable

import torch
from torch import Tensor

from fsad.backbones.features import SPANS
from fsad.data.tiles import INSIDE
from fsad.methods.base import Features
from fsad.methods.maps import Resolution, Sigma, map_matrices
from fsad.methods.memory import nearest


def on_device(array, device: str | torch.device) -> Tensor:
    """An array or tensor as a tensor on a device."""
    return torch.as_tensor(array).to(device)


def kept(
    features: Features, names: Iterable[str], device: str | torch.device
) -> dict[str, Tensor]:
    """Features of these names on a device, without those that are not there.

    Where tiles and a region of interest lie stays as it is: the number of patches there
    must be known while a graph is traced, which the values of tensors are not.
    """
    found = {name: features[name] for name in names if name in features}
    places = {*SPANS, INSIDE}
    return {n: x if n in places else on_device(x, device) for n, x in found.items()}


@torch.inference_mode()
def nearest_cosine(patches: Tensor, bank: Tensor) -> Tensor:
    """Half the cosine distance of patches [N, P, D] to the nearest of a bank, [N, P].

    bank: [M, D].
    """
    (distances,) = nearest(patches, [bank], "cosine")
    return distances / 2


def upsample(maps: Tensor, resolution: Resolution, sigma: Sigma) -> Tensor:
    """Interpolate and smooth maps as `maps.full_maps`, on the device of the maps."""
    matrices = map_matrices(maps.shape[1:], resolution, sigma)
    rows, columns = (torch.from_numpy(matrix).to(maps) for matrix in matrices)
    return rows @ maps @ columns.T


def peak_scores(maps: Tensor, resolution: int) -> Tensor:
    """Maximum of each map [N, gh, gw] after bilinear interpolation, [N]."""
    return upsample(maps, resolution, sigma=0).amax((1, 2))


def top_mean(values: Tensor, share: float) -> Tensor:
    """Mean of the `int(share * M)` largest values of each row [N, M], [N].

    It is the maximum where that number is 0.
    """
    count = max(1, int(share * values.shape[1]))
    return values.topk(count).values.mean(1)
