"""Patch features of PatchCore: neighbourhoods of several layers, pooled to one width.

PatchCore (Roth et al., CVPR 2022; amazon-science/patchcore-inspection) unfolds the
neighbourhood of each position of a layer, flattens it by channel, row and column, and
takes it to `layer_width` by adaptive average pooling; then pools all layers, one after
the other, to `patch_width`. Both poolings are linear, so here each layer has one kernel
for the two. A pooled feature reads a few neighbouring channels alone, and so does its
kernel.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fsad.backbones.spec import MOST_CHANNELS


class Kernels(NamedTuple):
    """The two poolings of one layer, for features `start` to `start + T`.

    channels: int64 [T * c], c neighbouring channels of each feature. weights: float32
    [T, c, size, size]. They are arrays, since a tensor that is made while a graph is
    traced has no values, and kernels are kept.
    """

    start: int
    channels: np.ndarray
    weights: np.ndarray


def auto_width(channels: Sequence[int], size: int = 3) -> int:
    """Width of layers and patches that no layer must be stretched to, at most 1024.

    It is a power of two. channels: of each layer.
    """
    smallest = min(channels) * size * size
    return min(MOST_CHANNELS, 2 ** (smallest.bit_length() - 1))


def pooled(
    maps: Sequence[Tensor], layer_width: int, patch_width: int, size: int = 3
) -> Tensor:
    """Patch features of the published steps, float32 [B, h, w, patch_width].

    maps: of each layer, float32 [B, C, h, w]; all are taken to the grid of the first,
    bilinearly, corners not aligned. size: odd side of a neighbourhood, zeros outside.
    """
    grid = maps[0].shape[2:]
    features = maps[0].new_zeros(maps[0].shape[0], patch_width, *grid)
    for index, layer in enumerate(maps):
        place, widths = (index, len(maps)), (layer_width, patch_width)
        kernels = layer_kernels(layer.shape[1], place, widths, size)
        own = _convolved(layer, kernels)  # (B, T, h_i, w_i)
        if own.shape[2:] != grid:  # after the pooling, which commutes with it
            own = F.interpolate(own, grid, mode="bilinear", align_corners=False)
        features[:, kernels.start : kernels.start + own.shape[1]] += own
    return features.permute(0, 2, 3, 1).contiguous()


def _convolved(layer: Tensor, kernels: Kernels) -> Tensor:
    """Features [B, T, h, w] of maps [B, C, h, w]."""
    channels, weights = (
        torch.from_numpy(array).to(layer.device) for array in kernels[1:]
    )
    read = layer[:, channels].unflatten(1, weights.shape[:2])
    groups, padding = len(weights), weights.shape[-1] // 2
    # Depthwise convolutions are faster than one with several channels a group.
    return sum(
        F.conv2d(x, kernel[:, None].contiguous(), padding=padding, groups=groups)
        for x, kernel in zip(read.unbind(2), weights.unbind(1), strict=True)
    )


@cache
def layer_kernels(
    channels: int, place: tuple[int, int], widths: tuple[int, int], size: int
) -> Kernels:
    """Kernels of a layer.

    channels: of the layer. place: its index and the number of layers. widths: of a
    layer and of a patch. size: of a neighbourhood.
    """
    (index, count), (layer_width, patch_width) = place, widths
    outer = pooling_matrix(count * layer_width, patch_width)
    outer = outer[:, index * layer_width : (index + 1) * layer_width]
    reads = outer.any(1).nonzero()[0]  # neighbouring features: bins are in order
    inner = pooling_matrix(channels * size * size, layer_width)
    weights = (outer[reads] @ inner).reshape(len(reads), channels, size * size)
    used = weights.any(2)
    first, span = used.argmax(1), used.sum(1).max()
    chosen = np.minimum(first, channels - span)[:, None] + np.arange(span)
    weights = np.take_along_axis(weights, chosen[:, :, None], 1).astype(np.float32)
    weights = weights.reshape(*weights.shape[:2], size, size)
    return Kernels(int(reads[0]), chosen.reshape(-1), weights)


def pooling_matrix(length: int, width: int) -> np.ndarray:
    """Matrix float64 [width, length] of torch's adaptive_avg_pool1d."""
    bins, positions = np.arange(width)[:, None], np.arange(length)
    starts, ends = bins * length // width, -(-(bins + 1) * length // width)
    inside = (starts <= positions) & (positions < ends)
    return inside / (ends - starts)
