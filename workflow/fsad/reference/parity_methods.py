"""Parity cases of AnomalyDINO, SubspaceAD and PatchCore: networks by formula."""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from fsad.backbones.timm_models import ARGUMENTS, tower_of
from fsad.backbones.tower import Tower

REGISTERS = 4


def formula_network(meta: Mapping) -> Tower:
    """Tower of the network of a case, its weights by formula."""
    if "backbone" in meta:
        return _dinov2(meta["backbone"], meta)
    model = dict(meta["model_config"])
    return _wide_resnet(model.pop("name"), model, meta)


def _dinov2(backbone: Mapping, pixels: Mapping) -> Tower:
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    model, arguments = _dinov2_arguments(backbone)
    network = timm.create_model(model, **arguments)
    weights = {
        name: torch.from_numpy(dinov2_weight(name, shape, backbone))
        for name, shape in _original_shapes(network, backbone).items()
    }
    network.load_state_dict(checkpoint_filter_fn(weights, network))
    return tower_of(network, model, arguments, pixels)


def _dinov2_arguments(backbone: Mapping) -> tuple[str, dict]:
    """Name in timm, which implies the kind of feed-forward, and arguments."""
    size = "small" if backbone["ffn"] == "mlp" else "giant"
    registers = f"_reg{REGISTERS}" if backbone["registers"] else ""
    width, ratio = backbone["width"], backbone["mlp_ratio"]
    if size == "giant":  # SwiGLU, both of its halves in one layer
        hidden = (int(ratio * width * 2 / 3) + 7) // 8 * 8
        ratio = 2 * hidden / width
    own = {"embed_dim": width, "num_heads": backbone["heads"], "mlp_ratio": ratio}
    own |= {name: backbone[name] for name in ("img_size", "patch_size", "depth")}
    return f"vit_{size}_patch14{registers}_dinov2", ARGUMENTS["vit"] | own


def _original_shapes(network: nn.Module, backbone: Mapping) -> dict[str, tuple]:
    """Shapes of the weights of the original checkpoint, by its names."""
    shapes = {n: tuple(weight.shape) for n, weight in network.state_dict().items()}
    if backbone["ffn"] != "mlp":
        renamed = (("mlp.fc1", "mlp.w12"), ("mlp.fc2", "mlp.w3"))
        for timms, original in renamed:
            shapes = {n.replace(timms, original): s for n, s in shapes.items()}
    if backbone["registers"]:  # timm adds the position of the class token to it
        shapes["register_tokens"] = shapes.pop("reg_token")
        _, patches, width = shapes["pos_embed"]
        shapes["pos_embed"] = 1, patches + 1, width
    return shapes | {"mask_token": (1, backbone["width"])}


def dinov2_weight(name: str, shape: tuple[int, ...], backbone: Mapping) -> np.ndarray:
    """Weight of a parameter of DINOv2 by formula, float32."""
    x, last = _normal(name, shape, backbone["weight_seed"]), name.rpartition(".")[2]
    scaled = 1 + 0.1 * x
    if name == "mask_token":
        x = 0 * x
    elif last == "gamma":
        x = scaled
    elif name == "norm.weight":
        x = backbone["norm_gain"] * scaled
    elif "norm" in name:
        x = scaled if last == "weight" else 0.1 * x
    elif name in ("cls_token", "pos_embed", "register_tokens"):
        x = 0.2 * x
    elif last == "bias":
        x = 0.02 * x
    else:
        x = x / np.sqrt(np.prod(shape[1:]))
    return x.astype(np.float32)


def _wide_resnet(model: str, arguments: Mapping, meta: Mapping) -> Tower:
    import timm

    arguments = ARGUMENTS["cnn"] | arguments
    network = timm.create_model(model, **arguments)
    weights = {
        name: torch.from_numpy(resnet_weight(name, tuple(w.shape), meta["weight_seed"]))
        for name, w in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    network.load_state_dict(weights, strict=False)
    return tower_of(network, model, arguments, meta)


def resnet_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Weight or statistic of a ResNet by formula, float32."""
    x, last = _normal(name, shape, seed), name.rpartition(".")[2]
    if last == "running_var":
        x = np.exp(0.2 * x)
    elif last in ("running_mean", "bias"):
        x = 0.1 * x
    elif len(shape) == 1:
        x = 1 + 0.1 * x
    else:
        x = x / np.sqrt(np.prod(shape[1:]))
    return x.astype(np.float32)


def _normal(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal numbers, float64, that depend on a name."""
    state = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    return state.standard_normal(shape)
