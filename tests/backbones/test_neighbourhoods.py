import pytest
import torch
import torch.nn.functional as F

from fsad.backbones import neighbourhoods
from helpers import relative_error

# Channels and side of each layer, width of a layer and of a patch.
CASES = [
    ([(16, 8), (24, 4)], 100, 80),
    ([(8, 6), (16, 3)], 8, 8),  # a layer has as many channels as half the width
    ([(5, 7), (9, 3), (4, 2)], 17, 23),  # odd bins, and some of two layers
    ([(3, 6)], 50, 7),  # wider than the neighbourhood
    ([(40, 8), (112, 4)], 128, 128),
    ([(2, 6), (3, 6)], 40, 64),
]


def random_maps(layers):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, n, n + 1, generator=generator) for c, n in layers]


def two_poolings(maps, layer_width, patch_width, size):
    """The published steps, one after the other, in float64."""
    grid, features = maps[0].shape[2:], []
    for layer in maps:
        unfolded = F.unfold(layer.double(), size, padding=size // 2)
        unfolded = unfolded.unflatten(2, layer.shape[2:])
        resized = F.interpolate(unfolded, grid, mode="bilinear", align_corners=False)
        flat = resized.permute(0, 2, 3, 1).flatten(0, 2)  # (B * h * w, C * size * size)
        features.append(F.adaptive_avg_pool1d(flat[:, None], layer_width)[:, 0])
    pooled = F.adaptive_avg_pool1d(torch.cat(features, 1)[:, None], patch_width)
    return pooled.view(len(maps[0]), *grid, patch_width)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize(("layers", "layer_width", "patch_width"), CASES)
def test_one_kernel_is_the_two_poolings(layers, layer_width, patch_width, size):
    maps = random_maps(layers)
    found = neighbourhoods.pooled(maps, layer_width, patch_width, size)
    expected = two_poolings(maps, layer_width, patch_width, size)
    assert found.dtype == torch.float32
    assert relative_error(found, expected) < 1e-6


def test_kernels_of_the_published_network_read_one_and_two_channels():
    kernels = [
        neighbourhoods.layer_kernels(channels, (index, 2), (1024, 1024), 3)
        for index, channels in enumerate([512, 1024])
    ]
    assert [k.start for k in kernels] == [0, 512]
    assert [k.weights.shape for k in kernels] == [(512, 1, 3, 3), (512, 2, 3, 3)]
    assert kernels[0].channels.tolist() == [*range(512)]
    assert kernels[1].channels.tolist() == [*range(1024)]
    own = torch.tensor([[1, 1, 1], [1, 2, 1], [1, 1, 1]]) / 10
    assert relative_error(kernels[0].weights[:, 0], own.expand(512, 3, 3)) < 1e-6
    assert relative_error(kernels[1].weights, torch.full((512, 2, 3, 3), 1 / 18)) < 1e-6


@pytest.mark.parametrize(("length", "width"), [(9, 9), (36, 8), (10, 7), (5, 12)])
def test_the_matrix_of_a_pooling_is_that_of_torch(length, width):
    expected = F.adaptive_avg_pool1d(torch.eye(length).double(), width).T
    found = neighbourhoods.pooling_matrix(length, width)
    assert relative_error(found, expected) < 1e-12


@pytest.mark.parametrize(
    ("channels", "width"),
    [([512, 1024], 1024), ([40, 112], 256), ([114, 113], 512), ([114], 1024), ([1], 8)],
)
def test_the_automatic_width_is_no_wider_than_a_layer(channels, width):
    assert neighbourhoods.auto_width(channels) == width
