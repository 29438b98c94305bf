"""Image AUROC of each kind of defect against the good test images."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fsad.artifacts.files import read_npz
from fsad.artifacts.paths import SCORES
from fsad.evaluation.metrics import METRICS, auroc

RUN = ["experiment", "method", "backbone", "dataset", "class", "task", "shots", "seed"]
COLUMNS = [*RUN, "kind", "images", "selection", "metric", "value"]


def kinds_table(runs: Mapping[Path, Mapping]) -> pd.DataFrame:
    """COLUMNS, a row per run and kind of defect, after the last epoch, in percent.

    runs: see `tables.read_runs`, by their folders, whose scores.npz is read. The kind
    of a defective image is the folder in its name. A run of the task seg has image
    scores, too: those of its detector. Raises UserError if scores are damaged or of
    another record.
    """
    metric, rows = METRICS["cls"][0], []
    for folder, run in runs.items():
        settings = run["settings"]
        arrays = "names", "labels", "last_scores"
        scores = read_npz(folder / SCORES, *arrays, record=settings)
        key = [settings[name] for name in RUN]
        for *found, value in kind_aurocs(*map(scores.get, arrays)):
            rows.append((*key, *found, "last", metric, value))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(COLUMNS, kind="stable", ignore_index=True)


def kind_aurocs(
    names: Iterable[str], labels: np.ndarray, scores: np.ndarray
) -> Iterator[tuple[str, int, float]]:
    """Kind, number of its images, and their AUROC against all good images.

    names: KIND/FILE of each image; labels int [N], 0 is good; scores float [N]. AUROC
    is nan without good images.
    """
    kinds = np.array([str(name).rpartition("/")[0] for name in names])
    defective = labels != 0
    for kind in np.unique(kinds[defective]):
        own = defective & (kinds == kind)
        chosen = own | ~defective
        yield str(kind), int(own.sum()), auroc(own[chosen], scores[chosen])
