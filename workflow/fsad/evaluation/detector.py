"""A run as a detector: anomaly scores and maps of new images.

A file holds one vision tower and the detectors of one or several classes.
"""

from collections.abc import ItemsView, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fsad.backbones.devices import check_device
from fsad.backbones.embed import embed_pictures
from fsad.backbones.features import stored, tile_spans
from fsad.backbones.networks import Network, open_network
from fsad.backbones.readout import Readout, parse_readout
from fsad.backbones.tower import Tower, load_tensors, save_tensors, weights_digest
from fsad.data.groups import split, stacked
from fsad.data.masks import RAW
from fsad.data.region import as_image, check_region, resized_region, without_outside
from fsad.data.tiles import insides, pictures
from fsad.errors import UserError
from fsad.evaluation.runs import image_scores
from fsad.methods import base, parts
from fsad.methods.maps import full_maps, picture_map
from fsad.methods.registry import METHODS, load

DETECTORS = "detectors"
KEYS = {"class", "method", "task", "options", "readout", "threshold", "map_range"}
KEYS |= {"images", "run"}
VISION = "vision."  # begins the names of the tower's tensors in a file
PARTS = "support", "learned", "seen", "image"  # of the tensors of a detector
SHAPE = "shape"
# What a network takes of an image, see `tiles.pictures`, and `shape`, its height and
# width.
Seen = Mapping[str, np.ndarray]


class Detector(NamedTuple):
    """A network, and a method that was fitted to its features of a class.

    network: of the vision tower. readout: the features, and the view of images that
    they are of. fitted: see `methods.base`. described: `class`, `method`, `task`,
    `options` of the run, `readout`, `threshold` and `map_range` of `calibration` (no
    threshold, None, at zero shots), `images`, names and digests of the support images,
    `backbone` (its name, with the tag or digest of the weights), and `run`, the
    settings stored in the run. seen: what the network takes of each support image.
    region: of interest, bool of the shape [H, W] of all images, or None.
    """

    network: Network
    readout: Readout
    fitted: base.Detector
    described: dict
    seen: Sequence[Seen] = ()
    region: np.ndarray | None = None


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
    detector = assemble(network, described, support, learned, device)
    arrays = {name: tensor.numpy() for name, tensor in seen.items()}
    region = others.get("region")
    region = None if region is None else region.numpy() > 0
    return detector._replace(seen=each_image(arrays), region=region)


def each_image(arrays: Mapping[str, np.ndarray]) -> list[Seen]:
    """What a network takes of each of several images, from arrays of all."""
    count = len(arrays[SHAPE]) if arrays else 0
    return [{name: x[row] for name, x in arrays.items()} for row in range(count)]


def assemble(
    network: Network,
    described: dict,
    support: base.Features,
    learned: base.Features,
    device: str,
) -> Detector:
    """A detector on the device of its network, from its tensors."""
    options, method = described["options"] | {"device": device}, described["method"]
    module, tensors = load(method), (support, learned)
    fitted = parts.restore(module, described["task"], options, tensors)
    return Detector(network, parse_readout(described["readout"]), fitted, described)


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
        tensors |= {f"{index}.{p}.{n}": x for p, group in groups for n, x in group}
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


def detect(detector: Detector, seen: Sequence[Seen]) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [N] and anomaly maps float32 [N, R, R] of images.

    seen: of each image, of `view_of`. With PromptAD a cls detector gives fused scores
    and maps of the memory alone, a seg detector fused maps and their maxima. At
    `resolution: raw` the maps are a list, [H, W] of each image.
    """
    shapes = np.array([image[SHAPE] for image in seen])
    names = [name for name in seen[0] if name != SHAPE]
    groups = split(stacked([{n: x[n] for n in names} for x in seen], {}), names)
    found = [_detect(detector, own, shapes[rows]) for rows, own in groups]
    scores, maps = (chain.from_iterable(x) for x in zip(*found, strict=True))
    order = np.argsort(np.concatenate([rows for rows, _ in groups]))
    scores, maps = np.array([*scores])[order], [*maps]
    maps = [maps[place] for place in order]
    return scores, maps if _is_raw(detector) else np.stack(maps)


def _detect(
    detector: Detector, pictures: Mapping[str, np.ndarray], shapes: np.ndarray
) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """Scores [n] and full maps of images of one shape as the network takes them."""
    network, readout = detector.network, detector.readout
    found = stored(embed_pictures(network, pictures, readout), readout)
    return score(detector, found | tile_spans({"shapes": shapes}, readout.view), shapes)


def view_of(detector: Detector, image: np.ndarray) -> Seen:
    """What the network takes of an image uint8 [H, W, 3] RGB.

    Raises UserError for anything else, since values of other types have another range,
    and for an image of another shape than the region of interest.
    """
    _check_image(image)
    shape, region, view = image.shape[:2], detector.region, detector.readout.view
    inside = {}
    if region is not None:
        check_region(region, "the image", shape)
        image, inside = without_outside(image, region), insides(as_image(region), view)
    return {**pictures(image, view), **inside, SHAPE: np.array(shape)}


def _check_image(image: np.ndarray) -> None:
    found = type(image).__name__
    if isinstance(image, np.ndarray):
        found = f"{image.dtype} {list(image.shape)}"
        if image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size:
            return
    raise UserError(
        f"image: must be uint8 [H, W, 3] RGB in a NumPy array, not {found}; see "
        "`images.read_image`"
    )


def score(
    detector: Detector, features: base.Features, shapes: np.ndarray
) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """Scores [N] and full maps [N, R, R] of images, from their features.

    shapes: of the images before resizing, [N, 2], and of maps at `resolution: raw`.
    """
    fitted, resolution = detector.fitted, detector.described["options"]["resolution"]
    prediction = fitted.predict(fitted.observe(features))

    def full(maps: np.ndarray) -> Sequence[np.ndarray]:
        if not _is_raw(detector):
            return full_maps(maps, resolution, fitted.sigma)
        pairs = zip(maps, map(tuple, shapes.tolist()), strict=True)
        return [picture_map(small, shape, fitted.sigma) for small, shape in pairs]

    scores, maps = image_scores(prediction, full)
    return scores, _in_region(full(maps), detector.region)


def _in_region(
    maps: Sequence[np.ndarray], region: np.ndarray | None
) -> Sequence[np.ndarray]:
    """Full maps, 0 outside the region of interest."""
    if region is None:
        return maps
    return [full * resized_region(region, full.shape) for full in maps]


def _is_raw(detector: Detector) -> bool:
    return detector.described["options"]["resolution"] == RAW
