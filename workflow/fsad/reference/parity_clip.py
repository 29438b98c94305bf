"""Parity cases of methods on CLIP: its towers by formula."""

import zlib

import numpy as np
import torch

from fsad.backbones.clip import split_towers
from fsad.backbones.tower import Tower


def formula_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Weight of a parameter of open_clip by formula, float32."""
    if name == "logit_scale":
        return np.array(np.log(100), np.float32)
    state = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    x = state.standard_normal(shape)
    if "ln_" in name:
        x = 1 + 0.1 * x if name.endswith("weight") else 0.1 * x
    elif "embedding" in name:
        x = x * 0.1
    elif name.endswith("bias"):
        x = x * 0.02
    elif name in ("visual.proj", "text_projection"):
        x = x * shape[0] ** -0.5
    else:
        inputs = shape[1:] if name == "visual.conv1.weight" else shape[1]
        x = x * float(np.prod(inputs)) ** -0.5
    return x.astype(np.float32)


def formula_towers(config: dict, seed: int) -> tuple[Tower, Tower]:
    """Vision and text tower of an open_clip model configuration, by formula."""
    import open_clip

    clip = open_clip.CLIP(**config)
    state = {
        name: torch.from_numpy(formula_weight(name, tuple(weight.shape), seed))
        for name, weight in clip.state_dict().items()
    }
    clip.load_state_dict(state)
    return split_towers(clip.eval(), "parity case")
