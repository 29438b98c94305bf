"""Restore a detector from a run of the pipeline and the files that it read."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fsad.artifacts.files import read_npz, read_settings
from fsad.artifacts.paths import Run, Tree, fill, parse_run, results_tree, run_path
from fsad.artifacts.sources import Source
from fsad.artifacts.stages import check_record, identity
from fsad.backbones.devices import check_device
from fsad.backbones.readout import parse_variant
from fsad.backbones.tower import load_tower
from fsad.errors import UserError
from fsad.evaluation.calibration import calibrate
from fsad.evaluation.detector import Detector
from fsad.evaluation.runs import read_support
from fsad.methods.registry import load

SELECTION = "last"  # the epoch of `best` was picked on the test images


def run_detector(folder: str | Path, device: str = "cpu") -> Detector:
    """Restore the detector after the last epoch of a run, and calibrate it.

    It is calibrated on the support images of the run. Raises UserError if `folder` is
    not that of a finished run, or if a cached file that the run was made from is
    missing or has been replaced.
    """
    check_device(device)
    results, run = parse_run(Path(folder).resolve())
    tree = results_tree(results)
    if not Path(run_path(tree.metrics, run)).is_file():
        raise UserError(f"{folder}: no finished run of the pipeline ({tree.run})")
    record = _read_record(run_path(tree.model, run), run)
    support = _support_features(tree, run, record)
    detector = _uncalibrated(tree, run, record, support, device)
    images = _support_images(tree, run, record, detector.tower.config["image_size"])
    return calibrate(detector, support, images)


def _read_record(model: str, run: Run) -> dict:
    """Settings of a run, which must be those of its folder."""
    record, keys = read_settings(model), run._asdict()
    check_record(model, record, {"class": keys.pop("class_name"), **keys})
    return record


def _support_features(tree: Tree, run: Run, record: Mapping) -> dict[str, np.ndarray]:
    """Features of the support images of a run; UserError if they were replaced."""
    keys = run._asdict() | {"backbone": record["backbone"]}
    path = fill(tree.support_features, readout=record["readout"]["name"], **keys)
    found = {"support": identity(read_settings(path), without=("images",))}
    check_record(path, found, {"support": record["made_from"]["support"]})
    return read_support(Source(path, {}), record["support"])


def _support_images(tree: Tree, run: Run, record: Mapping, size: int) -> np.ndarray:
    path = fill(tree.support_images, size=size, **run._asdict())
    return read_support(Source(path, {}), record["support"])["images"]


def _uncalibrated(
    tree: Tree,
    run: Run,
    record: Mapping,
    support: Mapping[str, np.ndarray],
    device: str,
) -> Detector:
    options = record["options"] | {"device": device}
    learned = _learned(run_path(tree.model, run))
    fitted = load(record["method"]).restore(run.task, options, support, learned)
    known = {"backbone": record["backbone"], "part": "vision"}
    vision = load_tower(fill(tree.vision, **known), known)
    described = {name: record[name] for name in ("method", "task", "backbone")}
    described |= {"variant": record["readout"]["fields"], "options": options}
    return Detector(
        vision.to(device, options["precision"]),
        parse_variant(described["variant"]),
        fitted,
        described | {"run": dict(record)},
    )


def _learned(model: str) -> dict[str, np.ndarray]:
    """Learned tensors of a run after the last epoch."""
    prefix = f"{SELECTION}_"
    return {
        name.removeprefix(prefix): array
        for name, array in read_npz(model).items()
        if name.startswith(prefix)
    }
