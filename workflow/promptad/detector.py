"""A trained run as a detector: anomaly scores and maps of new images.

from promptad import detector, images
bottle = detector.load_detector("bottle.safetensors")
size = bottle.tower.config["image_size"]
image = images.square(images.read_image("photograph.jpg"), size)
scores, maps = detector.detect(bottle, np.stack([image]))
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from promptad import scores
from promptad.devices import check_device
from promptad.maps import full_maps
from promptad.scores import MEMORY
from promptad.storage import damaged
from promptad.transformer import (
    Tower,
    load_tensors,
    save_tensors,
    weights_digest,
)
from promptad.variants import Variant
from promptad.vision import embed, normalise_pixels

DETECTOR, VISION = "detector", "vision."
BATCH = 8  # images a pass; that of `vision.embed_images`, so that the bits are the same


class Detector(NamedTuple):
    """All that scores an image: the vision tower and what was learned of a class.

    tower: also tells the preprocessing, the side in pixels, mean and std of what
    `images.square` made. prompts: normal and abnormal direction [2, D]. memory:
    `mid1` and `mid2` of the support patches, [k, P, Dv]. options: `task`, `variant`
    (its fields), `temperature` (factor of the logits), `resolution` (of the maps),
    `threshold` and `map_range` of `calibration`, `backbone` (its name, with the tag
    or digest of the weights), and `run`, the settings that made the run.
    """

    tower: Tower
    prompts: Tensor
    memory: dict[str, Tensor]
    options: dict


def load_detector(path: str | Path, device: str = "cpu") -> Detector:
    """A detector from a file that `save_detector` wrote; it needs nothing else.

    Raises UserError if the file is none, or its vision tower is not what was saved.
    """
    check_device(device)
    tensors, described = load_tensors(path, DETECTOR)
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    weights = {
        name.removeprefix(VISION): tensor
        for name, tensor in tensors.items()
        if name.startswith(VISION)
    }
    options = described[DETECTOR]
    if weights_digest(weights) != options["vision_sha256"]:
        raise damaged(path, ValueError("its vision tower is not what was exported"))
    tower, memory = Tower(weights, described["config"]), {n: tensors[n] for n in MEMORY}
    return Detector(tower, tensors["prompts"], memory, options)


def save_detector(path: str | Path, detector: Detector) -> None:
    """Write a detector, vision tower included, to one safetensors file, atomically."""
    tensors = {f"{VISION}{n}": w for n, w in detector.tower.weights.items()}
    tensors |= {"prompts": detector.prompts, **detector.memory}
    digest = weights_digest(detector.tower.weights)
    options = detector.options | {"vision_sha256": digest}
    described = {"config": detector.tower.config, DETECTOR: options}
    save_tensors(path, tensors, described)


def detect(detector: Detector, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [N] and anomaly maps float32 [N, R, R] of images.

    images: uint8 [N, S, S, 3] RGB, as many as the device takes at once. For a cls
    detector these are the fused scores and the maps of the patch memory alone, for a
    seg detector the maxima of the fused maps, and these maps.
    """
    return read_off(detector, *score(detector, see(detector, images)))


@torch.inference_mode()
def see(detector: Detector, images: np.ndarray) -> dict[str, Tensor]:
    """Features of images uint8 [N, S, S, 3], as `vision.embed` gives them."""
    pixels = normalise_pixels(images, detector.tower)
    return embed(detector.tower, pixels, Variant(**detector.options["variant"]))


@torch.inference_mode()
def score(
    detector: Detector, features: Mapping[str, Tensor]
) -> tuple[np.ndarray | None, np.ndarray]:
    """Scores [N] (None for seg) and maps [N, G, G], those of a run's scores.npz."""
    task, factor = detector.options["task"], detector.options["temperature"]
    visual = scores.visual_maps(features, detector.memory)
    seen = features[scores.TRAINED_ON[task]]
    textual = scores.textual_scores(seen, detector.prompts, factor)
    if task == "seg":
        return None, scores.harmonic(textual.view_as(visual), visual).cpu().numpy()
    peaks = scores.peak_scores(visual, detector.options["resolution"])
    return scores.harmonic(peaks, textual).cpu().numpy(), visual.cpu().numpy()


def read_off(
    detector: Detector, values: np.ndarray | None, grids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """From what `score` gives to scores [N] and maps at their size, [N, R, R]."""
    maps = full_maps(grids, detector.options["resolution"])
    return maps.max((1, 2)) if values is None else values, maps
