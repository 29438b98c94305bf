"""The configuration, the runs it asks for, and where their files lie."""

import difflib
import os
import sys
from functools import cache
from pathlib import Path

from promptad.backbone_config import backbone_name, check_backbone, image_size
from promptad.config import (
    class_files,
    class_names,
    class_prompts,
    class_support,
    class_tasks,
    complete,
    run_settings,
)
from promptad.digests import check_files, digest_of, file_digests
from promptad.errors import UserError
from promptad.layouts import find_images
from promptad.locks import bring_back, hold
from promptad.orphans import SNAKEMAKE_PID
from promptad.sources import code_digest
from promptad.variants import parse_variant, variant_name

RUN_KEYS = "task", "experiment", "dataset", "class_name", "shots", "seed"


def results(path):
    return f"{config['results']}/{path}"


def hold_results():
    """Keep other runs out while this one works, and tell whether it does.

    To ask for the status is no work.
    """
    if all(job.rule.name == "status" for job in workflow.dag.needrun_jobs()):
        return False
    try:
        hold(config["results"])
        bring_back(config["results"])
    except UserError as error:
        raise WorkflowError(str(error))
    return True


def code(script):
    return code_digest(workflow.source_path(f"../scripts/{script}"))


def support_samples(dataset, class_name, shots, seed):
    place = dataset, class_name
    return class_support(config, *place, FILES[place], int(shots), int(seed))


def planned_runs():
    """RUN_KEYS of every training."""
    return [
        (task, experiment, dataset, class_name, shots, seed)
        for (dataset, class_name), files in FILES.items()
        for task in class_tasks(config, files)
        for experiment in config["experiments"]
        for shots in config["shots"]
        for seed in config["seeds"]
    ]


def listed_files():
    """The files of every class, by data set and class.

    A job of a cluster passes over the classes of others that have none by now.
    """
    listed = {}
    for dataset, source in config["datasets"].items():
        for class_name in class_names(source):
            try:
                listed[dataset, class_name] = class_files(config, dataset, class_name)
            except UserError:
                if workflow.is_main_process:
                    raise
    return listed


def check_data():
    """Fail while planning, not hours later, where a class cannot be trained."""
    for (dataset, class_name), files in FILES.items():
        shots = max(config["shots"])
        drawn = [
            support_samples(dataset, class_name, shots, s) for s in config["seeds"]
        ]
        samples = [sample for samples in (files.test, *drawn) for sample in samples]
        check_files([*(sample.path for sample in samples), *files.mask_files])
        class_prompts(config, dataset, class_name)
        if "seg" in config["tasks"] and not files.has_masks:
            print(f"{dataset}/{class_name}: no masks, seg is skipped", file=sys.stderr)


try:
    config = complete(config)
    KNOWN_WEIGHTS = Path(results("features/digests.json"))
    check_backbone(config["backbone"], KNOWN_WEIGHTS)
    BACKBONE = backbone_name(config["backbone"], KNOWN_WEIGHTS)
    SIZE = image_size(config["backbone"])
    # These targets need no data set. Which are asked for is not known here otherwise.
    FILES = {} if {"demo_backbone", "verify"} & {*sys.argv} else listed_files()
    if workflow.is_main_process:  # a job plans nothing and reads its own files alone
        check_data()
except UserError as error:
    raise WorkflowError(str(error))

os.environ[SNAKEMAKE_PID] = str(os.getpid())  # jobs end with it, see promptad.orphans

# Jobs that use the GPU ask for one; locally no more run at once than there are slots.
GPU = int(config["device"] != "cpu")
SHARED_GPUS = not workflow.resource_scopes.is_local("gpu")  # and not of each node
if "gpu" in workflow.global_resources and SHARED_GPUS and not GPU:
    raise WorkflowError(
        "config: device: is cpu, with GPUs among the resources of this call; --config "
        "replaces all options that a profile gives, so repeat them beside your own"
    )
if config["gpus"] and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", len(config["gpus"]) * config["jobs_per_gpu"])

RUNS = planned_runs()
if FILES and not RUNS:
    raise WorkflowError("config: tasks: seg alone, and no class has masks for it")
VARIANTS = {
    name: parse_variant(experiment["variant"])
    for name, experiment in config["experiments"].items()
}
VARIANT_FIELDS = {variant_name(v): v._asdict() for v in VARIANTS.values()}
CACHE = results("cache/{dataset}/{class_name}")
MASKS = f"{CACHE}/masks_r{config['resolution']}"
FEATURES = results(f"features/{BACKBONE}")
CLASS_FEATURES = f"{FEATURES}/{{variant}}/{{dataset}}/{{class_name}}"
RUN = results("runs/{experiment}/{dataset}/{class_name}/k{shots}/s{seed}")
METRICS = f"{RUN}/{{task}}/metrics.json"
LOGS = results("logs")
BENCHMARKS = results("benchmarks")


wildcard_constraints:
    dataset="[^/]+",
    class_name="[^/]+",
    experiment="[^/]+",
    prediction="[^/]+",
    variant="[^/]+",
    shots="[0-9]+",
    seed="[0-9]+",


def remembered(paths, memory):
    """Digest of each of these files, see `digests.file_digests`."""
    try:
        return file_digests(paths, memory)
    except UserError as error:
        raise WorkflowError(str(error))


def contents(dataset, class_name, paths):
    """Digest of each of these files of a class."""
    memory = f"{CACHE}/digests.json".format(dataset=dataset, class_name=class_name)
    return remembered(paths, memory)


@cache
def test_set(dataset, class_name):
    """Digest of the test images of a class: their names, labels and contents."""
    samples = FILES[dataset, class_name].test
    known = contents(dataset, class_name, [sample.path for sample in samples])
    return digest_of([(s.name, s.label, known[s.path]) for s in samples])


@cache
def mask_set(dataset, class_name):
    """Digest of the masks of a class: of which images they are, and their contents."""
    files = FILES[dataset, class_name]
    known = contents(dataset, class_name, files.mask_files)
    return digest_of([(s.name, known.get(s.mask)) for s in files.test])


@cache
def support_set(dataset, class_name, shots, seed):
    """Names of the support images in order, each with the digest of its content."""
    samples = support_samples(dataset, class_name, shots, seed)
    known = contents(dataset, class_name, [sample.path for sample in samples])
    return {sample.name: known[sample.path] for sample in samples}


def class_features(file):
    """Path of a feature file, with the variant of the experiment."""
    return lambda w: f"{CLASS_FEATURES}/{file}".format(
        variant=variant_name(VARIANTS[w.experiment]), **dict(w.items())
    )


def support_features(*files):
    """Paths of several feature files; of one, a list as well."""
    return lambda w: [class_features(file)(w) for file in files]


def settings_of(task):
    """All that identifies a run of `task`, and the options it is trained with."""
    return lambda w: [run_settings(config, BACKBONE, task, **dict(w.items()))]


def panel_masks(suffix):
    """The masks of a class, or their digest, if it has any."""

    def path(wildcards):
        if not FILES[wildcards.dataset, wildcards.class_name].has_masks:
            return []
        return f"{MASKS}.{suffix}".format(**dict(wildcards.items()))

    return path


def run_files(pattern, **where):
    """Paths made from `pattern` for all runs, or for those of which `where` is true."""
    runs = [dict(zip(RUN_KEYS, run, strict=True)) for run in RUNS]
    return [pattern.format(**run) for run in runs if where.items() <= run.items()]


PLANNED = dict(zip(run_files(f"{RUN}/{{task}}"), RUNS, strict=True))


def predicting_run(name):
    """Folder of the run that an entry of `predict` names."""
    folder = results(f"runs/{config['predict'][name]['run']}")
    if folder not in PLANNED:
        close = difflib.get_close_matches(folder, PLANNED, cutoff=0)
        known = ", ".join(path.removeprefix(results("runs/")) for path in close)
        raise WorkflowError(
            f"config: predict.{name}.run: no such run in this configuration; "
            f"close to it: {known}"
        )
    return folder


@cache
def images_to_predict(name):
    """Image files that an entry of `predict` names, by their names there."""
    try:
        return find_images([config["predict"][name]["images"]])
    except UserError as error:
        raise WorkflowError(f"config: predict.{name}.images: {error}")


@cache
def new_images(name):
    """Digest of the images that an entry of `predict` names, and of their contents."""
    images = images_to_predict(name)
    # What cannot be read stops nothing: the job says so in its table.
    readable = [path for path in images.values() if os.access(path, os.R_OK)]
    known = remembered(readable, results(f"predict/{name}.json"))
    return digest_of({image: known.get(path) for image, path in images.items()})


def detector_files(wildcards):
    """All that the detector of a run is made of: large files, and small to follow."""
    run = predicting_run(wildcards.prediction)
    keys = dict(zip(RUN_KEYS, PLANNED[run], strict=True))
    keys["variant"] = variant_name(VARIANTS[keys["experiment"]])
    support = "support_k{shots}_s{seed}"
    arrays = [f"{CLASS_FEATURES}/{support}", f"{CACHE}/{support}_px{SIZE}"]
    arrays = [path.format(**keys) for path in arrays]
    towers = [f"{FEATURES}/{part}.safetensors" for part in ("vision", "text")]
    run_arrays = [f"{run}/{file}.npz" for file in ("model", "scores")]
    return {
        "small": [f"{run}/metrics.json", f"{run}/history.csv"]
        + [f"{FEATURES}/towers.sha256", *(f"{path}.sha256" for path in arrays)],
        "run": ancient(run_arrays),
        "large": ancient(towers + [f"{path}.npz" for path in arrays]),
    }


def example_tasks(dataset):
    """The task whose maps are shown of each class: pixels where they are learned."""
    return {
        name: "seg" if "seg" in class_tasks(config, files) else "cls"
        for (place, name), files in FILES.items()
        if place == dataset
    }


def example_files(pattern):
    """Paths for a run of each class: the most shots, the first seed."""
    run = {"shots": max(config["shots"]), "seed": config["seeds"][0]}
    return lambda w: [
        file
        for name, task in example_tasks(w.dataset).items()
        for file in run_files(
            pattern, class_name=name, task=task, **run, **dict(w.items())
        )
    ]


def example_masks(suffix):
    """Their masks, or the digests of these."""
    return lambda w: [
        f"{MASKS}.{suffix}".format(dataset=w.dataset, class_name=name)
        for name, task in example_tasks(w.dataset).items()
        if task == "seg"
    ]
