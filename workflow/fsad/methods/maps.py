"""Anomaly maps at their full size, made in one step from the grid of patches."""

from functools import lru_cache

import numpy as np

from fsad.data.masks import RAW

Resolution = int | tuple[int, int]  # side of a square, or rows and columns
Sigma = float | tuple[float, float]  # of both axes, or along rows and columns
NOMINAL = 256  # side of maps that methods know at `resolution: raw`


def side(resolution: int | str) -> int:
    """Side of the maps that the sigma and the scores of a method are for.

    resolution: the option, a side or RAW.
    """
    return NOMINAL if resolution == RAW else resolution


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


@lru_cache(maxsize=16)  # those of a large picture take a while
def map_matrix(grid: int, resolution: int, sigma: float) -> np.ndarray:
    """Matrix float32 M [resolution, grid]; M @ map @ M.T is the full anomaly map.

    Interpolation and smoothing are linear and separable, so one matrix does both.
    """
    matrix = smoothing_matrix(resolution, sigma) @ bilinear_matrix(grid, resolution)
    return matrix.astype(np.float32)


def map_matrices(
    grid: tuple[int, int], resolution: Resolution, sigma: Sigma
) -> tuple[np.ndarray, np.ndarray]:
    """`map_matrix` of the rows and of the columns of a grid."""
    sides, sigmas = (np.broadcast_to(x, 2).tolist() for x in (resolution, sigma))
    rows, columns = map(map_matrix, grid, sides, sigmas)
    return rows, columns


def full_maps(maps: np.ndarray, resolution: Resolution, sigma: Sigma) -> np.ndarray:
    """Interpolate and smooth maps float32 [N, gh, gw], [N, rows, columns]."""
    rows, columns = map_matrices(maps.shape[1:], resolution, sigma)
    return rows @ maps @ columns.T


def picture_map(small: np.ndarray, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Full map [H, W] of a picture of this shape, from its map float32 [gh, gw].

    This is the map at `resolution: raw`. sigma: of a square, see `picture_sigmas`.
    """
    return full_maps(small[None], shape, picture_sigmas(shape, sigma))[0]


def picture_sigmas(shape: tuple[int, int], sigma: float) -> tuple[float, float]:
    """Standard deviations for a map of this shape, in its pixels, of rows and columns.

    sigma: in pixels of a square of side NOMINAL, to which the picture would be resized.
    It is scaled by H / NOMINAL and by W / NOMINAL, so that the map shows what that of
    the square does.
    """
    height, width = (sigma * length / NOMINAL for length in shape)
    return height, width
