"""Towers: networks as plain tensors with a configuration, and their files.

Tensor names are those of the library that made the network, for open_clip
`transformer.resblocks.0.attn.in_proj_weight`.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fsad.artifacts.files import SETTINGS, atomic, damaged
from fsad.artifacts.stages import check_record

METADATA = "fsad"
CHECKSUM = "crc32"
BLOCK = 2**20  # bytes read at once


class Tower(NamedTuple):
    """Weights by name, and the configuration that the weights do not imply.

    `config` of a tower of CLIP holds `heads`, `layers`, `activation` (gelu |
    quick_gelu), `eps`, and for vision `image_size`, `patch_size`, `mean`, `std`, for
    text `context_length`, `logit_scale`. That of a network of timm: see `timm_models`.
    """

    weights: dict[str, Tensor]
    config: dict

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(iter(self.weights.values())).device

    def to(self, device: str, precision: str) -> "Tower":
        """Move to a device, with matrix products of blocks in `float32` or `bfloat16`.

        Everything else, including layer norms and skip connections, stays in float32.
        """
        dtype, weights = getattr(torch, precision), {}
        for name, weight in self.weights.items():
            multiplied = self._is_multiplied(name)
            weights[name] = weight.to(device, dtype if multiplied else weight.dtype)
        return Tower(weights, self.config)

    def _is_multiplied(self, name: str) -> bool:
        """Whether a weight is a factor of products that take the precision."""
        if "library" in self.config:  # of timm, with names that differ by model
            return name.endswith("weight") and self.weights[name].ndim > 1
        return ".attn." in name or ".mlp." in name


def save_tower(path: str | Path, tower: Tower, settings: Mapping) -> None:
    """Write a tower, its settings and a checksum to one file."""
    described = {"config": tower.config, SETTINGS: settings}
    with atomic(path) as temporary:
        _write(temporary, tower.weights, described)
        described[CHECKSUM] = _checksum(temporary, tower.weights, described)
        _write(temporary, tower.weights, described)


def _checksum(path: Path, weights: Mapping[str, Tensor], described: Mapping) -> int:
    """CRC-32 of everything in the file of a tower.

    The file is read instead of the mapped weights, so that unused weights stay out of
    memory.
    """
    shapes = {name: [str(w.dtype), list(w.shape)] for name, w in weights.items()}
    header = json.dumps([shapes, dict(described)], sort_keys=True)
    checksum = zlib.crc32(header.encode())
    with open(path, "rb") as file:
        file.seek(int.from_bytes(file.read(8), "little"), os.SEEK_CUR)  # the header
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum


def load_tower(path: str | Path, record: Mapping | None = None) -> Tower:
    """Memory-map a tower.

    record: expected among its settings, see `stages.check_record`. Raises UserError if
    the file is missing or damaged, or has another record.
    """
    weights, described = load_tensors(path, CHECKSUM)
    if described.pop(CHECKSUM) != _checksum(path, weights, described):
        raise damaged(path, ValueError("its content does not match its checksum"))
    if record is not None:
        check_record(path, described[SETTINGS], record)
    return Tower(weights, described["config"])


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], described: Mapping
) -> None:
    """Write tensors and a JSON description to one safetensors file, atomically."""
    with atomic(path) as temporary:
        _write(temporary, tensors, described)


def _write(path: Path, tensors: Mapping[str, Tensor], described: Mapping) -> None:
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    # One metadata entry, since the order of several is not fixed.
    save_file(plain, path, {METADATA: json.dumps(described, sort_keys=True)})


def load_tensors(
    path: str | Path, entry: str, expected: str = ""
) -> tuple[dict[str, Tensor], dict]:
    """Memory-map the tensors of a file of `save_tensors`, and read its description.

    Raises UserError if the file cannot be read, or its description has no such `entry`.
    expected: see `damaged`.
    """
    try:
        with safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            if entry not in described:
                raise ValueError(f"{entry!r} is not in its metadata")
            return {name: file.get_tensor(name) for name in file.keys()}, described  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error, expected) from error


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, types and shapes, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(plain.numpy())
    return digest.hexdigest()
