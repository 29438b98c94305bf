"""The configuration, the runs it asks for, and where their files lie."""

import sys
import os

from promptad.backbone import backbone_name, check_backbone, image_size
from promptad.config import (
    class_files,
    class_names,
    class_override,
    class_prompts,
    class_tasks,
    complete,
    run_settings,
)
from promptad.errors import UserError
from promptad.sources import code_digest
from promptad.support import draw_support
from promptad.variants import parse_variant, variant_name


def results(path):
    return f"{config['results']}/{path}"


def code(script):
    return code_digest(workflow.source_path(f"../scripts/{script}"))


def support_samples(dataset, class_name, shots, seed):
    chosen = class_override(config, dataset, class_name).get("support")
    train = FILES[dataset, class_name].train
    return draw_support(train, class_name, int(shots), int(seed), chosen)


def planned_runs():
    """(task, experiment, dataset, class, shots, seed) of every training."""
    return [
        (task, experiment, dataset, class_name, shots, seed)
        for (dataset, class_name), files in FILES.items()
        for task in class_tasks(config, files)
        for experiment in config["experiments"]
        for shots in config["shots"]
        for seed in config["seeds"]
    ]


def check_data():
    """Fail while planning, not hours later, where a class cannot be trained."""
    for (dataset, class_name), files in FILES.items():
        support_samples(dataset, class_name, max(config["shots"]), config["seeds"][0])
        class_prompts(config, dataset, class_name)
        if "seg" in config["tasks"] and not files.has_masks:
            print(f"{dataset}/{class_name}: no masks, seg is skipped", file=sys.stderr)


try:
    config = complete(config)
    check_backbone(config["backbone"])
    BACKBONE = backbone_name(config["backbone"])
    SIZE = image_size(config["backbone"])
    FILES = {
        (dataset, class_name): class_files(config, dataset, class_name)
        for dataset, source in config["datasets"].items()
        for class_name in class_names(source)
    }
    check_data()
except UserError as error:
    raise WorkflowError(str(error))

RUNS = planned_runs()
VARIANTS = {
    name: variant_name(parse_variant(experiment["variant"]))
    for name, experiment in config["experiments"].items()
}
CACHE = results("cache/{dataset}/{class_name}")
FEATURES = results(f"features/{BACKBONE}")
CLASS_FEATURES = f"{FEATURES}/{{variant}}/{{dataset}}/{{class_name}}"
RUN = results("runs/{experiment}/{dataset}/{class_name}/k{shots}/s{seed}")
LOGS = results("logs")
BENCHMARKS = results("benchmarks")


wildcard_constraints:
    dataset="[^/]+",
    class_name="[^/]+",
    experiment="[^/]+",
    variant="[^/]+",
    shots="[0-9]+",
    seed="[0-9]+",


def run_files(pattern, tasks=("cls", "seg")):
    """Paths made from `pattern` for all runs of `tasks`."""
    keys = "task", "experiment", "dataset", "class_name", "shots", "seed"
    return [
        pattern.format(**dict(zip(keys, run, strict=True)))
        for run in RUNS
        if run[0] in tasks
    ]
