"""Image features of CLIP: one pass through the vision tower, by variant."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fsad.backbones.readout import Variant
from fsad.backbones.tower import Tower
from fsad.backbones.tracing import in_blocks
from fsad.backbones.transformer import (
    attend,
    attention_inputs,
    block_weights,
    feed_forward,
    layer_norm,
    resized_positions,
    square_grid,
)
from fsad.errors import UserError

# Tokens that pass the blocks at once. On a CPU those of one block then stay in the
# cache, on a GPU the arithmetic outweighs the launch.
WINDOW_TOKENS = {"cpu": 2**11, "cuda": 2**15}


def embed(tower: Tower, pixels: Tensor, variant: Variant) -> dict[str, Tensor]:
    """L2-normalised features of normalised pixels [B, 3, H, W].

    Returns `global` [B, D], `patch` [B, gh, gw, D], `mid1` and `mid2`
    [B, gh, gw, Dv]. Rows and columns of pixels beyond the last patch are cut.

    Source: PromptAD (Li et al., CVPR 2024) and its public code; in the dual path
    the memory features include the attention residual of the next block, because the
    published code keeps a view that this block changes in place.
    """
    summary, dense, mids = _read_out(tower, _tokens(tower, pixels), variant)
    grid = patch_grid(tower, pixels)
    features = {
        "global": _project(tower, summary[:, :1])[:, 0],
        "patch": _project(tower, dense[:, 1:]).unflatten(1, grid),
        "mid1": mids[0][:, 1:].unflatten(1, grid),
        "mid2": mids[1][:, 1:].unflatten(1, grid),
    }
    return {name: F.normalize(x.float(), dim=-1) for name, x in features.items()}


def embed_memory(tower: Tower, pixels: Tensor) -> dict[str, Tensor]:
    """`mid1` and `mid2` of `embed` in the dual path, without running later blocks."""
    first, second = memory_blocks(tower.config["layers"])
    x, attended = _tokens(tower, pixels), []
    grid = patch_grid(tower, pixels)
    for index in range(second + 2):
        weights = block_weights(tower, index)
        x = x + attend(*attention_inputs(x, weights, tower.config), weights)
        attended.append(x[:, 1:].unflatten(1, grid))
        if index <= second:
            x = x + feed_forward(x, weights, tower.config)
    mids = {"mid1": attended[first + 1], "mid2": attended[second + 1]}
    return {name: F.normalize(x.float(), dim=-1) for name, x in mids.items()}


def block_tokens(
    tower: Tower, pixels: Tensor, blocks: Sequence[int], norm: bool
) -> list[Tensor]:
    """Patch tokens [B, gh, gw, Dv] after each of some blocks (0-based), float32.

    norm: whether with `ln_post`, without the projection. No later block is run.
    """
    x, found, grid = _tokens(tower, pixels), {}, patch_grid(tower, pixels)
    for index in range(max(blocks) + 1):
        x = _block(tower, index, x)
        if index in blocks:
            found[index] = x[:, 1:].unflatten(1, grid)
    if norm:
        found = {index: _final_norm(tower, x) for index, x in found.items()}
    return [found[index].float() for index in blocks]


def embed_windows(
    tower: Tower, pixels: Tensor, scales: Iterable[int], norm: bool
) -> dict[str, Tensor]:
    """Features of normalised pixels [B, 3, H, W] and of windows of them, float32.

    Returns `global` [B, D]; `patch` [B, gh, gw, Dv], the patches after the last block,
    with `ln_post` if `norm`, without the projection; and for each of the scales s, the
    side of a window in patches, `windows_s` [B, gh - s + 1, gw - s + 1, D]. None is
    L2-normalised. Raises UserError for a window larger than the grid.

    Source: WinCLIP (Jeong et al., CVPR 2023), as anomalib computes it.
    """
    tokens, grid = _tokens(tower, pixels), patch_grid(tower, pixels)
    final = _final_tokens(tower, tokens)
    patch = final[:, 1:].unflatten(1, grid)
    found = {"global": _project(tower, final[:, 0])}
    found["patch"] = _final_norm(tower, patch) if norm else patch
    for scale in scales:
        windows = window_tokens(grid, scale).to(tokens.device)
        found[f"windows_{scale}"] = _window_features(tower, tokens, windows)
    return {name: feature.float() for name, feature in found.items()}


def window_tokens(grid: tuple[int, int], scale: int) -> Tensor:
    """Places of the tokens of each window, int64 [gh - s + 1, gw - s + 1, 1 + s * s].

    A window has s x s patches; the class token, at 0, stands before them.
    """
    if scale > min(grid):
        raise UserError(
            f"scales: windows of {scale}x{scale} patches are larger than the "
            f"{grid[0]}x{grid[1]} patches of an image; take smaller ones"
        )
    places = torch.arange(1, 1 + grid[0] * grid[1]).view(grid)
    windows = places.unfold(0, scale, 1).unfold(1, scale, 1).flatten(2)
    return torch.cat([windows.new_zeros(*windows.shape[:2], 1), windows], 2)


def _window_features(tower: Tower, tokens: Tensor, windows: Tensor) -> Tensor:
    """Features [B, rows, columns, D] of windows of tokens [B, N, Dv].

    windows: of `window_tokens`, [rows, columns, T]. Tokens outside a window are absent,
    so that no attention needs a mask.
    """
    gathered = tokens[:, windows]  # (B, rows, columns, T, Dv)
    flat = gathered.flatten(0, 2)  # each window is an element of the batch
    count = max(1, WINDOW_TOKENS[tokens.device.type] // windows.shape[2])
    parts = [_final_tokens(tower, part)[:, 0] for part in in_blocks(flat, count)]
    return _project(tower, torch.cat(parts)).unflatten(0, gathered.shape[:3])


def _final_tokens(tower: Tower, x: Tensor) -> Tensor:
    """Tokens [B, T, Dv] after all blocks."""
    for index in range(tower.config["layers"]):
        x = _block(tower, index, x)
    return x


def _block(tower: Tower, index: int, x: Tensor) -> Tensor:
    """Tokens [B, T, Dv] after a block."""
    weights = block_weights(tower, index)
    x = x + attend(*attention_inputs(x, weights, tower.config), weights)
    return x + feed_forward(x, weights, tower.config)


def patch_grid(tower: Tower, pixels: Tensor) -> tuple[int, int]:
    """Whole patches in the height and width of pixels [B, 3, H, W]."""
    height, width = (side // tower.config["patch_size"] for side in pixels.shape[2:])
    return height, width


def memory_blocks(layers: int) -> tuple[int, int]:
    """Indices of the two blocks whose patch features are kept in the memory."""
    first, second = (max(0, round(layers * part / 12) - 1) for part in (3, 8))
    return first, second


def _tokens(tower: Tower, pixels: Tensor) -> Tensor:
    weights, size = tower.weights, tower.config["patch_size"]
    # A matrix product, since cuDNN's convolutions round float32 to TF32.
    patches = F.unfold(pixels, size, stride=size).mT  # (B, gh*gw, 3 * size * size)
    patches = F.linear(patches, weights["conv1.weight"].flatten(1))
    summary = weights["class_embedding"].expand(patches.shape[0], 1, -1)
    own, grid = weights["positional_embedding"], patch_grid(tower, pixels)
    tokens = torch.cat([summary, patches], 1) + _positions(own, grid)
    return layer_norm(tokens, weights, "ln_pre", tower.config["eps"])


def _positions(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embedding [1 + G*G, Dv] at another grid, as open_clip resizes it."""
    if grid == square_grid(embedding[1:]):
        return embedding
    patches = resized_positions(embedding[1:], size=grid, antialias=True)
    return torch.cat([embedding[:1], patches])


def _final_norm(tower: Tower, tokens: Tensor) -> Tensor:
    return layer_norm(tokens, tower.weights, "ln_post", tower.config["eps"])


def _project(tower: Tower, tokens: Tensor) -> Tensor:
    return _final_norm(tower, tokens) @ tower.weights["proj"]


def _read_out(
    tower: Tower, x: Tensor, variant: Variant
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Final tokens of CLIP's own path and of the dense one, and memory features."""
    config, dual, dense, mids = tower.config, variant.path == "dual", x, []
    wanted = memory_blocks(config["layers"])
    for index in range(config["layers"]):
        weights = block_weights(tower, index)
        qkv = attention_inputs(x, weights, config)
        if dual:
            attended = x + attend(*qkv, weights)
            mids += [attended] * wanted.count(index - 1)
        dense = _dense_step(dense, qkv, weights, config, variant)
        if dual:
            x = attended + feed_forward(attended, weights, config)
        else:
            x = dense
            mids += [x] * wanted.count(index)
    mids += [x] * wanted.count(config["layers"] - 1) * dual
    return x, dense, mids


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
