import numpy as np
import pytest
import torch

from fsad.backbones import networks
from fsad.backbones.embed import (
    embed_batch,
    embed_support,
    in_halves,
    normalise_pixels,
)
from fsad.backbones.networks import open_network
from fsad.backbones.readout import VARIANTS, Readout, variant_readout
from fsad.data.augment import Augment
from fsad.data.views import View
from fsad.errors import UserError
from helpers import NEEDS_GPU, relative_error

READOUT = variant_readout(VARIANTS["original"], View("square", 32))
FIELDS = {"scales": [2, 3], "norm": True}
WINDOWS = Readout("w", "windows", View("square", 32), Augment(), FIELDS)


@pytest.fixture(scope="module")
def clip_network(towers):
    return open_network(towers[0])


def test_pixels_are_normalised_channel_by_channel(towers, pixels):
    mean, std = (
        [0.48145466, 0.4578275, 0.40821073],
        [0.26862954, 0.26130258, 0.27577711],
    )
    normal = normalise_pixels(pixels, towers[0])
    expected = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    assert np.allclose(normal, expected, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_batches_do_not_change_the_features(clip_network, pixels, batch):
    whole = embed_batch(clip_network, pixels, READOUT)
    assert whole.keys() == {"global", "patch", "mid1", "mid2"}
    starts = range(0, len(pixels), batch)
    parts = [embed_batch(clip_network, pixels[i : i + batch], READOUT) for i in starts]
    for name, expected in whole.items():
        assert relative_error(torch.cat([x[name] for x in parts]), expected) < 1e-6


@NEEDS_GPU
@pytest.mark.parametrize("readout", [READOUT, WINDOWS], ids=["promptad", "windows"])
def test_features_of_a_gpu_are_those_of_the_cpu(towers, clip_network, pixels, readout):
    gpu = open_network(towers[0].to("cuda", "float32"))
    expected = embed_batch(clip_network, pixels, readout)
    for some in (slice(1), slice(3)):
        found = embed_batch(gpu, pixels[some], readout)
        for name, feature in expected.items():
            assert found[name].device == torch.device("cuda", 0)
            assert relative_error(found[name].cpu(), feature[some]) < 1e-5


def tokens_readout(**fields):
    fields = {"blocks": "last", "norm": True, "moments": False} | fields
    return Readout("t", "tokens", View("square", 32), Augment(), fields)


def random_copies(images, copies):
    shape = (images, copies, 32, 32, 3)
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def test_tokens_are_the_mean_over_the_blocks(clip_network, pixels):
    readout = tokens_readout(blocks=[1, 3], norm=False)
    found = embed_batch(clip_network, pixels, readout)
    inputs = normalise_pixels(pixels, clip_network.tower)
    each = networks.tokens(clip_network, inputs, [1, 3], norm=False)
    assert found.keys() == {"patch"}
    assert relative_error(found["patch"], (each[0] + each[1]) / 2) < 1e-6


@pytest.mark.parametrize(
    ("named", "blocks"), [("last", [3]), ("auto", [2, 3])], ids=["last", "auto"]
)
def test_blocks_have_names(clip_network, pixels, named, blocks):
    readouts = (tokens_readout(blocks=blocks) for blocks in (named, blocks))
    first, second = (embed_batch(clip_network, pixels, r)["patch"] for r in readouts)
    assert torch.equal(first, second)


def test_neighbourhoods_of_a_vit(clip_network, pixels):
    fields = {"layers": "auto", "layer_width": "auto", "patch_width": 16}
    readout = Readout("n", "neighbourhoods", View("square", 32), Augment(), fields)
    assert embed_batch(clip_network, pixels, readout)["patch"].shape == (3, 4, 4, 16)


def test_support_images_do_not_depend_on_their_number(clip_network):
    copies = random_copies(3, 10)
    for readout in (tokens_readout(), tokens_readout(moments=True)):
        whole = embed_support(clip_network, {"images": copies}, readout)
        one = embed_support(clip_network, {"images": copies[:1]}, readout)
        assert all(torch.equal(whole[name][:1], one[name]) for name in whole)


def test_copies_of_support_images_have_an_axis(clip_network):
    copies = random_copies(2, 10)
    patches = embed_support(clip_network, {"images": copies}, tokens_readout())["patch"]
    assert patches.shape == (2, 10, 4, 4, 32)
    alone = embed_batch(clip_network, copies[1, 9:], tokens_readout())["patch"]
    assert relative_error(patches[1, 9], alone[0]) < 1e-6


def test_windows_of_support_images_and_tiles_have_their_axes(clip_network):
    tiles = random_copies(2, 6).reshape(2, 1, 2, 3, 32, 32, 3)
    found = embed_support(clip_network, {"images": tiles}, WINDOWS)
    assert {name: x.shape[1:] for name, x in found.items()} == {
        "global": (2, 3, 24),
        "patch": (2, 3, 4, 4, 32),
        "windows_2": (2, 3, 3, 3, 24),
        "windows_3": (2, 3, 2, 2, 24),
    }
    alone = embed_batch(clip_network, tiles[1, 0, 1], WINDOWS)
    for name, feature in alone.items():
        assert relative_error(found[name][1, 1], feature) < 1e-6


def test_moments_are_those_of_all_patches_of_an_image(clip_network):
    copies = random_copies(2, 10)
    patches = embed_support(clip_network, {"images": copies}, tokens_readout())["patch"]
    found = embed_support(
        clip_network, {"images": copies}, tokens_readout(moments=True)
    )
    assert {name: x.dtype for name, x in found.items()} == dict.fromkeys(
        ("count", "sum", "outer"), torch.float64
    )
    for image, rows in enumerate(patches.flatten(1, 3).double()):
        assert found["count"][image] == len(rows) == 160
        assert relative_error(found["sum"][image], rows.sum(0)) < 1e-12
        assert relative_error(found["outer"][image], rows.T @ rows) < 1e-12


def test_support_images_of_promptad_are_those_of_a_batch(clip_network, pixels):
    found = embed_support(clip_network, {"images": pixels[:, None]}, READOUT)
    expected = embed_batch(clip_network, pixels, READOUT)
    assert found.keys() == expected.keys()
    assert all(relative_error(found[n], x) < 1e-6 for n, x in expected.items())
    with pytest.raises(ValueError, match="too many values"):
        embed_support(clip_network, {"images": random_copies(1, 2)}, READOUT)


def limited(most):
    """A pass over a GPU that holds so many images, and the sizes that it was given."""
    sizes = []

    def compute(images):
        sizes.append(len(images))
        if len(images) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return {"patch": torch.from_numpy(images)}

    return compute, sizes


def test_a_batch_that_does_not_fit_is_halved(caplog):
    compute, sizes = limited(2)
    images = np.arange(7)
    assert in_halves(compute, images)["patch"].tolist() == images.tolist()
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    assert "7 images do not fit the GPU, embedded in halves" in caplog.text


def test_one_image_that_does_not_fit_is_an_error():
    with pytest.raises(UserError, match=r"one image does not fit .*CUDA out of memory"):
        in_halves(limited(0)[0], np.arange(2))
