"""From a run of the pipeline, and the features it was trained on, to a detector."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from promptad import storage
from promptad.calibration import calibrate
from promptad.detector import Detector
from promptad.devices import check_device
from promptad.errors import UserError
from promptad.scores import MEMORY, TRAINED_ON
from promptad.training import temperature
from promptad.transformer import load_tower, placed

RUN = "RESULTS/runs/EXPERIMENT/DATASET/CLASS/kSHOTS/sSEED/TASK"


def run_detector(folder: str | Path, device: str = "cpu") -> Detector:
    """The detector of a run's folder, calibrated on the run's support images.

    Its prompts are those after the last epoch: `best` was picked by the test images.
    Raises UserError if `folder` is no run, or what it was trained on is not there.
    """
    check_device(device)
    path = Path(folder).resolve()
    if not (path / "model.npz").is_file() or path.parts[-7:-6] != ("runs",):
        raise UserError(f"{folder}: no finished run of the pipeline ({RUN})")
    results, run = path.parents[6], storage.read_settings(path / "model.npz")
    features = _support_features(results / "features", path, run)
    support = storage.read_npz(features, *MEMORY, TRAINED_ON[run["task"]])
    support = {name: torch.from_numpy(x).to(device) for name, x in support.items()}
    detector = _uncalibrated(path, run, features, support)
    size = detector.tower.config["image_size"]
    place = Path("cache", run["dataset"], run["class"], f"{features.stem}_px{size}.npz")
    images = storage.read_npz(results / place, "images")["images"]
    return calibrate(detector, support, images)


def _support_features(features: Path, folder: Path, run: Mapping) -> Path:
    """The file of support features that the run in `folder` was trained on.

    Those of several backbones may lie there; the run's are known by the visual maps
    that it took over.
    """
    file = f"support_k{run['shots']}_s{run['seed']}.npz"
    place = Path(run["variant"], run["dataset"], run["class"], file)
    visual = _visual(folder / "scores.npz")
    for path in sorted(backbone / place for backbone in features.glob("*/")):
        if path.is_file() and np.array_equal(_visual(path), visual):
            return path
    raise UserError(
        f"{features / '*' / place}: no such file, or not the one that {folder} was "
        "trained on; run the pipeline again"
    )


def _visual(path: Path) -> np.ndarray:
    return storage.read_npz(path, "visual")["visual"]


def _uncalibrated(
    folder: Path, run: Mapping, features: Path, support: Mapping[str, torch.Tensor]
) -> Detector:
    backbone, device = features.parents[3], support[MEMORY[0]].device
    vision = load_tower(backbone / "vision.safetensors")
    prompts = storage.read_npz(folder / "model.npz", "last_prompts")["last_prompts"]
    text = load_tower(backbone / "text.safetensors")
    options = {
        "task": run["task"],
        "variant": storage.read_settings(features)["fields"],
        "temperature": temperature(text, run["options"]),
        "resolution": run["options"]["resolution"],
        "backbone": backbone.name,
        "run": run,
    }
    return Detector(
        placed(vision, str(device), run["options"]["precision"]),
        torch.from_numpy(prompts).to(device),
        {name: support[name] for name in MEMORY},
        options,
    )
