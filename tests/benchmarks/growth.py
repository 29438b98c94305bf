"""Detectors before and after `fsad extend`.

python tests/benchmarks/growth.py LAYOUT ROOT RUN...: for each `cls` run, image AUROC
and the percentages of good / of defective test images above the threshold, before and
after images of its class are added (the first of train that are no support images).
LAYOUT and ROOT are those of the data set.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from thresholds import image_scores, is_anomalous

from fsad.artifacts.paths import parse_run
from fsad.data.layouts import ClassFiles, Sample, list_class
from fsad.deployment.growth import extend
from fsad.evaluation.detector import Detector
from fsad.evaluation.metrics import auroc
from fsad.evaluation.restore import run_detector
from fsad.reports.formats import markdown_table

COLUMNS = "class", "experiment", "AUROC", "above", "AUROC after", "above after"


def grown(detector: Detector, files: ClassFiles, count: int) -> Detector:
    """The detector with the first images of train that it does not know."""
    known = {name for name, _ in detector.described["images"]}
    new = [sample for sample in files.train if sample.name not in known][:count]
    with tempfile.TemporaryDirectory() as folder:
        for index, sample in enumerate(new):
            shutil.copy(sample.path, Path(folder, f"{index}{sample.path.suffix}"))
        return extend(detector, folder, threads=1).detector


def figures(detector: Detector, samples: Sequence[Sample]) -> list[str]:
    """AUROC of test images, and shares of good and of others above the threshold."""
    scores = image_scores(detector, [sample.path for sample in samples])
    labels = np.array([sample.label for sample in samples])
    above = is_anomalous(detector, scores)
    shares = (100 * above[labels == label].mean() for label in (0, 1))
    return [f"{auroc(labels, scores):.1f}", "{:.0f} / {:.0f}".format(*shares)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("layout")
    parser.add_argument("root", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=4)
    arguments = parser.parse_args()
    rows = []
    for folder in arguments.runs:
        run = parse_run(folder.resolve())[1]
        files = list_class(arguments.layout, arguments.root, run.class_name)
        before = run_detector(folder)
        after = grown(before, files, arguments.count)
        found = [x for d in (before, after) for x in figures(d, files.test)]
        rows.append([run.class_name, run.experiment, *found])
    print(markdown_table(COLUMNS, rows, left=2))


if __name__ == "__main__":
    main()
