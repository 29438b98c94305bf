"""Operations on patches that methods share."""

import torch
from torch import Tensor

from fsad.methods.maps import map_matrix


@torch.inference_mode()
def nearest_cosine(patches: Tensor, bank: Tensor, batch: int = 8) -> Tensor:
    """Half the cosine distance of patches to the nearest of a bank, [N, P].

    patches: [N, P, D], bank: [M, D], both L2-normalised. batch: images at once.
    """
    cosines = [(some @ bank.T).amax(-1) for some in patches.split(batch)]
    return (1 - torch.cat(cosines)).clamp(min=0) / 2  # rounding: a cosine exceeds 1


def square_maps(values: Tensor) -> Tensor:
    """Values [N, P] of the patches of a square grid as maps [N, G, G]."""
    grid = round(values.shape[1] ** 0.5)
    return values.unflatten(1, (grid, grid))


def upsample(maps: Tensor, resolution: int, sigma: float) -> Tensor:
    """Interpolate and smooth maps as `maps.full_maps`, on the device of the maps."""
    rows, columns = (
        torch.from_numpy(map_matrix(n, resolution, sigma)).to(maps.device)
        for n in maps.shape[1:]
    )
    return rows @ maps @ columns.T


def peak_scores(maps: Tensor, resolution: int) -> Tensor:
    """Maximum of each map [N, gh, gw] after bilinear interpolation, [N]."""
    return upsample(maps, resolution, sigma=0).amax((1, 2))
