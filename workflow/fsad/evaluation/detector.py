"""A run as a detector: anomaly scores and maps of new images.

from fsad.data import images
from fsad.evaluation import detector
bottle = detector.load_detector("bottle.safetensors")
size = bottle.tower.config["image_size"]
image = images.square(images.read_image("photograph.jpg"), size)
scores, maps = detector.detect(bottle, np.stack([image]))
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fsad.artifacts.files import damaged
from fsad.backbones.devices import check_device
from fsad.backbones.embed import embed_batch
from fsad.backbones.readout import Variant, parse_variant
from fsad.backbones.tower import Tower, load_tensors, save_tensors, weights_digest
from fsad.evaluation.runs import image_scores
from fsad.methods import base
from fsad.methods.maps import full_maps
from fsad.methods.registry import load

DETECTOR = "detector"
PARTS = "vision", "support", "learned"  # prefixes of tensors in a file
BATCH = 8  # images a pass; that of `embed_images`, so that the bits are the same


class Detector(NamedTuple):
    """All that scores an image: the vision tower, and a method fitted to a class.

    tower: its configuration also has the preprocessing, the side in pixels, mean and
    std of images that `images.square` made. variant: of the features it reads. fitted:
    see `methods.base`. described: `method`, `task`, `options` of the run, `variant`
    (its fields), `threshold` and `map_range` of `calibration`, `backbone` (its name,
    with the tag or digest of the weights), and `run`, the record of the run.
    """

    tower: Tower
    variant: Variant
    fitted: base.Detector
    described: dict


def load_detector(path: str | Path, device: str = "cpu") -> Detector:
    """A detector from a file of `save_detector`, which needs no other file.

    Raises UserError if the file is none, or its vision tower is not what was saved.
    """
    check_device(device)
    tensors, header = load_tensors(path, DETECTOR)
    vision, support, learned = (_part(tensors, name) for name in PARTS)
    described = header[DETECTOR]
    if weights_digest(vision) != described["vision_sha256"]:
        raise damaged(path, ValueError("its vision tower is not what was exported"))
    options = described["options"] | {"device": device}
    method = load(described["method"])
    fitted = method.restore(described["task"], options, support, learned)
    tower = Tower(vision, header["config"]).to(device, options["precision"])
    return Detector(tower, parse_variant(described["variant"]), fitted, described)


def _part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }


def save_detector(path: str | Path, detector: Detector) -> None:
    """Write a detector, vision tower included, to one safetensors file, atomically."""
    weights = detector.tower.weights
    parts = weights, detector.fitted.support, detector.fitted.learned
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, part in zip(PARTS, parts, strict=True)
        for name, tensor in part.items()
    }
    described = detector.described | {"vision_sha256": weights_digest(weights)}
    header = {"config": detector.tower.config, DETECTOR: described}
    save_tensors(path, tensors, header)


def detect(detector: Detector, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [N] and anomaly maps float32 [N, R, R] of images.

    images: uint8 [N, S, S, 3] RGB. PromptAD's detectors of images (cls) give the fused
    scores and the maps of the memory alone, those of pixels (seg) the maxima of the
    fused maps, and these maps.
    """
    return score(detector, embed_batch(detector.tower, images, detector.variant))


def score(detector: Detector, features: base.Features) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N] and full maps [N, R, R] of images by their features."""
    fitted, resolution = detector.fitted, detector.described["options"]["resolution"]
    prediction = fitted.predict(fitted.observe(features))
    scores, maps = image_scores(prediction, resolution, fitted.sigma)
    return scores, full_maps(maps, resolution, fitted.sigma)
