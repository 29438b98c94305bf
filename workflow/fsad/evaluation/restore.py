"""Restore a detector from a run of the pipeline and the files that it read."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fsad.artifacts.files import read_npz, read_settings, unreadable
from fsad.artifacts.paths import Run, Tree, fill, parse_run, results_tree, run_path
from fsad.artifacts.sources import Embedding, Source
from fsad.artifacts.stages import check_record, identity
from fsad.backbones.devices import check_device
from fsad.backbones.networks import Network, open_network
from fsad.backbones.readout import parse_readout
from fsad.backbones.tower import load_tower
from fsad.errors import UserError
from fsad.evaluation.calibration import POINT
from fsad.evaluation.detector import Detector
from fsad.evaluation.detector_files import with_prefix
from fsad.evaluation.inputs import first_images, new_detector, read_draw, read_images
from fsad.evaluation.metrics import read_metrics
from fsad.methods import parts
from fsad.methods.registry import load


def run_detector(folder: str | Path, device: str = "cpu") -> Detector:
    """Restore the detector after the last epoch of a run, with its threshold.

    Raises UserError if `folder` is not that of a finished run, or if a cached file that
    the run was made from is missing or has been replaced.
    """
    check_device(device)
    results, run = parse_run(Path(folder).resolve())
    tree = results_tree(results)
    metrics = _metrics(tree, run, folder)
    record = metrics["settings"]
    known = {"backbone": record["backbone"], "part": "vision"}
    vision = load_tower(fill(tree.vision, **known), known)
    network = open_network(vision.to(device, record["options"]["precision"]))
    images, support = _support(tree, run, record, network)
    # Of the last epoch: that of `best` was picked on the test images.
    model = read_npz(run_path(tree.model, run), record=record)
    learned = with_prefix(model, "last_")
    options, module = record["options"] | {"device": device}, load(record["method"])
    fitted = parts.restore(module, record["task"], options, (support, learned))
    detector = new_detector(network, record, images, fitted)
    point = {name: metrics[name] for name in POINT}
    described = detector.described | {"options": options} | point
    return detector._replace(described=described)


def _metrics(tree: Tree, run: Run, folder: str | Path) -> dict:
    """The metrics.json of a finished run, whose settings are the record of the run."""
    path, keys = run_path(tree.metrics, run), run._asdict()
    try:
        os.stat(path)
    except OSError as error:
        missing = f"no finished run of the pipeline ({tree.run})"
        raise unreadable(folder, error, missing) from None
    metrics, class_name = read_metrics(path), keys.pop("class_name")
    check_record(path, metrics["settings"], {"class": class_name, **keys})
    if not metrics.keys() >= {*POINT}:
        raise UserError(f"{path}: of a version without thresholds; make the run again")
    return metrics


def _support(
    tree: Tree, run: Run, record: Mapping, network: Network
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Support images of a run and their features; UserError if they were replaced."""
    paths, wanted = _paths(tree, run, record), record["support"]
    kept = os.path.exists(paths.features.path)
    images = read_images(paths.images)
    if kept:
        features = paths.features.path
        found = {"support": identity(read_settings(features), without=("images",))}
        check_record(features, found, {"support": record["made_from"]["support"]})
    drawn = read_draw(paths, None if kept else network)
    return tuple(
        first_images(source.path, draw, wanted)
        for source, draw in zip(paths, (images, drawn), strict=True)
    )


def _paths(tree: Tree, run: Run, record: Mapping) -> Embedding:
    """Cached support images of a run and their features, whatever their records."""
    readout, keys = parse_readout(record["readout"]), run._asdict()
    keys |= {"view": f"{readout.view.name}{readout.augment.name}"}
    keys |= {"backbone": record["backbone"], "readout": readout.name}
    patterns = tree.support_images, tree.support_features
    images, features = (fill(pattern, **keys) for pattern in patterns)
    return Embedding(
        Source(images, {}), Source(features, {"readout": record["readout"]})
    )
