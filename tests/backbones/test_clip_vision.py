"""The vision tower against references written from the method's description.

The references are float64 NumPy, one head and one image at a time.
"""

import copy

import numpy as np
import open_clip
import pytest
import torch
from scipy.special import erf

from fsad.backbones import clip_vision
from fsad.backbones.clip import split_towers
from fsad.backbones.clip_vision import (
    block_tokens,
    embed,
    embed_memory,
    embed_windows,
    memory_blocks,
    window_tokens,
)
from fsad.backbones.embed import normalise_pixels
from fsad.backbones.readout import VARIANTS, Variant
from fsad.errors import UserError
from helpers import TINY, perturbed, relative_error

EVERY = {
    **VARIANTS,
    "single_ffn": Variant("single", "qq", ffn=True, residual=True),
    "single_ffn_no_residual": Variant("single", "vv", ffn=True, residual=False),
    "dual_ffn": Variant("dual", "kk", ffn=True, residual=True),
    "dual_no_residual": Variant("dual", "vv", ffn=False, residual=False),
}
HEADS, PATCH, MIDS = 2, 8, (0, 2)


@pytest.fixture(scope="module")
def weights(clip):
    """The weights of `clip`'s vision tower, float64."""
    return {n: w.double().numpy() for n, w in clip.visual.state_dict().items()}


@pytest.fixture(scope="module")
def inputs(towers, pixels):
    return normalise_pixels(pixels, towers[0])


def norm(x, weights, name):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name, suffix="."):
    return x @ weights[f"{name}{suffix}weight"].T + weights[f"{name}{suffix}bias"]


def naive_attention(x, weights, block, compared):
    """Attention residual of tokens [T, Dv]; compared: `qk`, `qq`, `kk` or `vv`."""
    h = norm(x, weights, f"{block}.ln_1")
    qkv = np.split(linear(h, weights, f"{block}.attn.in_proj", "_"), 3, axis=1)
    parts, outputs = dict(zip("qkv", qkv, strict=True)), []
    width = x.shape[1] // HEADS
    for head in range(HEADS):
        columns = slice(head * width, (head + 1) * width)
        left, right = (parts[name][:, columns] for name in compared)
        similar = np.exp(left @ right.T / np.sqrt(width))
        mixing = similar / similar.sum(1, keepdims=True)
        outputs.append(mixing @ parts["v"][:, columns])
    return linear(np.hstack(outputs), weights, f"{block}.attn.out_proj")


def naive_feed_forward(x, weights, block):
    h = linear(norm(x, weights, f"{block}.ln_2"), weights, f"{block}.mlp.c_fc")
    return linear(h * (1 + erf(h / np.sqrt(2))) / 2, weights, f"{block}.mlp.c_proj")


def naive_tokens(image, weights):
    """Tokens [1 + G*G, Dv] of normalised pixels [3, S, S]."""
    filters, tokens = weights["conv1.weight"], [weights["class_embedding"]]
    for top in range(0, image.shape[1], PATCH):
        for left in range(0, image.shape[2], PATCH):
            patch = image[:, top : top + PATCH, left : left + PATCH]
            tokens.append((filters * patch).sum((1, 2, 3)))
    return norm(np.array(tokens) + weights["positional_embedding"], weights, "ln_pre")


def naive_features(image, weights, variant, layers=4, mids=MIDS):
    x = naive_tokens(image, weights)
    run = naive_dual if variant.path == "dual" else naive_single
    summary, dense, kept = run(x, weights, variant, layers, mids)
    out = {"global": summary[0], "patch": dense[1:]}
    out = {n: norm(t, weights, "ln_post") @ weights["proj"] for n, t in out.items()}
    out |= {"mid1": kept[0][1:], "mid2": kept[1][1:]}
    out = {n: t / np.linalg.norm(t, axis=-1, keepdims=True) for n, t in out.items()}
    return {n: t if t.ndim == 1 else on_grid(t, image) for n, t in out.items()}


def on_grid(tokens, image):
    """Tokens [P, D] of the patches of an image [3, H, W] as [gh, gw, D]."""
    return tokens.reshape(image.shape[1] // PATCH, image.shape[2] // PATCH, -1)


def naive_dual(x, weights, variant, layers, mids):
    original, dense, outputs, changes = x, x, [], []
    for index in range(layers):
        block = f"transformer.resblocks.{index}"
        change = naive_attention(original, weights, block, variant.attention)
        dense = dense * variant.residual + change
        if variant.ffn:
            change = naive_feed_forward(dense, weights, block)
            dense = dense * variant.residual + change
        changes.append(naive_attention(original, weights, block, "qk"))
        original = original + changes[-1]
        original = original + naive_feed_forward(original, weights, block)
        outputs.append(original)
    after = [*changes[1:], 0]  # the attention residual of the next block
    return original, dense, [outputs[m] + after[m] for m in mids]


def naive_single(x, weights, variant, layers, mids):
    outputs = []
    for index in range(layers):
        block = f"transformer.resblocks.{index}"
        change = naive_attention(x, weights, block, variant.attention)
        x = x + change if variant.residual else change
        if variant.ffn:
            change = naive_feed_forward(x, weights, block)
            x = x + change if variant.residual else change
        outputs.append(x)
    return x, x, [outputs[m] for m in mids]


@pytest.mark.parametrize("name", EVERY)
def test_features_are_those_of_the_naive_reference(name, towers, inputs, weights):
    features = embed(towers[0], inputs, EVERY[name])
    for index, image in enumerate(inputs.double().numpy()):
        expected = naive_features(image, weights, EVERY[name])
        errors = {n: relative_error(features[n][index], e) for n, e in expected.items()}
        assert max(errors.values()) < 1e-5, errors


def test_the_variants_differ(towers, inputs):
    patches = [embed(towers[0], inputs, v)["patch"] for v in EVERY.values()]
    for index, first in enumerate(patches):
        for second in patches[:index]:
            assert relative_error(first, second) > 1e-3


def open_clip_tokens(clip, inputs):
    """What open_clip's own vision transformer is fed."""
    seen = []
    transformer = clip.visual.transformer
    hook = transformer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    clip.encode_image(inputs)
    hook.remove()
    return seen[0].clone()


@torch.no_grad()
def test_memory_holds_what_the_published_code_changes_in_place(clip, towers, inputs):
    x, kept = open_clip_tokens(clip, inputs), []
    for index, block in enumerate(clip.visual.transformer.resblocks):
        x += block.attention(block.ln_1(x))  # in place: what was kept changes too
        x = x + block.mlp(block.ln_2(x))
        if index in MIDS:
            kept.append(x)
    features = embed(towers[0], inputs, VARIANTS["original"])
    for name, expected in zip(("mid1", "mid2"), kept, strict=True):
        expected = torch.nn.functional.normalize(expected[:, 1:], dim=-1)
        assert relative_error(features[name].flatten(1, 2), expected) < 1e-5


def resized_clip(clip, grid):
    """A copy of `clip` for another grid, its positions resized by open_clip."""
    from types import SimpleNamespace

    from open_clip.model import resize_pos_embed

    state = {"visual.positional_embedding": clip.visual.positional_embedding.data}
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=grid)))
    other = copy.deepcopy(clip)
    other.visual.positional_embedding = torch.nn.Parameter(*state.values())
    return other


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (6, 6)])
def test_images_of_any_shape_have_positions_as_open_clip_resizes_them(
    grid, clip, towers
):
    torch.manual_seed(3)
    pixels = torch.randn(1, 3, grid[0] * PATCH, grid[1] * PATCH)
    features = embed(towers[0], pixels, VARIANTS["qq_residual"])
    state = resized_clip(clip, grid).visual.state_dict()
    weights = {n: w.double().numpy() for n, w in state.items()}
    image = pixels[0].double().numpy()
    expected = naive_features(image, weights, VARIANTS["qq_residual"])
    for name, value in expected.items():
        assert relative_error(features[name][0], value) < 1e-5


def test_pixels_beyond_the_last_patch_are_cut(towers):
    torch.manual_seed(3)
    pixels = torch.randn(2, 3, 29, 35)
    whole = embed(towers[0], pixels, VARIANTS["original"])
    part = embed(towers[0], pixels[:, :, :24, :32], VARIANTS["original"])
    assert whole["patch"].shape == (2, 3, 4, 24)
    assert all(torch.equal(whole[name], part[name]) for name in whole)


@pytest.mark.parametrize("variant", [VARIANTS["original"], VARIANTS["vv_residual"]])
def test_one_block_is_enough(variant, inputs):
    torch.manual_seed(2)
    config = TINY | {"vision_cfg": TINY["vision_cfg"] | {"layers": 1}}
    clip = perturbed(open_clip.CLIP(**config)).eval()
    weights = {n: w.double().numpy() for n, w in clip.visual.state_dict().items()}
    features = embed(split_towers(clip, "shallow")[0], inputs[:1], variant)
    image = inputs[0].double().numpy()
    expected = naive_features(image, weights, variant, layers=1, mids=(0, 0))
    for name, value in expected.items():
        assert relative_error(features[name][0], value) < 1e-5


@pytest.mark.parametrize(
    ("layers", "blocks"),
    [(1, (0, 0)), (4, (0, 2)), (8, (1, 4)), (12, (2, 7)), (24, (5, 15)), (32, (7, 20))],
)
def test_memory_comes_from_a_quarter_and_two_thirds_of_the_depth(layers, blocks):
    assert memory_blocks(layers) == blocks


def test_features_are_float32_of_unit_length(towers, inputs):
    features = embed(towers[0], inputs, VARIANTS["original"])
    for feature in features.values():
        assert feature.dtype == torch.float32
        assert torch.allclose(feature.norm(dim=-1), torch.tensor(1.0), atol=1e-6)
    assert {name: tuple(feature.shape) for name, feature in features.items()} == {
        "global": (3, 24),
        "patch": (3, 4, 4, 24),
        "mid1": (3, 4, 4, 32),
        "mid2": (3, 4, 4, 32),
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_bfloat16_is_near(towers, inputs, name):
    half = towers[0].to("cpu", "bfloat16")
    ours, exact = (embed(tower, inputs, VARIANTS[name]) for tower in (half, towers[0]))
    for kind, feature in exact.items():
        assert ours[kind].dtype == torch.float32
        assert 0 < relative_error(ours[kind], feature) < 0.05


def test_memory_features_alone_are_those_of_the_dual_path(towers, inputs):
    alone = embed_memory(towers[0], inputs)
    whole = embed(towers[0], inputs, VARIANTS["original"])
    assert alone.keys() == {"mid1", "mid2"}
    assert all(torch.equal(alone[name], whole[name]) for name in alone)


@torch.no_grad()
def open_clip_windows(clip, inputs, scale):
    """Each window passed alone, through open_clip's own transformer."""
    tokens, visual = open_clip_tokens(clip, inputs), clip.visual
    places = torch.arange(1, 17).view(4, 4)
    found = torch.empty(len(inputs), 5 - scale, 5 - scale, 24)
    for row, column in np.ndindex(found.shape[1:3]):
        window = places[row : row + scale, column : column + scale].flatten().tolist()
        alone = visual.transformer(tokens[:, [0, *window]])[:, 0]
        found[:, row, column] = visual.ln_post(alone) @ visual.proj
    return found


@torch.no_grad()
def test_windows_are_passes_over_their_tokens_alone(clip, towers, inputs):
    found = embed_windows(towers[0], inputs, [2, 3], norm=True)
    assert found.keys() == {"global", "patch", "windows_2", "windows_3"}
    assert relative_error(found["global"], clip.encode_image(inputs)) < 1e-5
    for scale in (2, 3):
        expected = open_clip_windows(clip, inputs, scale)
        assert relative_error(found[f"windows_{scale}"], expected) < 1e-5


def test_two_windows_of_an_image_differ(towers, inputs):
    """They do not where windows and tokens are transposed, see anomalib issue 2571."""
    windows = embed_windows(towers[0], inputs, [2], norm=True)["windows_2"]
    for image in windows.flatten(1, 2):
        assert torch.pdist(image).min() > 1e-3 * image.norm(dim=1).mean()


def test_windows_do_not_depend_on_those_that_pass_together(towers, inputs, monkeypatch):
    whole = embed_windows(towers[0], inputs, [2], norm=True)
    monkeypatch.setitem(clip_vision.WINDOW_TOKENS, "cpu", 1)
    alone = embed_windows(towers[0], inputs, [2], norm=True)
    assert relative_error(alone["windows_2"], whole["windows_2"]) < 1e-6


@pytest.mark.parametrize("norm", [True, False])
def test_patches_beside_windows_are_the_last_tokens(towers, inputs, norm):
    found = embed_windows(towers[0], inputs, [2], norm)["patch"]
    (expected,) = block_tokens(towers[0], inputs, [3], norm)
    assert torch.equal(found, expected)


def test_a_window_has_the_class_token_and_its_patches_row_by_row():
    found = window_tokens((2, 3), 2)
    assert found.tolist() == [[[0, 1, 2, 4, 5], [0, 2, 3, 5, 6]]]


def test_a_window_larger_than_the_image_is_refused(towers, inputs):
    with pytest.raises(UserError, match=r"scales: windows of 5x5 .* 4x4 patches"):
        embed_windows(towers[0], inputs, [5], norm=True)
