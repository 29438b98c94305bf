"""Networks against timm's and open_clip's own passes, on tiny random models."""

import pytest
import timm
import torch
import torch.nn.functional as F

from fsad.backbones import networks
from fsad.backbones.networks import auto_blocks, auto_layers, depth, open_network
from fsad.backbones.timm_models import ARGUMENTS, tower_of
from fsad.errors import UserError
from helpers import perturbed, relative_error

TINY_VIT = {"embed_dim": 32, "depth": 4, "num_heads": 2}
VITS = {
    "dinov2": ("vit_small_patch14_dinov2", {"img_size": 56}),
    "registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 56}),
    "dinov3": ("vit_small_patch16_dinov3", {}),
    "plain": ("vit_small_patch16_224", {"img_size": 64}),
}
CNNS = {
    "resnet": ("resnet50", {"layers": [1, 1, 1, 1], "channels": [4, 8, 16, 32]}),
    "efficientnet": ("tf_efficientnet_lite0", {}),
    "convnext": ("convnext_tiny", {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}),
}


def make(name):
    """A tiny model of timm and its network."""
    model, own = (VITS | CNNS)[name]
    kind = "vit" if name in VITS else "cnn"
    arguments = ARGUMENTS[kind] | (TINY_VIT if kind == "vit" else {}) | own
    torch.manual_seed(0)
    module = perturbed(timm.create_model(model, **arguments)).eval()
    return module, open_network(tower_of(module, model, arguments, {}))


@pytest.fixture(scope="module", params=VITS)
def vit(request):
    return make(request.param)


@pytest.fixture(scope="module", params=CNNS)
def cnn(request):
    return make(request.param)


def images(height, width, count=2):
    torch.manual_seed(1)
    return torch.randn(count, 3, height, width)


@torch.no_grad()
def test_last_tokens_at_the_own_grid_are_those_of_timm(vit):
    module, network = vit
    side = module.patch_embed.img_size[0]
    (found,) = networks.tokens(network, images(side, side), [3], norm=True)
    expected = module.forward_features(images(side, side))
    assert torch.equal(found.flatten(1, 2), expected[:, module.num_prefix_tokens :])


@torch.no_grad()
@pytest.mark.parametrize("name", ["registers", "dinov3", "plain"])
@pytest.mark.parametrize("norm", [True, False])
def test_blocks_at_another_grid_are_those_of_timm(name, norm):
    module, network = make(name)
    size = network.tower.config["patch_size"]
    pixels = images(5 * size, 7 * size)
    found = networks.tokens(network, pixels, [3, 1], norm)
    expected = module.forward_intermediates(
        pixels, [1, 3], norm=norm, output_fmt="NLC", intermediates_only=True
    )
    assert [x.shape for x in found] == [(2, 5, 7, 32)] * 2
    assert torch.equal(found[0].flatten(1, 2), expected[1])
    assert torch.equal(found[1].flatten(1, 2), expected[0])


def published_positions(embedding, height, width):
    """As in the public code of DINOv2, for images of 56 x 56 pixels and patches of 14.

    There, the scale is (patches + 0.1) / 4, and neither size nor antialias is given.
    """
    square = embedding[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    scale = ((height // 14 + 0.1) / 4, (width // 14 + 0.1) / 4)
    patches = F.interpolate(square, scale_factor=scale, mode="bicubic")
    patches = patches.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat([embedding[:, :1], patches], 1)


@torch.no_grad()
def test_dinov2_without_registers_has_its_published_positions():
    module, network = make("dinov2")
    own = module.pos_embed.clone()
    for height, width in ((70, 98), (42, 56), (56, 56)):
        (found,) = networks.tokens(network, images(height, width), [2], norm=False)
        x = module.patch_embed(images(height, width)).flatten(1, 2)
        x = torch.cat([module.cls_token.expand(2, -1, -1), x], 1)
        same = (height, width) == (56, 56)
        x = x + (own if same else published_positions(own, height, width))
        for block in module.blocks[:3]:
            x = block(x)
        assert torch.equal(found.flatten(1, 2), x[:, 1:])


@torch.no_grad()
def test_tokens_of_clip_are_those_of_open_clip(clip, towers):
    network, pixels = open_network(towers[0]), images(32, 32)
    for norm in (True, False):
        found = networks.tokens(network, pixels, [0, 3], norm)
        expected = clip.visual.forward_intermediates(
            pixels, [0, 3], normalize_intermediates=norm, output_fmt="NLC"
        )["image_intermediates"]
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.shape == (2, 4, 4, 32)
            assert relative_error(ours.flatten(1, 2), theirs) < 1e-5


def test_pixels_beyond_the_last_patch_are_cut(vit, towers):
    for network in (vit[1], open_network(towers[0])):
        size = network.tower.config["patch_size"]
        pixels = images(3 * size + 5, 4 * size + 1)
        (whole,) = networks.tokens(network, pixels, [3], norm=True)
        part = pixels[:, :, : 3 * size, : 4 * size]
        assert torch.equal(whole, networks.tokens(network, part, [3], norm=True)[0])
        with pytest.raises(UserError, match="hold no patch"):
            networks.tokens(network, pixels[:, :, :3], [3], norm=True)


def test_no_block_after_the_last_wanted_one_is_run(vit):
    seen = []
    network = open_network(vit[1].tower)
    for index, block in enumerate(network.module.blocks):
        block.register_forward_hook(lambda *_, index=index: seen.append(index))
    networks.tokens(network, images(64, 64), [1, 0], norm=False)
    assert seen == [0, 1]


def test_a_block_that_is_not_there_is_refused(vit):
    for blocks in ([4], [-1]):
        with pytest.raises(UserError, match=r"blocks: .* among the backbone's 0 to 3"):
            networks.tokens(vit[1], images(64, 64), blocks, norm=False)


@torch.no_grad()
def test_stages_of_a_cnn_are_the_features_of_timm(cnn):
    module, network = cnn
    layers, config = auto_layers(network), network.tower.config
    found = networks.stages(network, images(64, 96), layers)
    expected = module.forward_intermediates(images(64, 96), intermediates_only=True)
    for layer, ours in zip(layers, found, strict=True):
        channels, stride = config["stages"][layer]
        assert ours.shape == (2, channels, 64 // stride, 96 // stride)
        assert any(torch.equal(ours, x) for x in expected if x.shape == ours.shape)
    assert [config["stages"][layer][1] for layer in layers] == [8, 16]


def test_stages_come_in_the_order_asked_for():
    network = make("resnet")[1]
    found = networks.stages(network, images(64, 64), ["layer3", "layer2"])
    assert [x.shape[1] for x in found] == [64, 32]


def test_no_stage_after_the_last_wanted_one_is_run():
    _, network = make("resnet")
    network.module.layer4.register_forward_hook(lambda *_: pytest.fail("was run"))
    networks.stages(network, images(64, 64), ["layer2", "layer3"])
    assert not network.module.layer2._forward_hooks


def test_automatic_layers():
    assert auto_layers(make("resnet")[1]) == ["layer2", "layer3"]
    assert auto_layers(make("efficientnet")[1]) == ["blocks.2", "blocks.4"]
    assert auto_layers(make("dinov3")[1]) == ["blocks.1", "blocks.2"]


def test_stages_of_a_vit_are_its_tokens(vit, towers):
    for network in (vit[1], open_network(towers[0])):
        found = networks.stages(network, images(64, 96), ["blocks.1", "blocks.2"])
        expected = networks.tokens(network, images(64, 96), [1, 2], norm=False)
        for ours, tokens in zip(found, expected, strict=True):
            assert torch.equal(ours, tokens.permute(0, 3, 1, 2))


def test_blocks_that_are_not_there_are_refused(vit):
    assert depth(vit[1]) == 4
    with pytest.raises(UserError, match=r"no 'layer2'; take of blocks\.0 to blocks\.3"):
        networks.stages(vit[1], images(64, 64), ["layer2"])


def test_layers_that_are_not_there_are_refused(cnn):
    with pytest.raises(UserError, match=r"no 'layer9'; take of .*(layer2|\.2|\.1)"):
        networks.stages(cnn[1], images(64, 64), ["layer9"])


def test_tokens_of_a_cnn_are_refused(cnn):
    with pytest.raises(UserError, match="is a CNN, without tokens; take a ViT"):
        networks.tokens(cnn[1], images(64, 64), [0], norm=True)


@pytest.mark.parametrize(
    ("layers", "blocks"),
    [(4, (2, 3)), (12, (7, 8)), (24, (13, 17)), (32, (18, 22)), (40, (22, 28))],
)
def test_automatic_blocks_are_the_published_ones(layers, blocks):
    assert auto_blocks(layers) == [*range(blocks[0], blocks[1] + 1)]


@pytest.mark.parametrize("name", [*VITS, *CNNS])
def test_bfloat16_is_near(name):
    module, network = make(name)
    half = open_network(network.tower.to("cpu", "bfloat16"))
    layers = auto_layers(network)
    ours = networks.stages(half, images(64, 64), layers)
    exact = networks.stages(network, images(64, 64), layers)
    for one, other in zip(ours, exact, strict=True):
        assert one.dtype == torch.float32
        assert 0 < relative_error(one, other) < 0.05
    assert {w.dtype for w in module.parameters()} == {torch.float32}


def test_a_stored_tower_gives_the_same_tokens(vit, tmp_path):
    from fsad.backbones.tower import load_tower, save_tower

    save_tower(tmp_path / "vision.safetensors", vit[1].tower, {})
    stored = open_network(load_tower(tmp_path / "vision.safetensors"))
    pixels = images(80, 64)
    for ours, again in zip(
        networks.tokens(vit[1], pixels, [0, 3], norm=True),
        networks.tokens(stored, pixels, [0, 3], norm=True),
        strict=True,
    ):
        assert torch.equal(ours, again)
