import pytest
import torch
import torch.nn.functional as F

from fsad.methods import patches
from fsad.methods.maps import full_maps
from helpers import relative_error


def unit(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return F.normalize(torch.randn(shape, generator=generator), dim=-1)


def random_maps(*grid):
    generator = torch.Generator().manual_seed(sum(grid))
    return torch.rand(3, *grid, generator=generator)


def test_the_nearest_of_a_bank_is_that_of_brute_force():
    images, bank = unit(3, 4, 6), unit(8, 6)
    found = patches.nearest_cosine(images, bank)
    assert found.shape == (3, 4)
    for image in range(3):
        for patch in range(4):
            similar = max(float(images[image, patch] @ other) for other in bank)
            expected = pytest.approx((1 - similar) / 2, abs=1e-6)
            assert float(found[image, patch]) == expected


def test_a_patch_of_the_bank_is_at_distance_zero_and_never_below():
    images = unit(4, 9, 50)
    found = patches.nearest_cosine(images, images.flatten(0, 1))
    assert found.min() >= 0
    assert found.max() < 1e-6


def test_an_opposite_patch_is_at_distance_one():
    bank = unit(1, 6)
    assert patches.nearest_cosine(-bank[None], bank).item() == pytest.approx(1)


@pytest.mark.parametrize("resolution", [33, (20, 33)])
@pytest.mark.parametrize(("grid", "sigma"), [((15, 15), 4), ((4, 7), 0)])
def test_maps_on_a_device_are_those_of_numpy(grid, sigma, resolution):
    found = patches.upsample(random_maps(*grid), resolution, sigma)
    expected = full_maps(random_maps(*grid).numpy(), resolution, sigma)
    assert relative_error(found, expected) < 1e-6


@pytest.mark.parametrize(("grid", "resolution"), [((14, 14), 100), ((4, 7), 33)])
def test_a_peak_is_the_maximum_of_the_interpolated_map(grid, resolution):
    size = (resolution, resolution)
    large = F.interpolate(random_maps(*grid)[:, None], size, mode="bilinear")[:, 0]
    peaks = patches.peak_scores(random_maps(*grid), resolution)
    assert relative_error(peaks, large.amax((1, 2))) < 1e-5


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.5, 4), (0.4, 3), (1, 9)])
def test_the_top_mean_is_that_of_the_largest(share, count):
    values = random_maps(3, 3).flatten(1)
    expected = values.sort(descending=True).values[:, :count].mean(1)
    assert relative_error(patches.top_mean(values, share), expected) < 1e-6
