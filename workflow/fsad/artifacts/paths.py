"""Paths of the results tree: from a key to a path and back."""

import re
from pathlib import Path
from typing import NamedTuple

from fsad.errors import UserError

Place = tuple[str, str]  # data set and class


class Run(NamedTuple):
    """Key of a run: one fit of a method to a class for one task."""

    experiment: str
    dataset: str
    class_name: str
    task: str
    shots: int
    seed: int

    @property
    def place(self) -> Place:
        """Data set and class."""
        return self.dataset, self.class_name


# Files of a run, the metrics written last, and the record in a folder of outputs.
MODEL, SCORES, HISTORY = "model.npz", "scores.npz", "history.csv"
METRICS, RECORD = "metrics.json", "record.json"
# Outputs of predictions.
PREDICTED = TABLE, MAPS, OVERLAYS = "scores.csv", "maps", "overlays"
CACHE = "cache/{dataset}/{class_name}"
FEATURES = "features/{backbone}/{readout}/{dataset}/{class_name}"
RUN = "runs/{experiment}/{dataset}/{class_name}/k{shots}/s{seed}/{task}"


class Tree(NamedTuple):
    """Patterns of all paths below a results folder, with keys in braces."""

    vision: str = "features/{backbone}/vision.safetensors"
    text: str = "features/{backbone}/text.safetensors"
    test_images: str = f"{CACHE}/test_{{view}}.npz"
    support_images: str = f"{CACHE}/support_s{{seed}}_{{view}}.npz"
    tiles: str = f"{CACHE}/{{tiles}}.npz"
    masks: str = f"{CACHE}/masks_r{{resolution}}.npz"
    prompts: str = f"{CACHE}/prompts.npz"
    test_features: str = f"{FEATURES}/test.npz"
    support_features: str = f"{FEATURES}/support_s{{seed}}.npz"
    run: str = RUN
    metrics: str = f"{RUN}/{METRICS}"
    history: str = f"{RUN}/{HISTORY}"
    scores: str = f"{RUN}/{SCORES}"
    model: str = f"{RUN}/{MODEL}"
    panels: str = f"{RUN}/vis"
    panels_record: str = f"{RUN}/vis/{RECORD}"
    prediction: str = "predict/{prediction}"
    prediction_record: str = f"predict/{{prediction}}/{RECORD}"
    tables: str = "tables"
    report: str = "report"
    report_record: str = f"report/{RECORD}"
    logs: str = "logs"
    benchmarks: str = "benchmarks"
    monitor: str = "monitor"
    digests: str = "digests.json"


TREE = Tree()
RUN_KEY = re.compile(
    r"(?P<results>.*)/runs/(?P<experiment>[^/]+)/(?P<dataset>[^/]+)/(?P<class_name>[^/]+)"
    r"/k(?P<shots>\d+)/s(?P<seed>\d+)/(?P<task>[^/]+)"
)


ARTEFACT = re.compile(
    "|".join(
        re.sub(r"\\{\w+\\}", "[^/]+", f".*/{re.escape(pattern)}")
        for pattern in TREE
        if Path(pattern).suffix
    )
)


def is_artefact(path: str | Path) -> bool:
    """Whether a path is that of a file below a results folder, made by a job."""
    return ARTEFACT.fullmatch(str(Path(path).absolute())) is not None


def results_tree(results: str | Path) -> Tree:
    """Patterns of the paths below a results folder."""
    return Tree(*(f"{results}/{pattern}" for pattern in TREE))


def fill(pattern: str, **keys: object) -> str:
    """Replace some keys of a pattern; the others stay in braces."""
    for name, value in keys.items():
        pattern = pattern.replace(f"{{{name}}}", str(value))
    return pattern


def run_path(pattern: str, run: Run) -> str:
    """Path of a run for a pattern of a `Tree`."""
    return pattern.format(**run._asdict())


def parse_run(folder: str | Path) -> tuple[Path, Run]:
    """Results folder and key of a run's folder; UserError for another folder."""
    found = RUN_KEY.fullmatch(str(Path(folder).absolute()))
    if found is None:
        raise UserError(f"{folder}: no folder of a run ({TREE.run})")
    results, *key, shots, seed, task = found.groups()
    return Path(results), Run(*key, task, int(shots), int(seed))
