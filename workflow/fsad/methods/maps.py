"""Anomaly maps at their full size, made in one step from the grid of patches."""

import numpy as np

Resolution = int | tuple[int, int]  # side of a square, or rows and columns


def bilinear_matrix(grid: int, resolution: int) -> np.ndarray:
    """Matrix float64 [resolution, grid] of bilinear interpolation."""
    # Corners are not aligned: pixel centres lie at half coordinates.
    centres = (np.arange(resolution) + 0.5) * grid / resolution - 0.5
    distances = np.abs(centres.clip(0, grid - 1)[:, None] - np.arange(grid))
    return (1 - distances).clip(min=0)


def smoothing_matrix(
    resolution: int, sigma: float, radius: int | None = None, edge_twice: bool = True
) -> np.ndarray:
    """Matrix float64 [resolution]*2 of a Gaussian filter, by default SciPy's.

    radius: where the filter is cut off, by default at 4 sigma. The image is mirrored at
    its borders; edge_twice: the pixel at the border with it (`reflect` of SciPy), or
    not (`mirror` of SciPy, OpenCV's default). SciPy itself would take longer to import
    than all other packages but torch.
    """
    radius = int(4 * sigma + 0.5) if radius is None else radius
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma else np.ones(1)
    pixels = np.arange(resolution)[:, None]
    period = max(1, 2 * resolution - (0 if edge_twice else 2))
    places = (pixels + offsets) % period
    mirrored = np.minimum(places, (-places - edge_twice) % period)
    matrix = np.zeros((resolution, resolution))
    np.add.at(matrix, (pixels, mirrored), weights / weights.sum())
    return matrix


def map_matrix(grid: int, resolution: int, sigma: float) -> np.ndarray:
    """Matrix float32 M [resolution, grid]; M @ map @ M.T is the full anomaly map.

    Interpolation and smoothing are linear and separable, so one matrix does both.
    """
    matrix = smoothing_matrix(resolution, sigma) @ bilinear_matrix(grid, resolution)
    return matrix.astype(np.float32)


def map_matrices(
    grid: tuple[int, int], resolution: Resolution, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """`map_matrix` of the rows and of the columns of a grid."""
    sides = np.broadcast_to(resolution, 2)
    rows, columns = (map_matrix(*each, sigma) for each in zip(grid, sides, strict=True))
    return rows, columns


def full_maps(maps: np.ndarray, resolution: Resolution, sigma: float) -> np.ndarray:
    """Interpolate and smooth maps float32 [N, gh, gw], [N, rows, columns]."""
    rows, columns = map_matrices(maps.shape[1:], resolution, sigma)
    return rows @ maps @ columns.T
