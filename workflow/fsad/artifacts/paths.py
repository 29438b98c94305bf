"""The results tree: from a key to a path, and back."""

import re
from pathlib import Path
from typing import NamedTuple

from fsad.errors import UserError


class Run(NamedTuple):
    """The key of a run: one training, or one fit, of a class for one task."""

    experiment: str
    dataset: str
    class_name: str
    task: str
    shots: int
    seed: int


class Tree(NamedTuple):
    """Patterns of all paths below a folder of results; keys stand in braces."""

    vision: str
    text: str
    test_images: str
    support_images: str
    masks: str
    prompts: str
    test_features: str
    support_features: str
    run: str
    metrics: str
    history: str
    scores: str
    model: str
    panels: str
    panels_record: str
    prediction: str
    prediction_record: str
    tables: str
    report: str
    logs: str
    benchmarks: str
    monitor: str
    digests: str


CACHE = "cache/{dataset}/{class_name}"
FEATURES = "features/{backbone}/{readout}/{dataset}/{class_name}"
RUN = "runs/{experiment}/{dataset}/{class_name}/k{shots}/s{seed}/{task}"
TREE = Tree(
    vision="features/{backbone}/vision.safetensors",
    text="features/{backbone}/text.safetensors",
    test_images=f"{CACHE}/test_px{{size}}.npz",
    support_images=f"{CACHE}/support_s{{seed}}_px{{size}}.npz",
    masks=f"{CACHE}/masks_r{{resolution}}.npz",
    prompts=f"{CACHE}/prompts.npz",
    test_features=f"{FEATURES}/test.npz",
    support_features=f"{FEATURES}/support_s{{seed}}.npz",
    run=RUN,
    metrics=f"{RUN}/metrics.json",
    history=f"{RUN}/history.csv",
    scores=f"{RUN}/scores.npz",
    model=f"{RUN}/model.npz",
    panels=f"{RUN}/vis",
    panels_record=f"{RUN}/vis/record.json",
    prediction="predict/{prediction}",
    prediction_record="predict/{prediction}/record.json",
    tables="tables",
    report="report",
    logs="logs",
    benchmarks="benchmarks",
    monitor="monitor",
    digests="digests.json",
)
RUN_KEY = re.compile(
    r"(?P<results>.*)/runs/(?P<experiment>[^/]+)/(?P<dataset>[^/]+)/(?P<class_name>[^/]+)"
    r"/k(?P<shots>\d+)/s(?P<seed>\d+)/(?P<task>[^/]+)"
)


def results_tree(results: str | Path) -> Tree:
    """The patterns below a folder of results."""
    return Tree(*(f"{results}/{pattern}" for pattern in TREE))


def fill(pattern: str, **keys: object) -> str:
    """A pattern with some of its keys; the other braces stay."""
    for name, value in keys.items():
        pattern = pattern.replace(f"{{{name}}}", str(value))
    return pattern


def run_path(pattern: str, run: Run) -> str:
    """A path of a run by the pattern of a `Tree`."""
    return pattern.format(**run._asdict())


def parse_run(folder: str | Path) -> tuple[Path, Run]:
    """Folder of results and key of a run's folder; UserError if it is none."""
    found = RUN_KEY.fullmatch(str(Path(folder).absolute()))
    if found is None:
        raise UserError(f"{folder}: no folder of a run ({TREE.run})")
    results, *key, shots, seed, task = found.groups()
    return Path(results), Run(*key, task, int(shots), int(seed))
