"""Shares of good and of defective images above the threshold of a detector.

python tests/benchmarks/thresholds.py RESULTS DATA: the results of `make real`, and the
folder of its images. Prints, for each experiment, class and number of shots, the shares
in percent of good images (those of the test, and those of training that are not support
images) and of defective ones, means over the seeds.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fsad.artifacts.paths import TREE, fill, parse_run
from fsad.backbones.embed import BATCH
from fsad.data.images import read_image
from fsad.data.layouts import list_class
from fsad.evaluation.detector import Detector, detect, view_of
from fsad.evaluation.restore import run_detector
from fsad.reports.formats import ABSENT, markdown_table

KEYS = ["experiment", "class", "task", "shots"]


def rates(folder: Path, root: Path) -> dict:
    """Shares of good and of defective images above the threshold of a run."""
    _, run = parse_run(folder)
    detector = run_detector(folder)
    files = list_class("folder", root / run.dataset, run.class_name)
    support = {name for name, _ in detector.described["run"]["support"]}
    unseen = [sample for sample in files.train if sample.name not in support]
    samples = [*files.test, *unseen]
    scores = image_scores(detector, [sample.path for sample in samples])
    above = is_anomalous(detector, scores)
    good = np.array([sample.label == 0 for sample in samples])
    keys = dict(
        zip(KEYS, (run.experiment, run.class_name, run.task, run.shots), strict=True)
    )
    return keys | {"good": above[good].mean(), "defective": above[~good].mean()}


def image_scores(detector: Detector, paths: Sequence[Path]) -> np.ndarray:
    """Scores of image files, float32 [N]."""
    scores = []
    for start in range(0, len(paths), BATCH):
        batch = map(read_image, paths[start : start + BATCH])
        found, _ = detect(detector, [view_of(detector, image) for image in batch])
        scores += [*found]
    return np.array(scores)


def is_anomalous(detector: Detector, scores: np.ndarray) -> np.ndarray:
    """Whether each score is above the threshold, bool [N]."""
    return scores > np.float32(detector.described["threshold"])


def run_folders(results: Path) -> list[Path]:
    """Folders of all runs of a folder of results."""
    keys = ("experiment", "dataset", "class_name", "shots", "seed", "task")
    pattern = fill(TREE.model, **dict.fromkeys(keys, "*"))
    return sorted(path.parent for path in results.glob(pattern))


def main() -> None:
    """Print the table of a folder of results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("data", type=Path, help="holds mvtec and folder")
    arguments = parser.parse_args()
    folders = run_folders(arguments.results.resolve())
    table = pd.DataFrame([rates(folder, arguments.data) for folder in folders])
    shares = table.groupby(KEYS).mean().mul(100).round()
    shares = shares.astype(int).astype(str)
    text = (shares["good"] + " / " + shares["defective"]).unstack(["task", "shots"])
    head = [*KEYS[:2], *(f"{task}, {shots}-shot" for task, shots in text.columns)]
    print(markdown_table(head, text.fillna(ABSENT).reset_index().to_numpy().tolist()))


if __name__ == "__main__":
    main()
