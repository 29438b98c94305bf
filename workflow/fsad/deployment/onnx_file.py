"""Detectors as files of ONNX, compared with torch when they are written."""

import base64
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from fsad.artifacts.content import digest_of
from fsad.artifacts.files import atomic
from fsad.backbones.embed import BATCH, embed_pictures
from fsad.backbones.features import tile_spans
from fsad.backbones.networks import open_network
from fsad.data.tiles import INSIDE, spans, tiled_shape
from fsad.data.views import resampled
from fsad.deployment.graph import Graph, image_shape, input_shapes, patches_inside
from fsad.errors import UserError
from fsad.evaluation.calibration import views
from fsad.evaluation.detector import Detector, Seen, score
from fsad.methods import parts
from fsad.methods.registry import load

OPSET = 18
LARGEST = 2**31  # bytes of a file of ONNX
TOLERANCE = 1e-5  # of the largest score or map value
TINY = 1e-30  # in place of the largest of values that are all 0
CHECKED = 8  # images, as many as `calibration.views` makes
COARSE = 12  # pixels of a side of random images before they are enlarged
INSTALL = "`pip install --no-deps --require-hashes -r envs/export.txt` installs it"
# How an image becomes an input; OpenCV's names.
RESIZING = {
    "area": "without cropping; first each axis that shrinks, INTER_AREA, then each "
    "that grows, INTER_CUBIC",
    "bicubic": "without cropping; BICUBIC of Pillow",
}
Inputs = Mapping[str, np.ndarray]  # of the graph, by name, uint8 [B, H, W, 3]


class Differences(NamedTuple):
    """Largest differences between a file and torch, as shares of the largest values.

    images: how many were compared.
    """

    images: int
    scores: float
    maps: float


def export_onnx(
    path: Path, detector: Detector, photographs: Sequence[Seen] = ()
) -> Differences:
    """Write a detector as a file of ONNX, unless ONNX Runtime gives other results.

    The graph computes in float32. It is compared on `check_inputs`, and on photographs,
    of `detector.view_of`. Raises UserError for a detector that no graph can hold, or
    where a score or a map differs by more than TOLERANCE.
    """
    _require_packages()
    detector = _in_float32(detector)
    program = _traced(detector)
    program.model.metadata_props.update(description(detector))
    with atomic(path) as temporary:
        program.save(temporary)
        given = [check_inputs(detector), *batches(detector, photographs)]
        found = compare(temporary, detector, given)
        if not (found.scores <= TOLERANCE and found.maps <= TOLERANCE):  # nor NaN
            raise UserError(
                f"{path}: not written, since ONNX Runtime differs from torch by "
                f"{found.scores:.1e} of the largest score and {found.maps:.1e} of the "
                f"largest map value on {found.images} images; export .safetensors"
            )
    return found


def _require_packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise UserError(f"--out: .onnx needs {error.name}; {INSTALL}") from None


def _in_float32(detector: Detector) -> Detector:
    tower = detector.network.tower.to("cpu", "float32")
    return detector._replace(network=open_network(tower))


def _traced(detector: Detector) -> torch.onnx.ONNXProgram:
    """The graph of a detector, for any number of images."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    shapes, count = input_shapes(detector), torch.export.Dim("images_in_batch")
    given = {n: torch.zeros(2, *shape, 3).byte() for n, shape in shapes.items()}
    graph, free = Graph(detector).eval(), {name: {0: count} for name in given}
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with torch.no_grad():
        graph(**given)  # what networks keep for images of this shape has values then
        traced = torch.export.export(graph, (), given, dynamic_shapes=free)
        program = torch.onnx.export(
            traced,
            input_names=[*given],
            output_names=["scores", "maps"],
            opset_version=OPSET,
            verbose=False,
        )
    ClearMetadataAndDocStringPass()(program.model)  # it names files of this machine
    _check_size(program)
    return program


def _check_size(program: torch.onnx.ONNXProgram) -> None:
    constants = program.model.graph.initializers.values()
    size = sum(constant.const_value.nbytes for constant in constants)
    if size >= LARGEST:
        raise UserError(
            f"backbone: its weights and the memory bank take {size / 1e9:.1f} GB, more "
            "than a file of ONNX holds; export .safetensors, or take a smaller backbone"
        )


def description(detector: Detector) -> dict[str, str]:
    """Metadata of a file, all strings; what is no word or number is JSON."""
    known, view = detector.described, detector.readout.view
    threshold = known["threshold"]
    sizes = {name: [*shape] for name, shape in input_shapes(detector).items()}
    return {
        "class": known["class"],
        "method": known["method"],
        "task": known["task"],
        "backbone": known["backbone"],
        "threshold": "" if threshold is None else repr(threshold),
        "map_range": json.dumps(known["map_range"]),
        "image_size": json.dumps(sizes["images"]),
        "input_sizes": json.dumps(sizes),
        "resizing": RESIZING[view.filter],
        "region": _as_text(detector.region),
        "run": digest_of(known["run"]),
        "support_images": json.dumps(known["images"]),
        "fsad": metadata.version("fsad"),
    }


def _as_text(region: np.ndarray | None) -> str:
    """A region of interest as a PNG in Base64, white inside; empty for none."""
    if region is None:
        return ""
    _, encoded = cv2.imencode(".png", region.astype(np.uint8) * 255)
    return base64.b64encode(encoded.tobytes()).decode()


def check_inputs(detector: Detector) -> Inputs:
    """Eight images that are not in the memory.

    Support images are mirrored, and changed as `calibration.views` does it; without
    any, images are random.
    """
    shapes = input_shapes(detector)
    if not detector.seen:
        return {name: _random_images(shape) for name, shape in shapes.items()}
    known = [_inputs(detector, seen) for seen in detector.seen]
    chosen = [known[index % len(known)] for index in range(CHECKED)]
    return {
        name: np.stack([views(x[name][:, ::-1])[i] for i, x in enumerate(chosen)])
        for name in shapes
    }


def _random_images(shape: tuple[int, int]) -> np.ndarray:
    """Smooth random images uint8 [8, H, W, 3], always the same."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (CHECKED, COARSE, COARSE, 3), np.uint8)
    return np.stack([resampled(image, shape, "area") for image in coarse])


def _inputs(detector: Detector, seen: Seen) -> dict[str, np.ndarray]:
    """Inputs of the graph of one image, [H, W, 3] by name."""
    view, shape = detector.readout.view, image_shape(detector)
    given = {name: seen[name] for name in input_shapes(detector)}
    if not view.is_tiled:
        return given
    image = np.empty((*tiled_shape(shape, view), 3), np.uint8)
    rows, columns = (places.tolist() for places in spans(shape, view))
    for (a, b), own in zip(rows, seen["images"], strict=True):
        for (c, d), tile in zip(columns, own, strict=True):
            image[a:b, c:d] = tile
    return given | {"images": image}


def batches(detector: Detector, photographs: Sequence[Seen]) -> Iterator[Inputs]:
    """Inputs of a few photographs at once; UserError for one of another shape."""
    shapes = input_shapes(detector)
    for start in range(0, len(photographs), BATCH):
        some = [_inputs(detector, x) for x in photographs[start : start + BATCH]]
        for image in some:
            height, width = image["images"].shape[:2]
            if (height, width) != shapes["images"]:
                raise UserError(
                    f"--check: an image becomes {width}x{height} pixels, the graph "
                    "takes {1}x{0}".format(*shapes["images"])
                )
        yield {name: np.stack([image[name] for image in some]) for name in shapes}


def compare(path: Path, detector: Detector, given: Iterable[Inputs]) -> Differences:
    """Largest differences between a file and torch on batches of images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    exact, inside = _in_float64(detector), patches_inside(detector)
    largest, differences, count = np.zeros(2), np.zeros(2), 0
    for inputs in given:
        found = session.run(None, dict(inputs))
        expected = in_torch(exact, inputs, inside)
        pairs = [*zip(found, expected, strict=True)]
        apart = [np.abs(one - other).max() for one, other in pairs]
        differences = np.maximum(differences, apart)
        largest = np.maximum(largest, [np.abs(one).max() for one in expected])
        count += len(found[0])
    scores, maps = (differences / np.maximum(largest, TINY)).tolist()
    return Differences(count, scores, maps)


def in_torch(
    detector: Detector, inputs: Inputs, inside: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [B] and full maps of the inputs of the graph.

    detector: of `_in_float64`. inside: of `patches_inside`.
    Features are not rounded to float16 as they are in files and by `detect`, where a
    difference in the last bit becomes a large one, and what follows them is computed in
    float64, so that the rounding of the file is all that is compared.
    """
    shape, view = image_shape(detector), detector.readout.view
    images, pictures = inputs["images"], dict(inputs)
    if view.is_tiled:
        rows, columns = (places.tolist() for places in spans(shape, view))
        tiles = [[images[:, a:b, c:d] for c, d in columns] for a, b in rows]
        pictures["images"] = np.array(tiles).transpose(2, 0, 1, 3, 4, 5)
    found = embed_pictures(detector.network, pictures, detector.readout)
    features = {name: feature.double() for name, feature in found.items()}
    features |= inside
    shapes = np.array([shape] * len(images))
    features |= tile_spans({"shapes": shapes}, view)
    scores, maps = score(detector, features, shapes)
    return scores, np.stack([*maps])


def _in_float64(detector: Detector) -> Detector:
    """A detector whose tensors after the network are float64."""
    known, fitted = detector.described, detector.fitted
    groups = fitted.support, fitted.learned
    tensors = tuple({n: _double(n, x) for n, x in group.items()} for group in groups)
    key = load(known["method"]), known["task"], known["options"] | {"device": "cpu"}
    return detector._replace(fitted=parts.restore(*key, tensors))


def _double(name: str, values: Tensor | np.ndarray) -> Tensor | np.ndarray:
    return values if name.endswith(INSIDE) else values.double()
