"""Anomaly scores and maps from image features, text features and the patch memory."""

import numpy as np
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor

SIGMA = 4.0


def textual_scores(features: Tensor, prompts: Tensor, temperature: float) -> Tensor:
    """Probability of the abnormal prompt for [..., D] features, [...]."""
    return torch.softmax(temperature * features @ prompts.T, -1)[..., 1]


@torch.inference_mode()
def visual_maps(
    test: dict[str, Tensor], memory: dict[str, Tensor], batch: int = 8
) -> Tensor:
    """Distance of every test patch to the nearest support patch, [N, G, G].

    `test` and `memory` hold normalised `mid1` and `mid2`, [N, P, Dv] and [k, P, Dv];
    the map is the mean of (1 - cosine) / 2 over both.
    """
    distances = [
        _nearest(test[m], memory[m].flatten(0, 1), batch) for m in ("mid1", "mid2")
    ]
    grid = round(distances[0].shape[1] ** 0.5)
    return (sum(distances) / 2).unflatten(1, (grid, grid))


def _nearest(patches: Tensor, bank: Tensor, batch: int) -> Tensor:
    parts = [(part @ bank.T).amax(-1) for part in patches.split(batch)]
    return (1 - torch.cat(parts)) / 2


def harmonic(first: Tensor, second: Tensor) -> Tensor:
    """Fusion of two scores, 1 / (1/a + 1/b)."""
    return 1 / (1 / first + 1 / second)


def bilinear_matrix(grid: int, resolution: int) -> Tensor:
    """Matrix [resolution, grid] of bilinear interpolation, corners not aligned."""
    identity = torch.eye(grid, dtype=torch.float64)[None]  # each column a unit signal
    size = {"size": resolution, "mode": "linear", "align_corners": False}
    return F.interpolate(identity, **size)[0].T.contiguous()


def smoothing_matrix(resolution: int, sigma: float = SIGMA) -> Tensor:
    """Matrix [resolution, resolution] of SciPy's Gaussian filter with its defaults."""
    smoothed = scipy.ndimage.gaussian_filter1d(np.eye(resolution), sigma, axis=0)
    return torch.from_numpy(smoothed)


def anomaly_map_matrix(grid: int, resolution: int) -> Tensor:
    """float32 matrix M [resolution, grid] such that M @ map @ M.T is the final map.

    Interpolation and smoothing are linear and separable, so one matrix does both.
    """
    return (smoothing_matrix(resolution) @ bilinear_matrix(grid, resolution)).float()


def resize_maps(maps: Tensor, matrix: Tensor) -> Tensor:
    """Maps [N, G, G] at their final size, [N, R, R]."""
    return matrix @ maps @ matrix.T


def peak_scores(maps: Tensor, resolution: int) -> Tensor:
    """Maximum of each map [N, G, G] after bilinear interpolation, [N]."""
    matrix = bilinear_matrix(maps.shape[-1], resolution).to(maps)
    return resize_maps(maps, matrix).amax((1, 2))
