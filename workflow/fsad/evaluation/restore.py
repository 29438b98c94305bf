"""Restore a detector from a run of the pipeline and the files that it read."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fsad.artifacts.files import read_npz, read_settings, unreadable
from fsad.artifacts.paths import Run, Tree, fill, parse_run, results_tree, run_path
from fsad.artifacts.sources import Source
from fsad.artifacts.stages import check_record, identity
from fsad.backbones.devices import check_device
from fsad.backbones.tower import load_tower
from fsad.evaluation.calibration import calibrate
from fsad.evaluation.detector import Detector, assemble, with_prefix
from fsad.evaluation.runs import read_support


def run_detector(folder: str | Path, device: str = "cpu") -> Detector:
    """Restore the detector after the last epoch of a run, and calibrate it.

    It is calibrated on the support images of the run. Raises UserError if `folder` is
    not that of a finished run, or if a cached file that the run was made from is
    missing or has been replaced.
    """
    check_device(device)
    results, run = parse_run(Path(folder).resolve())
    tree, keys = results_tree(results), run._asdict()
    try:
        os.stat(run_path(tree.metrics, run))
    except OSError as error:
        missing = f"no finished run of the pipeline ({tree.run})"
        raise unreadable(folder, error, missing) from None
    model = run_path(tree.model, run)
    record = read_settings(model)
    check_record(model, record, {"class": keys.pop("class_name"), **keys})
    support = _support_features(tree, run, record)
    detector = _uncalibrated(tree, run, record, support, device)
    size = detector.tower.config["image_size"]
    path = fill(tree.support_images, size=size, **run._asdict())
    drawn = read_support(Source(path, {}), record["support"])
    detector.described["shapes"] = drawn["shapes"].tolist()
    return calibrate(detector, support, drawn["images"])


def _support_features(tree: Tree, run: Run, record: Mapping) -> dict[str, np.ndarray]:
    """Features of the support images of a run; UserError if they were replaced."""
    keys = run._asdict() | {"backbone": record["backbone"]}
    path = fill(tree.support_features, readout=record["readout"]["name"], **keys)
    found = {"support": identity(read_settings(path), without=("images",))}
    check_record(path, found, {"support": record["made_from"]["support"]})
    return read_support(Source(path, {}), record["support"])


def _uncalibrated(
    tree: Tree,
    run: Run,
    record: Mapping,
    support: Mapping[str, np.ndarray],
    device: str,
) -> Detector:
    # Of the last epoch: that of `best` was picked on the test images.
    learned = with_prefix(read_npz(run_path(tree.model, run)), "last_")
    known = {"backbone": record["backbone"], "part": "vision"}
    vision = load_tower(fill(tree.vision, **known), known)
    described = {name: record[name] for name in ("method", "task", "backbone")}
    options = record["options"] | {"device": device}
    described |= {"variant": record["readout"]["fields"], "options": options}
    described["run"] = dict(record)
    return assemble(vision, described, support, learned, device)
