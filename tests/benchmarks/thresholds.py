"""How often good and marred images are above the threshold of a detector.

python tests/benchmarks/thresholds.py RESULTS DATA: those of `make real`, and the folder
of its images. Prints, for each class and number of shots, the shares in percent of good
images (the test's, and those of training that are not support) and of marred ones,
means over the seeds.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from fsad.data.images import load_images
from fsad.data.layouts import list_class
from fsad.evaluation.detector import BATCH, Detector, detect
from fsad.evaluation.restore import run_detector
from fsad.reports.formats import markdown_table


def rates(folder: Path, root: Path) -> dict:
    """Shares of good and of marred images above the threshold of a run."""
    detector = run_detector(folder)
    run, size = detector.options["run"], detector.tower.config["image_size"]
    files = list_class("folder", root / run["dataset"], run["class"])
    support = files.read_npz(support_file(folder, run, size), "names")["names"]
    unseen = [s for s in files.train if s.name not in set(support)]
    samples = load_images([*files.test, *unseen], size, threads=2)
    above = is_anomalous(detector, samples["images"])
    good = samples["labels"] == 0
    keys = {key: run[key] for key in ("class", "task", "shots")}
    return keys | {"good": above[good].mean(), "marred": above[~good].mean()}


def support_file(folder: Path, run: dict, size: int) -> Path:
    name = f"support_k{run['shots']}_s{run['seed']}_px{size}.npz"
    return folder.parents[6] / "cache" / run["dataset"] / run["class"] / name


def is_anomalous(detector: Detector, images: np.ndarray) -> np.ndarray:
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    values = np.concatenate([detect(detector, batch)[0] for batch in batches])
    return values > np.float32(detector.options["threshold"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("data", type=Path, help="holds mvtec and folder")
    arguments = parser.parse_args()
    models = sorted(arguments.results.resolve().glob("runs/*/*/*/*/*/*/model.npz"))
    table = pd.DataFrame([rates(path.parent, arguments.data) for path in models])
    shares = table.groupby(["class", "task", "shots"]).mean().mul(100).round()
    shares = shares.astype(int).astype(str)
    text = (shares["good"] + " / " + shares["marred"]).unstack(["task", "shots"])
    head = ["class", *(f"{task}, {shots}-shot" for task, shots in text.columns)]
    print(markdown_table(head, text.reset_index().to_numpy().tolist()))


if __name__ == "__main__":
    main()
