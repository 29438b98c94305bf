"""Parts of a pre-norm vision or text transformer, on plain tensors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fsad.backbones.tower import Tower


def block_weights(tower: Tower, index: int) -> dict[str, Tensor]:
    """Weights of block `index` by their short names (`ln_1.weight`, ...)."""
    prefix = f"transformer.resblocks.{index}."
    weights = tower.weights.items()
    return {n.removeprefix(prefix): w for n, w in weights if n.startswith(prefix)}


def layer_norm(x: Tensor, weights: dict[str, Tensor], name: str, eps: float) -> Tensor:
    """Layer norm over the last axis, float32."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return F.layer_norm(x.float(), weight.shape, weight, bias, eps)


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """Linear layer, in the precision of its weights."""
    weight, bias = weights[f"{name}weight"], weights[f"{name}bias"]
    return F.linear(x.to(weight.dtype), weight, bias)


def attention_inputs(x: Tensor, weights: dict, config: dict) -> tuple[Tensor, ...]:
    """Queries, keys and values [B, heads, T, d] of a block from its input [B, T, D]."""
    h = layer_norm(x, weights, "ln_1", config["eps"])
    parts = linear(h, weights, "attn.in_proj_").chunk(3, -1)
    shape = config["heads"], -1
    return tuple(part.unflatten(-1, shape).transpose(1, 2) for part in parts)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: dict[str, Tensor],
    attn_mask: Tensor | None = None,
) -> Tensor:
    """Attention of [B, heads, T, d] with the output projection, [B, T, D].

    attn_mask: added to the logits, 0 where a token sees another and -inf elsewhere.
    """
    attention = _attention if q.requires_grad else F.scaled_dot_product_attention
    mixed = attention(q, k, v, attn_mask)
    return linear(mixed.transpose(1, 2).flatten(2), weights, "attn.out_proj.")


def _attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None) -> Tensor:
    """Attention by plain matrix products.

    On CPUs its gradient takes a third of the time of that of the fused kernel.
    """
    logits = q * q.shape[-1] ** -0.5 @ k.mT
    if attn_mask is not None:
        logits = logits + attn_mask
    return logits.softmax(-1).to(v.dtype) @ v


def feed_forward(x: Tensor, weights: dict[str, Tensor], config: dict) -> Tensor:
    """Second half of a block without its skip connection, `mlp(ln_2(x))`."""
    h = layer_norm(x, weights, "ln_2", config["eps"])
    h = linear(h, weights, "mlp.c_fc.")
    quick = config["activation"] == "quick_gelu"
    h = h * torch.sigmoid(1.702 * h) if quick else F.gelu(h)
    return linear(h, weights, "mlp.c_proj.")


def square_grid(patches: Tensor) -> tuple[int, int]:
    """Grid of the position embedding [G*G, D] of the patches of a square."""
    side = round(len(patches) ** 0.5)
    return side, side


def resized_positions(patches: Tensor, **options) -> Tensor:
    """Position embedding [G*G, D] at another grid, bicubic, [gh*gw, D].

    options: of torch's interpolate, `size` or `scale_factor` and `antialias`.
    """
    square = patches.view(1, *square_grid(patches), -1).permute(0, 3, 1, 2)
    return F.interpolate(square, mode="bicubic", **options)[0].flatten(1).mT
