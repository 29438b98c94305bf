"""Files of detectors: one vision tower, and the detectors of one or several classes."""

from collections.abc import ItemsView, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fsad.backbones.devices import check_device
from fsad.backbones.networks import Network, open_network
from fsad.backbones.readout import parse_readout
from fsad.backbones.tower import Tower, load_tensors, save_tensors, weights_digest
from fsad.errors import UserError
from fsad.evaluation.detector import SHAPE, Detector, Seen
from fsad.methods import parts
from fsad.methods.registry import METHODS, load

DETECTORS = "detectors"
KEYS = {"class", "method", "task", "options", "readout", "threshold", "map_range"}
KEYS |= {"calibrated", "images", "run"}
VISION = "vision."  # begins the names of the tower's tensors in a file
PARTS = "support", "learned", "seen", "image"  # of the tensors of a detector


def load_detectors(path: str | Path, device: str = "cpu") -> dict[str, Detector]:
    """Load the detectors in a file of `save_detectors`, by class.

    Raises UserError if it is not one, or its vision tower is another than saved.
    """
    check_device(device)
    tensors, header = load_tensors(path, DETECTORS, "a whole detector of `fsad export`")
    described = header[DETECTORS]
    if not all(one.keys() >= KEYS and one["method"] in METHODS for one in described):
        raise UserError(f"{path}: a detector of another version; export it again")
    vision = with_prefix(tensors, VISION)
    if weights_digest(vision) != header["vision_sha256"]:
        raise UserError(
            f"{path}: its vision tower is not the exported one; export it again"
        )
    (precision,) = {one["options"]["precision"] for one in described}
    network = open_network(Tower(vision, header["config"]).to(device, precision))
    found = {}
    for index, one in enumerate(described):
        groups = (with_prefix(tensors, f"{index}.{part}.") for part in PARTS)
        found[one["class"]] = _restored(network, one, device, *groups)
    return found


def _restored(
    network: Network, described: dict, device: str, *groups: Mapping[str, Tensor]
) -> Detector:
    support, learned, seen, others = groups
    options, method = described["options"] | {"device": device}, described["method"]
    tensors, readout = (support, learned), parse_readout(described["readout"])
    fitted = parts.restore(load(method), described["task"], options, tensors)
    arrays = {name: tensor.numpy() for name, tensor in seen.items()}
    region = others.get("region")
    region = None if region is None else region.numpy() > 0
    known = each_image(arrays), region
    return Detector(network, readout, fitted, described, *known)


def each_image(arrays: Mapping[str, np.ndarray]) -> list[Seen]:
    """What a network takes of each of several images, from arrays of all."""
    count = len(arrays[SHAPE]) if arrays else 0
    return [{name: x[row] for name, x in arrays.items()} for row in range(count)]


def chosen_class(detectors: Mapping[str, Detector], name: str | None) -> str:
    """The class that is named, or the only one; UserError otherwise."""
    known = ", ".join(detectors)
    if name is None and len(detectors) > 1:
        raise UserError(f"class: there are several; name one of {known}")
    if name is not None and name not in detectors:
        raise UserError(f"class: {name!r} is not there; take {known}")
    return name or next(iter(detectors))


def with_prefix(arrays: Mapping, prefix: str) -> dict:
    """Arrays whose names start with a prefix, without it."""
    found = (name for name in arrays if name.startswith(prefix))
    return {name.removeprefix(prefix): arrays[name] for name in found}


def save_detectors(path: str | Path, detectors: Sequence[Detector]) -> None:
    """Write detectors, of a class each, and their one vision tower to one safetensors
    file, atomically.

    Raises UserError unless they are of one tower and of different classes.
    """
    digest = _common_tower(detectors)
    tower = detectors[0].network.tower
    tensors = {f"{VISION}{name}": weight for name, weight in tower.weights.items()}
    for index, detector in enumerate(detectors):
        groups = zip(PARTS, _tensors(detector), strict=True)
        named = {f"{index}.{p}.{n}": x for p, group in groups for n, x in group}
        tensors |= {name: torch.as_tensor(x) for name, x in named.items()}
    described = [detector.described for detector in detectors]
    header = {"config": tower.config, "vision_sha256": digest, DETECTORS: described}
    save_tensors(path, tensors, header)


def _common_tower(detectors: Sequence[Detector]) -> str:
    """Digest of the tower of all detectors; UserError for several, or for classes that
    are not different."""
    towers = [detector.network.tower for detector in detectors]
    digests = {weights_digest(tower.weights) for tower in towers}
    known = [detector.described for detector in detectors]
    if len(digests) > 1:
        names = ", ".join(dict.fromkeys(one["backbone"] for one in known))
        raise UserError(f"--run: of several backbones ({names}); export one file each")
    classes = [one["class"] for one in known]
    twice = {name for name in classes if classes.count(name) > 1}
    if twice:
        raise UserError(f"--run: several of {', '.join(sorted(twice))}; name one each")
    return digests.pop()


def _tensors(detector: Detector) -> list[ItemsView[str, Tensor]]:
    """Tensors of a detector, by names of PARTS."""
    seen, region, others = {}, detector.region, {}
    if detector.seen:
        names = detector.seen[0]
        stacks = {n: np.stack([image[n] for image in detector.seen]) for n in names}
        seen = {name: torch.from_numpy(array) for name, array in stacks.items()}
    if region is not None:
        others["region"] = torch.from_numpy(region.astype(np.uint8))
    groups = detector.fitted.support, detector.fitted.learned, seen, others
    return [group.items() for group in groups]
