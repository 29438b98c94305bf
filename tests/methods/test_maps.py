import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from fsad.methods import maps
from helpers import relative_error

# The grid and the full size; the last grids are rectangular, (rows, columns).
SIZES = [((15, 15), 256), ((1, 1), 8), ((8, 8), 5), ((4, 7), 33), ((9, 2), 20)]
RECTANGLES = [((4, 7), (33, 50)), ((8, 8), (20, 5))]


def random_maps(grid):
    return np.random.default_rng(sum(grid)).random((3, *grid), np.float32)


def bilinear(small, resolution):
    """torch's bilinear interpolation, float64 [N, rows, columns]."""
    tensor = torch.from_numpy(small).double()[:, None]
    size, resize = resolution, torch.nn.functional.interpolate
    return resize(tensor, size, mode="bilinear", align_corners=False)[:, 0].numpy()


@pytest.mark.parametrize("sigma", [0, 4, 2.5])
@pytest.mark.parametrize(("grid", "resolution"), SIZES + RECTANGLES)
def test_full_maps_are_interpolated_and_smoothed(grid, resolution, sigma):
    large = bilinear(random_maps(grid), resolution)
    expected = [gaussian_filter(image, sigma) if sigma else image for image in large]
    full = maps.full_maps(random_maps(grid), resolution, sigma)
    assert full.dtype == np.float32
    assert relative_error(full, np.stack(expected)) < 1e-5


@pytest.mark.parametrize(("grid", "resolution"), SIZES)
def test_the_bilinear_matrix_interpolates_along_each_axis(grid, resolution):
    rows, columns = (maps.bilinear_matrix(n, resolution) for n in grid)
    interpolated = rows @ random_maps(grid) @ columns.T
    assert relative_error(interpolated, bilinear(random_maps(grid), resolution)) < 1e-12


@pytest.mark.parametrize("sigma", [1.0, 4.0, 30.0])
def test_the_smoothing_matrix_filters_along_both_axes(sigma):
    image, matrix = random_maps((20, 20))[0], maps.smoothing_matrix(20, sigma)
    image = image.astype(float)
    expected = gaussian_filter(image, sigma)
    assert relative_error(matrix @ image @ matrix.T, expected) < 1e-12


@pytest.mark.parametrize("edge_twice", [True, False])
@pytest.mark.parametrize(("size", "radius"), [(20, 1), (20, 7), (1, 1), (2, 5)])
def test_the_radius_and_the_border_of_the_filter_can_be_chosen(
    size, radius, edge_twice
):
    image = random_maps((size, size))[0].astype(float)
    matrix = maps.smoothing_matrix(size, 4.0, radius, edge_twice)
    mode = "reflect" if edge_twice else "mirror"
    expected = gaussian_filter(image, 4.0, radius=radius, mode=mode)
    assert relative_error(matrix @ image @ matrix.T, expected) < 1e-12


def test_without_sigma_nothing_is_smoothed():
    assert np.array_equal(maps.smoothing_matrix(5, 0), np.eye(5))


@pytest.mark.parametrize("shape", [(90, 200), (512, 512), (330, 64)])
def test_the_map_of_a_picture_is_smoothed_as_on_the_square(shape):
    (small,) = random_maps((5, 7))[:1]
    sigmas = [4.0 * length / maps.NOMINAL for length in shape]
    large = cv2.resize(small, shape[::-1], interpolation=cv2.INTER_LINEAR)
    found = maps.picture_map(small, shape, 4.0)
    assert found.shape == shape
    assert relative_error(found, gaussian_filter(large, sigmas)) < 1e-5
    square = maps.full_maps(small[None], maps.NOMINAL, 4.0)[0]
    seen = cv2.resize(found, square.shape, interpolation=cv2.INTER_LINEAR)
    assert relative_error(seen, square) < 0.02


def test_a_picture_of_the_nominal_size_has_the_map_of_that_resolution():
    small = random_maps((5, 7))
    expected = maps.full_maps(small, maps.NOMINAL, 4.0)
    found = [maps.picture_map(one, (maps.NOMINAL,) * 2, 4.0) for one in small]
    assert np.array_equal(found, expected)


def test_raw_has_the_nominal_side():
    assert (maps.side(400), maps.side("raw")) == (400, maps.NOMINAL)
