"""CLIP towers as plain tensors, and the parts of a pre-norm transformer block.

Tensor names are those of open_clip (`transformer.resblocks.0.attn.in_proj_weight`).
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from promptad.storage import SETTINGS, atomic, check_origin, damaged, write_digest

METADATA = "promptad"
CHECKSUM = "crc32"
BLOCK = 2**20  # bytes read at once


class Tower(NamedTuple):
    """Weights by name, and the configuration the weights do not tell.

    `config` holds `heads`, `layers`, `activation` (gelu | quick_gelu), `eps`, and
    for vision `image_size`, `patch_size`, `mean`, `std`, for text `context_length`,
    `logit_scale`.
    """

    weights: dict[str, Tensor]
    config: dict


def save_tower(path: str | Path, tower: Tower, settings: Mapping) -> None:
    """Write a tower, the settings that made it and a checksum to one file."""
    described = {"config": tower.config, SETTINGS: settings}
    with atomic(path) as temporary:
        _write(temporary, tower.weights, described)
        described[CHECKSUM] = _checksum(temporary, tower.weights, described)
        _write(temporary, tower.weights, described)


def _checksum(path: Path, weights: Mapping[str, Tensor], described: Mapping) -> int:
    """CRC-32, as archives of arrays have it, of all that a tower's file holds.

    The file is read, not the mapped weights, which then stay out of memory if unused.
    """
    shapes = {name: [str(w.dtype), list(w.shape)] for name, w in weights.items()}
    told = json.dumps([shapes, dict(described)], sort_keys=True)
    checksum = zlib.crc32(told.encode())
    with open(path, "rb") as file:
        file.seek(int.from_bytes(file.read(8), "little"), os.SEEK_CUR)  # the header
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum


def write_towers_digest(path: str | Path, vision: Tower, text: Tower) -> None:
    """Write the digest of two towers' weights and configurations, see storage."""
    arrays = {}
    for part, tower in (("vision", vision), ("text", text)):
        arrays |= {f"{part}.{name}": w.numpy() for name, w in tower.weights.items()}
        arrays[part] = np.array(json.dumps(tower.config, sort_keys=True))
    write_digest(path, arrays)


def load_tower(path: str | Path, origin: Mapping | None = None) -> Tower:
    """Memory-map a tower.

    origin: see `storage.check_origin`. Raises UserError if the file is missing,
    damaged or of another origin.
    """
    weights, described = load_tensors(path, CHECKSUM)
    if described.pop(CHECKSUM) != _checksum(path, weights, described):
        raise damaged(path, ValueError("its content is not that of its checksum"))
    if origin is not None:
        check_origin(path, described[SETTINGS], origin)
    return Tower(weights, described["config"])


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], described: Mapping
) -> None:
    """Write tensors and what describes them to one safetensors file, atomically."""
    with atomic(path) as temporary:
        _write(temporary, tensors, described)


def _write(path: Path, tensors: Mapping[str, Tensor], described: Mapping) -> None:
    kept = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    # One metadata entry, since the order of several is not fixed.
    save_file(kept, path, {METADATA: json.dumps(described, sort_keys=True)})


def load_tensors(path: str | Path, entry: str) -> tuple[dict[str, Tensor], dict]:
    """What `save_tensors` wrote, memory-mapped.

    Raises UserError if the file is missing, damaged, or not described by `entry`.
    """
    try:
        with safe_open(path, "pt") as file:
            described = json.loads(file.metadata()[METADATA])
            described[entry]
            return {name: file.get_tensor(name) for name in file.keys()}, described  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, types and shapes, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(plain.numpy())
    return digest.hexdigest()


def placed(tower: Tower, device: str, precision: str) -> Tower:
    """A tower on a device, its blocks' products computed in `precision`.

    precision: `float32` or `bfloat16`. All else, layer norms and skips included, is
    float32 in either.
    """
    kind = getattr(torch, precision)
    weights = {
        name: weight.to(device, kind if _is_multiplied(name) else weight.dtype)
        for name, weight in tower.weights.items()
    }
    return Tower(weights, tower.config)


def _is_multiplied(name: str) -> bool:
    return ".attn." in name or ".mlp." in name


def tower_device(tower: Tower) -> torch.device:
    """Where a tower lies."""
    return tower.weights["positional_embedding"].device


def block_weights(tower: Tower, index: int) -> dict[str, Tensor]:
    """The weights of block `index` under their short names (`ln_1.weight`, ...)."""
    prefix = f"transformer.resblocks.{index}."
    weights = tower.weights.items()
    return {n.removeprefix(prefix): w for n, w in weights if n.startswith(prefix)}


def layer_norm(x: Tensor, weights: dict[str, Tensor], name: str, eps: float) -> Tensor:
    """Layer norm over the last axis, float32."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return F.layer_norm(x.float(), weight.shape, weight, bias, eps)


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """The product with the weights of this name, in their precision."""
    weight, bias = weights[f"{name}weight"], weights[f"{name}bias"]
    return F.linear(x.to(weight.dtype), weight, bias)


def split_heads(
    h: Tensor, weights: dict[str, Tensor], heads: int
) -> tuple[Tensor, ...]:
    """Queries, keys and values [B, heads, T, d] of normalised tokens [B, T, D]."""
    parts = linear(h, weights, "attn.in_proj_").chunk(3, -1)
    return tuple(part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: dict[str, Tensor],
    attn_mask: Tensor | None = None,
) -> Tensor:
    """Attention of [B, heads, T, d] with the output projection, [B, T, D].

    attn_mask: added to the logits, 0 for what is seen and -inf for what is not.
    """
    attention = _attention if q.requires_grad else F.scaled_dot_product_attention
    mixed = attention(q, k, v, attn_mask)
    return linear(mixed.transpose(1, 2).flatten(2), weights, "attn.out_proj.")


def _attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None) -> Tensor:
    """Attention by plain products, whose gradient takes a third of the time that the
    fused kernel's takes on CPUs."""
    logits = q * q.shape[-1] ** -0.5 @ k.mT
    if attn_mask is not None:
        logits = logits + attn_mask
    return logits.softmax(-1).to(v.dtype) @ v


def feed_forward(x: Tensor, weights: dict[str, Tensor], config: dict) -> Tensor:
    """The block's second half without its skip, `mlp(ln_2(x))`."""
    h = layer_norm(x, weights, "ln_2", config["eps"])
    h = linear(h, weights, "mlp.c_fc.")
    h = h * torch.sigmoid(1.702 * h) if _is_quick(config) else F.gelu(h)
    return linear(h, weights, "mlp.c_proj.")


def _is_quick(config: dict) -> bool:
    return config["activation"] == "quick_gelu"
