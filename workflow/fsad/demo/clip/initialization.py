"""Initialization of a small vision tower for fast training.

Patches are whitened, so that brightness does not dominate texture; positions are sines
and cosines; attention is close to that of trained transformers, with similar tokens
attending to each other (Trockman and Kolter, Mimetic Initialization of Self-Attention
Layers, ICML 2023).
"""

import numpy as np
import torch
from torch import Tensor

from fsad.backbones.embed import normalise_pixels
from fsad.backbones.tower import Tower

LEAST_VARIANCE = 0.01  # added to that of each direction, as a share of the mean
POSITION = 0.5  # amplitude of the sines and cosines of positions
QUERY, VALUE = (0.7, 0.7), (0.4, -0.4)  # weights of noise and of identity


@torch.no_grad()
def initialise(tower: Tower, images: np.ndarray) -> None:
    """Set the weights of a vision tower in place.

    images: typical ones, uint8 [N, S, S, 3]. The width of the tower must be
    3 * patch_size ** 2 and divisible by 4.
    """
    weights, config = tower.weights, tower.config
    filters = weights["conv1.weight"]
    filters.copy_(_whitening(tower, images).view_as(filters))
    grid = config["image_size"] // config["patch_size"]
    weights["positional_embedding"][1:] = POSITION * _positions(grid, len(filters))
    for index in range(config["layers"]):
        _mimetic(weights, f"transformer.resblocks.{index}.attn.", config["heads"])


def _whitening(tower: Tower, images: np.ndarray) -> Tensor:
    """Matrix [P, P] that decorrelates the P values of the pixels of a patch."""
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
    rows, columns = waves.repeat_interleave(grid, 0), waves.repeat(grid, 1)
    return torch.cat([rows, columns], 1)


def _mimetic(weights: dict[str, Tensor], prefix: str, heads: int) -> None:
    """Set the attention weights of a block in place."""
    query, key, value = weights[f"{prefix}in_proj_weight"].chunk(3)
    width = len(query)
    for q, k in zip(query.chunk(heads), key.chunk(heads), strict=True):
        left, right = _factors(*QUERY, width)
        q.copy_(left[:, : len(q)].T)
        k.copy_(right[:, : len(k)].T)
    left, right = _factors(*VALUE, width)
    value.copy_(right.T)
    weights[f"{prefix}out_proj.weight"].copy_(left)


def _factors(noise: float, identity: float, width: int) -> tuple[Tensor, Tensor]:
    """Balanced factors A, B of a matrix A @ B.T of random noise plus identity."""
    random = torch.randn(width, width) * width**-0.5
    u, s, v = torch.linalg.svd(noise * random + identity * torch.eye(width))
    return u * s.sqrt(), v.T * s.sqrt()
