import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from fsad.methods import maps
from helpers import relative_error

SIZES = [(4, 16), (15, 256), (14, 100), (7, 33), (1, 8), (16, 16), (8, 5)]


def grids(grid):
    return np.random.default_rng(grid).random((3, grid, grid), np.float32)


def bilinear(grids, resolution):
    """torch's bilinear interpolation, float64 [N, R, R]."""
    tensor, size = torch.from_numpy(grids).double()[:, None], (resolution, resolution)
    resize = torch.nn.functional.interpolate
    return resize(tensor, size, mode="bilinear", align_corners=False)[:, 0].numpy()


@pytest.mark.parametrize(("grid", "resolution"), SIZES)
def test_full_maps_are_interpolated_and_smoothed(grid, resolution):
    large = bilinear(grids(grid), resolution)
    expected = np.stack([gaussian_filter(image, sigma=4) for image in large])
    full = maps.full_maps(grids(grid), resolution)
    assert full.dtype == np.float32
    assert relative_error(full, expected) < 1e-5


@pytest.mark.parametrize(("grid", "resolution"), SIZES)
def test_the_bilinear_matrix_interpolates_along_both_axes(grid, resolution):
    matrix = maps.bilinear_matrix(grid, resolution)
    interpolated = matrix @ grids(grid) @ matrix.T
    assert relative_error(interpolated, bilinear(grids(grid), resolution)) < 1e-12


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_the_smoothing_matrix_filters_along_both_axes(sigma):
    image, matrix = grids(20)[0].astype(float), maps.smoothing_matrix(20, sigma)
    expected = gaussian_filter(image, sigma)
    assert relative_error(matrix @ image @ matrix.T, expected) < 1e-12
