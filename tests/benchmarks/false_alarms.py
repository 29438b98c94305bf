"""False alarms and detected defects of thresholds of `fsad calibrate`.

python tests/benchmarks/false_alarms.py RESULTS CALIBRATION HELD_OUT: the results of
`make demo`, and two folders of `fsad demo-data`, of other seeds. The 4-shot `cls` runs
are calibrated on the good test images of the first; prints, for each class and
experiment, the percentage of the good and of the defective test images of the second
that are above the threshold of the support images, and above the calibrated one.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from thresholds import image_scores, is_anomalous, run_folders

from fsad.artifacts.paths import parse_run
from fsad.data.layouts import list_class
from fsad.deployment.thresholds import Bound, calibrate_on_good
from fsad.evaluation.restore import run_detector
from fsad.reports.formats import markdown_table

SHOTS = 4
RULES = "support", "calibrated"


def rates(folder: Path, calibration: Path, held_out: Path, bound: Bound) -> list[dict]:
    """Shares of good and of defective images above both thresholds of a run."""
    _, run = parse_run(folder)
    detector = run_detector(folder)
    good = calibration / run.class_name / "test/good"
    calibrated = calibrate_on_good(detector, good, bound).detector
    samples = list_class("folder", held_out, run.class_name).test
    scores = image_scores(detector, [sample.path for sample in samples])
    good = np.array([sample.label == 0 for sample in samples])
    found = []
    for rule, known in zip(RULES, (detector, calibrated), strict=True):
        above = is_anomalous(known, scores)
        keys = {"class": run.class_name, "experiment": run.experiment, "rule": rule}
        shares = {"good": above[good].mean(), "defective": above[~good].mean()}
        found.append({**keys, **shares})
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("results", "calibration", "held_out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--false-alarms", type=float, default=0.1)
    parser.add_argument("--confidence", type=float, default=0.95)
    arguments = parser.parse_args()
    bound = Bound(arguments.false_alarms, arguments.confidence)
    folders = arguments.calibration, arguments.held_out
    rows = []
    for folder in run_folders(arguments.results.resolve()):
        run = parse_run(folder)[1]
        if (run.task, run.shots) == ("cls", SHOTS):
            rows += rates(folder, *folders, bound)
    shares = pd.DataFrame(rows).groupby(["class", "experiment", "rule"]).mean() * 100
    text = shares["good"].map("{:.1f}".format) + " / "
    text += shares["defective"].map("{:.0f}".format)
    table = text.unstack("rule")[[*RULES]].reset_index()
    print(markdown_table([*table.columns], table.to_numpy().tolist(), left=2))


if __name__ == "__main__":
    main()
