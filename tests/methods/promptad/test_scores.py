import math

import pytest
import torch
import torch.nn.functional as F

from fsad.evaluation import metrics
from fsad.methods.promptad import scores
from helpers import NEEDS_GPU, relative_error


def maps(grid, number=3):
    generator = torch.Generator().manual_seed(grid)
    return torch.rand(number, grid, grid, generator=generator)


@pytest.mark.parametrize(("grid", "resolution"), [(4, 16), (15, 256), (14, 100)])
def test_a_peak_is_the_maximum_of_the_interpolated_map(grid, resolution):
    size = (resolution, resolution)
    large = F.interpolate(maps(grid)[:, None], size, mode="bilinear")[:, 0]
    peaks = scores.peak_scores(maps(grid), resolution)
    assert relative_error(peaks, large.amax((1, 2))) < 1e-5


@pytest.mark.parametrize(("grid", "resolution"), [(4, 16), (15, 256)])
def test_maps_are_resized_along_both_axes(grid, resolution):
    resized = scores.resize_maps(maps(grid), torch.ones(resolution, grid))
    expected = maps(grid).sum((1, 2))[:, None, None].expand(-1, resolution, resolution)
    assert torch.allclose(resized, expected)


def unit(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return F.normalize(torch.randn(shape, generator=generator), dim=-1)


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_visual_maps_are_those_of_brute_force(batch):
    test = {"mid1": unit(3, 4, 6), "mid2": unit(3, 4, 7)}
    memory = {"mid1": unit(2, 4, 6), "mid2": unit(2, 4, 7)}
    found = scores.visual_maps(test, memory, batch)
    assert found.shape == (3, 2, 2)
    for image in range(3):
        for patch in range(4):
            values = []
            for m in ("mid1", "mid2"):
                similar = [
                    float(test[m][image, patch] @ memory[m][shot, other])
                    for shot in range(2)
                    for other in range(4)
                ]
                values.append((1 - max(similar)) / 2)
            value = float(found[image, patch // 2, patch % 2])
            assert value == pytest.approx(sum(values) / 2, abs=1e-6)


def test_a_support_image_is_at_no_distance_from_itself():
    features = {"mid1": unit(2, 4, 6), "mid2": unit(2, 4, 7)}
    assert scores.visual_maps(features, features).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(5,), (5, 4)])
def test_textual_scores_are_softmax_probabilities(shape):
    features, prompts = unit(*shape, 6), unit(2, 6)
    normal, abnormal = (features @ prompts.T * 4.6).exp().unbind(-1)
    found = scores.textual_scores(features, prompts, 4.6)
    assert found.shape == shape
    assert torch.allclose(found, abnormal / (normal + abnormal))


@pytest.mark.parametrize(
    ("first", "second", "fused"), [(0.5, 0.5, 0.25), (1, 0.25, 0.2), (0, 0.3, 0)]
)
def test_harmonic(first, second, fused):
    value = scores.harmonic(torch.tensor(float(first)), torch.tensor(float(second)))
    assert float(value) == pytest.approx(fused)


def test_a_patch_of_the_memory_is_at_distance_zero_and_never_below():
    generator = torch.Generator().manual_seed(0)
    patches = F.normalize(torch.randn(4, 9, 50, generator=generator), dim=-1)
    both = {"mid1": patches, "mid2": patches}
    maps = scores.visual_maps(both, both)
    assert maps.min() >= 0
    assert maps.max() < 1e-6


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize("levels", [2, 7, 10**6])
def test_auroc_of_tensors_is_exactly_that_of_arrays(levels, device):
    generator = torch.Generator().manual_seed(levels)
    drawn = torch.randint(levels, (3, 40, 40), generator=generator) / levels
    marred = torch.rand(3, 40, 40, generator=generator) < 0.1 + 0.3 * drawn
    found = scores.auroc(marred.to(device), drawn.to(device))
    assert found == metrics.auroc(marred.numpy(), drawn.numpy())


def test_auroc_of_nan_is_refused():
    marred, values = torch.tensor([True, False]), torch.tensor([torch.nan, 0.5])
    with pytest.raises(ValueError, match="nan"):
        scores.auroc(marred, values)


@pytest.mark.parametrize("marred", [True, False])
def test_auroc_of_one_kind_alone_is_nan(marred):
    assert math.isnan(scores.auroc(torch.full((4,), marred), torch.rand(4)))
