"""Calibrated detectors, without the files of a pipeline."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from fsad.backbones.features import embed_draw
from fsad.backbones.networks import Network, open_network
from fsad.backbones.readout import described
from fsad.data.layouts import Sample
from fsad.data.prepare import load_support, random_key
from fsad.data.words import tokenize_ensemble
from fsad.evaluation.calibration import calibrate
from fsad.evaluation.detector import Detector
from fsad.evaluation.inputs import each_seen
from fsad.methods import parts
from fsad.methods.base import Text
from fsad.methods.registry import METHODS, load, method_schema


def fitted(method, images, given, backbone, words) -> Detector:
    """A method fitted to images; backbone: a tower or network, words: text, tokens."""
    network = backbone if isinstance(backbone, Network) else open_network(backbone)
    properties = method_schema(method)["properties"].items()
    options = {n: x["default"] for n, x in properties if "default" in x} | given
    readout = METHODS[method].readout(options, options.get("size", 32))
    region = options.pop("roi", None)
    drawn = draw(images, readout, region)
    support = embed_draw(network, drawn, readout) if len(images) else {}
    tower, tokens = words
    text = Text(tower, tokens | tokenize_ensemble("nut", ["damaged {}"]))
    text = text if METHODS[method].reads_text else None
    made = parts.create(load(method), options.get("task", "seg"), options, text)
    *_, step = made.fit(support, random_key(1, "nut"))
    known = {"class": "nut", "method": method, "task": options.get("task", "seg")}
    known |= {"options": options, "readout": described(readout), "backbone": "tiny"}
    known |= {"images": [[f"good/{i}.png", f"{i:064}"] for i in range(len(images))]}
    run = {"seed": 1, "class": "nut", "module": METHODS[method].module}
    known |= {"run": run | {"made_from": {"text": ""} if text else {}}}
    seen = each_seen(drawn) if len(images) else []
    detector = Detector(network, readout, step.detector, known, seen, region)
    return calibrate(detector, support, seen)


def draw(images, readout, region) -> dict[str, np.ndarray]:
    """Images as support images of a run."""
    record = {"seed": 1, "class": "nut", "view": readout.view._asdict()}
    record |= {"augment": readout.augment._asdict()}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{index}.png") for index in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path)
        samples = [Sample(path.name, path, 0, None) for path in paths]
        return load_support(samples, record, 1, region) if samples else {}
