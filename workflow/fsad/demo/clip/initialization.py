"""First weights from which a small vision tower learns fast.

Patches start whitened, so that texture is not drowned by brightness; positions start
as sines and cosines; attention starts close to what trained transformers come to, near
patches attending to each other (Trockman and Kolter, Mimetic Initialization of
Self-Attention Layers, ICML 2023).
"""

import numpy as np
import torch
from torch import Tensor

from fsad.backbones.embed import normalise_pixels
from fsad.backbones.tower import Tower

LEAST_VARIANCE = 0.01  # added to that of each direction, as a share of the mean
POSITION = 0.5  # size of the position's sines and cosines
QUERY, VALUE = (0.7, 0.7), (0.4, -0.4)  # shares of noise and of identity


@torch.no_grad()
def initialise(tower: Tower, images: np.ndarray) -> None:
    """Set the first weights of a vision tower in place.

    images: uint8 [N, S, S, 3], typical ones; width and patch size must fit such that
    the width is 3 * patch_size ** 2 and divides by 4.
    """
    weights, config = tower.weights, tower.config
    filters = weights["conv1.weight"]
    filters.copy_(_whitening(tower, images).view_as(filters))
    grid = config["image_size"] // config["patch_size"]
    weights["positional_embedding"][1:] = POSITION * _positions(grid, len(filters))
    for index in range(config["layers"]):
        _mimetic(weights, f"transformer.resblocks.{index}.attn.", config["heads"])


def _whitening(tower: Tower, images: np.ndarray) -> Tensor:
    """Matrix [P, P] that makes the pixels of patches, P numbers, uncorrelated."""
    size = tower.config["patch_size"]
    pixels = normalise_pixels(images, tower)
    patches = pixels.unfold(2, size, size).unfold(3, size, size)
    patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2).double()
    variances, axes = torch.linalg.eigh(patches.T @ patches / len(patches))
    scales = (variances + LEAST_VARIANCE * variances.mean()).rsqrt()
    return (axes * scales @ axes.T).float()


def _positions(grid: int, width: int) -> Tensor:
    """Sines and cosines of the rows and columns of patches, [grid * grid, width]."""
    frequencies = 10000 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], 1)  # (grid, width / 2)
    rows, columns = torch.arange(grid**2) // grid, torch.arange(grid**2) % grid
    return torch.cat([waves[rows], waves[columns]], 1)


def _mimetic(weights: dict[str, Tensor], prefix: str, heads: int) -> None:
    projections = weights[f"{prefix}in_proj_weight"].chunk(3)
    width = projections[0].shape[1]
    size = width // heads
    for start in range(0, width, size):
        left, right = _factors(*QUERY, width)
        projections[0][start : start + size] = left[:, :size].T
        projections[1][start : start + size] = right[:, :size].T
    left, right = _factors(*VALUE, width)
    projections[2].copy_(right.T)
    weights[f"{prefix}out_proj.weight"].copy_(left)


def _factors(noise: float, identity: float, width: int) -> tuple[Tensor, Tensor]:
    """Two matrices whose product A @ B.T is random noise and identity, shared out."""
    random = torch.randn(width, width) * width**-0.5
    u, s, v = torch.linalg.svd(noise * random + identity * torch.eye(width))
    return u * s.sqrt(), v.T * s.sqrt()
