"""Image features of CLIP: one pass through the vision tower, by variant."""

from collections.abc import Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from fsad.backbones.readout import Variant
from fsad.backbones.tower import Tower
from fsad.backbones.transformer import (
    attend,
    block_weights,
    feed_forward,
    layer_norm,
    split_heads,
)


def embed(tower: Tower, pixels: Tensor, variant: Variant) -> dict[str, Tensor]:
    """L2-normalised features of normalised pixels [B, 3, S, S].

    Returns `global` [B, D], `patch` [B, G*G, D], `mid1` and `mid2` [B, G*G, Dv].

    Source: PromptAD (Li et al., CVPR 2024) and its public code; in the dual path
    the memory features include the attention residual of the next block, because the
    published code keeps a view that this block changes in place.
    """
    tokens = _tokens(tower, pixels)
    run = _dual_path if variant.path == "dual" else _single_path
    summary, dense, mids = run(tower, tokens, variant)
    features = {
        "global": _project(tower, summary[:, :1])[:, 0],
        "patch": _project(tower, dense[:, 1:]),
        "mid1": mids[0][:, 1:],
        "mid2": mids[1][:, 1:],
    }
    return {name: F.normalize(x.float(), dim=-1) for name, x in features.items()}


def embed_memory(tower: Tower, pixels: Tensor) -> dict[str, Tensor]:
    """`mid1` and `mid2` of `embed` in the dual path, without running later blocks."""
    first, second = (block + 1 for block in memory_blocks(tower.config["layers"]))
    blocks = _blocks(tower, _tokens(tower, pixels))
    attended = [x[:, 1:] for _, _, x in islice(blocks, second + 1)]
    mids = {"mid1": attended[first], "mid2": attended[second]}
    return {name: F.normalize(x.float(), dim=-1) for name, x in mids.items()}


def memory_blocks(layers: int) -> tuple[int, int]:
    """Indices of the two blocks whose patch features are kept in the memory."""
    first, second = (max(0, round(layers * part / 12) - 1) for part in (3, 8))
    return first, second


def _tokens(tower: Tower, pixels: Tensor) -> Tensor:
    weights, size = tower.weights, tower.config["patch_size"]
    # A matrix product, since cuDNN's convolutions round float32 to TF32.
    patches = F.unfold(pixels, size, stride=size).mT  # (B, G*G, 3 * size * size)
    patches = F.linear(patches, weights["conv1.weight"].flatten(1))
    summary = weights["class_embedding"].expand(len(patches), 1, -1)
    tokens = torch.cat([summary, patches], 1) + weights["positional_embedding"]
    return layer_norm(tokens, weights, "ln_pre", tower.config["eps"])


def _project(tower: Tower, tokens: Tensor) -> Tensor:
    normal = layer_norm(tokens, tower.weights, "ln_post", tower.config["eps"])
    return normal @ tower.weights["proj"]


def _blocks(tower: Tower, x: Tensor) -> Iterator[tuple]:
    """Yield weights, (q, k, v) and the residual stream after attention of each block.

    The feed-forward of a block runs when the next block is requested.
    """
    config = tower.config
    for index in range(config["layers"]):
        weights = block_weights(tower, index)
        qkv = _attention_inputs(x, weights, config)
        attended = x + attend(*qkv, weights)
        yield weights, qkv, attended
        if index < config["layers"] - 1:
            x = attended + feed_forward(attended, weights, config)


def _dual_path(
    tower: Tower, tokens: Tensor, variant: Variant
) -> tuple[Tensor, Tensor, list[Tensor]]:
    config, wanted, mids = tower.config, memory_blocks(tower.config["layers"]), []
    dense = tokens
    for index, block in enumerate(_blocks(tower, tokens)):
        weights, qkv, attended = block
        mids += [attended] * wanted.count(index - 1)
        dense = _dense_step(dense, qkv, weights, config, variant)
    x = attended + feed_forward(attended, weights, config)
    mids += [x] * wanted.count(config["layers"] - 1)
    return x, dense, mids


def _single_path(
    tower: Tower, tokens: Tensor, variant: Variant
) -> tuple[Tensor, Tensor, list[Tensor]]:
    config, wanted, mids = tower.config, memory_blocks(tower.config["layers"]), []
    x = tokens
    for index in range(config["layers"]):
        weights = block_weights(tower, index)
        qkv = _attention_inputs(x, weights, config)
        x = _dense_step(x, qkv, weights, config, variant)
        mids += [x] * wanted.count(index)
    return x, x, mids


def _attention_inputs(
    x: Tensor, weights: dict[str, Tensor], config: dict
) -> tuple[Tensor, ...]:
    """Queries, keys and values of a block from its input x."""
    h = layer_norm(x, weights, "ln_1", config["eps"])
    return split_heads(h, weights, config["heads"])


def _dense_step(
    x: Tensor,
    qkv: tuple[Tensor, ...],
    weights: dict[str, Tensor],
    config: dict,
    variant: Variant,
) -> Tensor:
    same = qkv["qkv".index(variant.attention[0])]
    change = attend(same, same, qkv[2], weights)
    x = x + change if variant.residual else change
    if variant.ffn:
        change = feed_forward(x, weights, config)
        x = x + change if variant.residual else change
    return x
