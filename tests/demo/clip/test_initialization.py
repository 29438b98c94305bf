import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from fsad.backbones.clip import split_towers
from fsad.backbones.embed import normalise_pixels
from fsad.demo.clip.initialization import POSITION, QUERY, VALUE, initialise
from helpers import TINY

VISION = {"image_size": 32, "patch_size": 8, "width": 192, "layers": 1}


@pytest.fixture(scope="module")
def images():
    """Smooth noise, whose neighbouring pixels are similar."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((300, 3, 8, 8), np.float32))
    smooth = F.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 1)
    noisy = smooth + torch.from_numpy(rng.random((300, 3, 32, 32), np.float32)) / 10
    return (200 * noisy).byte().permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def tower(images):
    torch.manual_seed(0)
    clip = open_clip.CLIP(**TINY | {"vision_cfg": VISION})
    tower, _ = split_towers(clip, "tiny")
    initialise(tower, images)
    return tower


def test_patches_are_nearly_uncorrelated(tower, images):
    pixels = normalise_pixels(images, tower)
    patches = F.conv2d(pixels, tower.weights["conv1.weight"], stride=8)
    patches = patches.flatten(2).transpose(1, 2).flatten(0, 1)
    moments = patches.T @ patches / len(patches)
    strength = moments.diagonal()
    beside = moments - torch.diag(strength)
    assert strength.min() > 0.02
    assert beside.abs().max() < 0.25 * strength.max()


def test_positions_are_nearest_to_their_neighbours(tower):
    positions = tower.weights["positional_embedding"][1:].view(4, 4, -1)
    products = torch.einsum("d,hwd->hw", positions[1, 1], positions)
    assert products.argmax() == 1 * 4 + 1
    assert products[1, 2] > products[1, 3]
    assert products[2, 1] > products[3, 1]
    assert float(positions.abs().max()) == pytest.approx(POSITION, rel=1e-3)


def test_attention_follows_the_similarity_of_tokens(tower):
    q, k, v = tower.weights["transformer.resblocks.0.attn.in_proj_weight"].chunk(3)
    out = tower.weights["transformer.resblocks.0.attn.out_proj.weight"]
    for start in range(0, 192, 64):
        head = slice(start, start + 64)
        # The 64 strongest directions hold more than their share of the identity.
        assert (q[head].T @ k[head]).trace() / 192 > QUERY[1] / 3
    product = out @ v
    assert float(product.trace() / 192) == pytest.approx(VALUE[1], abs=0.05)
    rest = product - VALUE[1] * torch.eye(192)
    assert float(rest.std()) == pytest.approx(VALUE[0] * 192**-0.5, rel=0.05)
