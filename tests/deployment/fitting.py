"""Calibrated detectors, without the files of a pipeline."""

import numpy as np

from fsad.backbones.features import embed_draw
from fsad.backbones.networks import Network, open_network
from fsad.backbones.readout import described
from fsad.data.augment import copies
from fsad.data.prepare import random_key
from fsad.data.tiles import pictures
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
    key = random_key(1, "nut")
    drawn = draw(images, readout, key)
    support = embed_draw(network, drawn, readout) if len(images) else {}
    tower, tokens = words
    text = Text(tower, tokens | tokenize_ensemble("nut", ["damaged {}"]))
    text = text if METHODS[method].reads_text else None
    made = parts.create(load(method), options.get("task", "seg"), options, text)
    *_, step = made.fit(support, key)
    known = {"class": "nut", "method": method, "task": options.get("task", "seg")}
    known |= {"options": options, "readout": described(readout), "backbone": "tiny"}
    known |= {"images": [[f"good/{i}.png", f"{i:064}"] for i in range(len(images))]}
    run = {"seed": 1, "class": "nut", "module": METHODS[method].module}
    known |= {"run": run | {"made_from": {"text": ""} if text else {}}}
    seen = each_seen(drawn) if len(images) else []
    detector = Detector(network, readout, step.detector, known, seen)
    return calibrate(detector, support, seen)


def draw(images, readout, key) -> dict[str, np.ndarray]:
    """Images and their copies, as `prepare.load_support` gives them."""
    rows = []
    for index, image in enumerate(images):
        made = copies(image, readout.augment, (*key, index))
        seen = [pictures(x, readout.view) for x in made]
        rows.append({name: np.stack([x[name] for x in seen]) for name in seen[0]})
    arrays = (
        {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        if rows
        else {}
    )
    return arrays | {"shapes": np.array([x.shape[:2] for x in images])}
