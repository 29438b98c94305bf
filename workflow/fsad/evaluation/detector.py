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

from fsad.backbones.devices import check_device
from fsad.backbones.embed import embed_batch
from fsad.backbones.networks import open_network
from fsad.backbones.readout import Variant, parse_variant, promptad_readout
from fsad.backbones.tower import Tower, load_tensors, save_tensors, weights_digest
from fsad.errors import UserError
from fsad.evaluation.runs import image_scores
from fsad.methods import base
from fsad.methods.maps import full_maps
from fsad.methods.registry import METHODS, load

DETECTOR = "detector"
KEYS = {"method", "task", "options", "variant", "shapes", "threshold", "map_range"}
PREFIXES = "vision", "support", "learned"  # of tensors in a file


class Detector(NamedTuple):
    """A vision tower, and a method that was fitted to its features of a class.

    tower: its configuration includes the preprocessing: side in pixels, mean and std of
    images that `images.square` has made. variant: of the features. fitted: see
    `methods.base`. described: `method`, `task`, `options` of the run, `variant` (its
    fields), `shapes` of the support images before resizing, `threshold` and `map_range`
    of `calibration`, `backbone` (its name, with the tag or digest of the weights), and
    `run`, the settings stored in the run.
    """

    tower: Tower
    variant: Variant
    fitted: base.Detector
    described: dict


def load_detector(path: str | Path, device: str = "cpu") -> Detector:
    """Load a detector from a file of `save_detector` alone.

    Raises UserError if the file is not one, or its vision tower is another than saved.
    """
    check_device(device)
    tensors, header = load_tensors(path, DETECTOR, "a whole detector of `fsad export`")
    vision, support, learned = (with_prefix(tensors, f"{p}.") for p in PREFIXES)
    described = header[DETECTOR]
    if not (described.keys() >= KEYS and described["method"] in METHODS):
        raise UserError(f"{path}: a detector of another version; export it again")
    if weights_digest(vision) != described["vision_sha256"]:
        raise UserError(
            f"{path}: its vision tower is not the exported one; export it again"
        )
    tower = Tower(vision, header["config"])
    return assemble(tower, described, support, learned, device)


def assemble(
    tower: Tower,
    described: dict,
    support: base.Features,
    learned: base.Features,
    device: str,
) -> Detector:
    """A detector on a device, from its tensors."""
    options, method = described["options"] | {"device": device}, described["method"]
    fitted = load(method).restore(described["task"], options, support, learned)
    tower = tower.to(device, options["precision"])
    return Detector(tower, parse_variant(described["variant"]), fitted, described)


def with_prefix(arrays: Mapping, prefix: str) -> dict:
    """Arrays whose names start with a prefix, without it."""
    found = (name for name in arrays if name.startswith(prefix))
    return {name.removeprefix(prefix): arrays[name] for name in found}


def save_detector(path: str | Path, detector: Detector) -> None:
    """Write a detector, vision tower included, to one safetensors file, atomically."""
    weights = detector.tower.weights
    groups = weights, detector.fitted.support, detector.fitted.learned
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, group in zip(PREFIXES, groups, strict=True)
        for name, tensor in group.items()
    }
    described = detector.described | {"vision_sha256": weights_digest(weights)}
    header = {"config": detector.tower.config, DETECTOR: described}
    save_tensors(path, tensors, header)


def detect(detector: Detector, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [N] and anomaly maps float32 [N, R, R] of images.

    images: uint8 [N, S, S, 3] RGB. With PromptAD a cls detector gives fused scores and
    maps of the memory alone, a seg detector fused maps and their maxima. Raises
    UserError for anything else, since values of other types have another range.
    """
    _check_images(images, detector.tower.config["image_size"])
    images = np.ascontiguousarray(images)  # torch takes no mirrored views
    readout = promptad_readout(detector.variant, images.shape[1])
    return score(detector, embed_batch(open_network(detector.tower), images, readout))


def _check_images(images: np.ndarray, size: int) -> None:
    found = type(images).__name__
    if isinstance(images, np.ndarray):
        found = f"{images.dtype} {list(images.shape)}"
        if images.dtype == np.uint8 and images.shape[1:] == (size, size, 3):
            return
    raise UserError(
        f"images: must be uint8 [N, {size}, {size}, 3] RGB in a NumPy array, not "
        f"{found}; see `fsad.data.images`"
    )


def score(detector: Detector, features: base.Features) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N] and full maps [N, R, R] of images, from their features."""
    fitted, resolution = detector.fitted, detector.described["options"]["resolution"]
    prediction = fitted.predict(fitted.observe(features))
    scores, maps = image_scores(prediction, resolution, fitted.sigma)
    return scores, full_maps(maps, resolution, fitted.sigma)
