"""A run as a detector: anomaly scores and maps of new images.

from fsad.data import images
from fsad.evaluation import detector
bottle = detector.load_detector("bottle.safetensors")
image = detector.view_of(bottle, images.read_image("photograph.jpg"))
scores, maps = detector.detect(bottle, np.stack([image]))
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fsad.backbones.devices import check_device
from fsad.backbones.embed import embed_batch
from fsad.backbones.features import stored
from fsad.backbones.networks import Network, open_network
from fsad.backbones.readout import Readout, parse_readout
from fsad.backbones.tower import Tower, load_tensors, save_tensors, weights_digest
from fsad.data.views import View, resized
from fsad.errors import UserError
from fsad.evaluation.runs import image_scores
from fsad.methods import base
from fsad.methods.maps import full_maps
from fsad.methods.registry import METHODS, load

DETECTOR = "detector"
KEYS = {"method", "task", "options", "readout", "shapes", "threshold", "map_range"}
PREFIXES = "vision", "support", "learned"  # of tensors in a file


class Detector(NamedTuple):
    """A network, and a method that was fitted to its features of a class.

    network: of the vision tower. readout: the features, and the view of images that
    they are of. fitted: see `methods.base`. described: `method`, `task`, `options` of
    the run, `readout`, `shapes` of the support images before resizing, `threshold` and
    `map_range` of `calibration`, `backbone` (its name, with the tag or digest of the
    weights), and `run`, the settings stored in the run.
    """

    network: Network
    readout: Readout
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
    network = open_network(tower.to(device, options["precision"]))
    return Detector(network, parse_readout(described["readout"]), fitted, described)


def with_prefix(arrays: Mapping, prefix: str) -> dict:
    """Arrays whose names start with a prefix, without it."""
    found = (name for name in arrays if name.startswith(prefix))
    return {name.removeprefix(prefix): arrays[name] for name in found}


def save_detector(path: str | Path, detector: Detector) -> None:
    """Write a detector, vision tower included, to one safetensors file, atomically."""
    tower = detector.network.tower
    weights = tower.weights
    groups = weights, detector.fitted.support, detector.fitted.learned
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, group in zip(PREFIXES, groups, strict=True)
        for name, tensor in group.items()
    }
    described = detector.described | {"vision_sha256": weights_digest(weights)}
    header = {"config": tower.config, DETECTOR: described}
    save_tensors(path, tensors, header)


def detect(detector: Detector, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [N] and anomaly maps float32 [N, R, R] of images.

    images: uint8 [N, H, W, 3] RGB, of `view_of`. With PromptAD a cls detector gives
    fused scores and maps of the memory alone, a seg detector fused maps and their
    maxima. Raises UserError for anything else, since values of other types have another
    range.
    """
    _check_images(images, detector.readout.view)
    images = np.ascontiguousarray(images)  # torch takes no mirrored views
    found = embed_batch(detector.network, images, detector.readout)
    return score(detector, stored(found, detector.readout))


def view_of(detector: Detector, image: np.ndarray) -> np.ndarray:
    """An image uint8 [H, W, 3] RGB as the network takes it."""
    return resized(image, detector.readout.view)


def _check_images(images: np.ndarray, view: View) -> None:
    found, size = type(images).__name__, view.size
    if isinstance(images, np.ndarray):
        found, sides = f"{images.dtype} {list(images.shape)}", images.shape[1:-1]
        fits = {"square": sides == (size, size), "edge": min(sides, default=0) == size}
        is_rgb = images.dtype == np.uint8 and images.shape[3:] == (3,)
        if is_rgb and fits[view.fit]:
            return
    square = f"{size}, {size}" if view.fit == "square" else f"H, W, the lower {size}"
    raise UserError(
        f"images: must be uint8 [N, {square}, 3] RGB in a NumPy array, not {found}; "
        "see `detector.view_of`"
    )


def score(detector: Detector, features: base.Features) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N] and full maps [N, R, R] of images, from their features."""
    fitted, resolution = detector.fitted, detector.described["options"]["resolution"]
    prediction = fitted.predict(fitted.observe(features))
    scores, maps = image_scores(prediction, resolution, fitted.sigma)
    return scores, full_maps(maps, resolution, fitted.sigma)
