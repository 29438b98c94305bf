"""Anomaly maps at their full size, made in one step from the grid of patches."""

import numpy as np


def bilinear_matrix(grid: int, resolution: int) -> np.ndarray:
    """Matrix float64 [resolution, grid] of bilinear interpolation."""
    # Corners are not aligned: pixel centres lie at half coordinates.
    centres = (np.arange(resolution) + 0.5) * grid / resolution - 0.5
    distances = np.abs(centres.clip(0, grid - 1)[:, None] - np.arange(grid))
    return (1 - distances).clip(min=0)


def smoothing_matrix(resolution: int, sigma: float) -> np.ndarray:
    """Matrix float64 [resolution]*2 of SciPy's Gaussian filter with its defaults.

    The filter is cut off at 4 sigma, and the image is mirrored at its borders. SciPy
    itself would take longer to import than all other packages but torch.
    """
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma else np.ones(1)
    pixels = np.arange(resolution)[:, None]
    mirrored = (pixels + offsets) % (2 * resolution)
    mirrored = np.minimum(mirrored, 2 * resolution - 1 - mirrored)
    matrix = np.zeros((resolution, resolution))
    np.add.at(matrix, (pixels, mirrored), weights / weights.sum())
    return matrix


def map_matrix(grid: int, resolution: int, sigma: float) -> np.ndarray:
    """Matrix float32 M [resolution, grid]; M @ map @ M.T is the full anomaly map.

    Interpolation and smoothing are linear and separable, so one matrix does both.
    """
    matrix = smoothing_matrix(resolution, sigma) @ bilinear_matrix(grid, resolution)
    return matrix.astype(np.float32)


def full_maps(maps: np.ndarray, resolution: int, sigma: float) -> np.ndarray:
    """Interpolate and smooth maps float32 [N, gh, gw], [N, resolution, resolution]."""
    rows, columns = (map_matrix(n, resolution, sigma) for n in maps.shape[1:])
    return rows @ maps @ columns.T
