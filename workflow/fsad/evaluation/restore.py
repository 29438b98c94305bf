"""From a run of the pipeline, and the cached files that it read, to a detector."""

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

SELECTION = "last"  # `best` was picked by the test images


def run_detector(folder: str | Path, device: str = "cpu") -> Detector:
    """The detector of a run's folder, calibrated on the run's support images.

    It is that of the last epoch. Raises UserError if `folder` is no finished run, or a
    file that it was made from is not there or another by now.
    """
    check_device(device)
    results, run = parse_run(Path(folder).resolve())
    tree = results_tree(results)
    if not Path(run_path(tree.model, run)).is_file():
        raise UserError(f"{folder}: no finished run of the pipeline ({tree.run})")
    record = read_settings(run_path(tree.model, run))
    support = _support_features(tree, run, record)
    detector = _uncalibrated(tree, run, record | {"device": device}, support)
    images = _support_images(tree, run, record, detector.tower.config["image_size"])
    return calibrate(detector, support, images)


def _support_features(tree: Tree, run: Run, record: Mapping) -> dict[str, np.ndarray]:
    """Features of the support images of a run; UserError if they are others by now."""
    keys = run._asdict() | {"backbone": record["backbone"]}
    path = fill(tree.support_features, readout=record["readout"]["name"], **keys)
    found = {"support": identity(read_settings(path), without=("images",))}
    check_record(path, found, {"support": record["made_from"]["support"]})
    return read_support(Source(path, {}), record["support"])


def _support_images(tree: Tree, run: Run, record: Mapping, size: int) -> np.ndarray:
    path = fill(tree.support_images, size=size, **run._asdict())
    return read_support(Source(path, {}), record["support"])["images"]


def _uncalibrated(
    tree: Tree, run: Run, record: Mapping, support: Mapping[str, np.ndarray]
) -> Detector:
    options = record["options"] | {"device": record["device"]}
    path = run_path(tree.model, run)
    prefix = f"{SELECTION}_"
    learned = {
        name.removeprefix(prefix): array
        for name, array in read_npz(path).items()
        if name.startswith(prefix)
    }
    vision = load_tower(fill(tree.vision, backbone=record["backbone"]))
    described = {name: record[name] for name in ("method", "task", "backbone")}
    described |= {"variant": record["readout"]["fields"], "options": options}
    restored = load(record["method"]).restore(run.task, options, support, learned)
    return Detector(
        vision.to(options["device"], options["precision"]),
        parse_variant(described["variant"]),
        restored,
        described | {"run": dict(record)},
    )
