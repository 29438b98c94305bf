"""Everything a training needs of the images, computed once and cached."""

import numpy as np
import torch

from promptad import scores
from promptad.transformer import Tower, tower_device
from promptad.variants import Variant
from promptad.vision import embed_images

MEMORY = ("mid1", "mid2")


def embed_test(
    tower: Tower, images: dict[str, np.ndarray], variant: Variant
) -> dict[str, np.ndarray]:
    """Features of the test images with their labels and names."""
    features = embed_images(tower, images["images"], variant)
    return features | {name: images[name] for name in ("labels", "names")}


def embed_support(
    tower: Tower,
    support: dict[str, np.ndarray],
    test: dict[str, np.ndarray],
    variant: Variant,
) -> dict[str, np.ndarray]:
    """Features of the support images, and `visual`, float32 [N, G, G].

    `visual` is the distance map of every test image to the memory of support
    patches; training never changes it. `test` holds at least `mid1` and `mid2`.
    """
    features = embed_images(tower, support["images"], variant)
    device = tower_device(tower)
    visual = scores.visual_maps(_memory(test, device), _memory(features, device))
    return features | {"visual": visual.cpu().numpy(), "names": support["names"]}


def _memory(
    features: dict[str, np.ndarray], device: torch.device
) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(features[name]).to(device) for name in MEMORY}
