"""What Snakemake itself costs at full size, no image read and nothing trained.

python tests/benchmarks/size.py OUT: two data sets with the numbers of images of MVTec
AD and VisA, all of a byte or so, the full benchmark on five seeds, every output a
stand-in. OUT/size.json holds the wall time of planning, of a run with nothing to do and
of the status, and the time that one training takes beside the training itself.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path

import yaml

from fsad.artifacts.files import write_npz, write_record
from fsad.artifacts.paths import run_path
from fsad.planning.checks import make_plan
from fsad.planning.pages import report_record
from fsad.planning.plan import Plan

REPOSITORY = Path(__file__).parents[2]
SEEDS = [111, 222, 333, 444, 555]
# Good training, good test and defect images of each class.
COUNTS = {
    "mvtec": {
        "bottle": (209, 20, 63),
        "cable": (224, 58, 92),
        "capsule": (219, 23, 109),
        "carpet": (280, 28, 89),
        "grid": (264, 21, 57),
        "hazelnut": (391, 40, 70),
        "leather": (245, 32, 92),
        "metal_nut": (220, 22, 93),
        "pill": (267, 26, 141),
        "screw": (320, 41, 119),
        "tile": (230, 33, 84),
        "toothbrush": (60, 12, 30),
        "transistor": (213, 60, 40),
        "wood": (247, 19, 60),
        "zipper": (240, 32, 119),
    },
    "visa": {
        "candle": (900, 100, 100),
        "capsules": (542, 60, 100),
        "cashew": (450, 50, 100),
        "chewinggum": (453, 50, 100),
        "fryum": (450, 50, 100),
        "macaroni1": (900, 100, 100),
        "macaroni2": (900, 100, 100),
        "pcb1": (904, 100, 100),
        "pcb2": (901, 100, 100),
        "pcb3": (905, 101, 100),
        "pcb4": (904, 101, 100),
        "pipe_fryum": (450, 50, 100),
    },
}
TRAINING = re.compile(r"^ *rule (train\w*):", re.MULTILINE)
# Stands for the training: what is left is the time of Snakemake and of Python's start.
NO_TRAINING = """from pathlib import Path
for file in snakemake.output:
    Path(file).write_text("0")
"""


def main() -> None:
    """Measure and write OUT/size.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(Path(folder))
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=2)
    (out / "size.json").write_text(f"{text}\n")
    print(text)


def measured(folder: Path) -> dict:
    """All figures, in seconds where the name says so."""
    make_workflow(folder)
    make_images(folder)
    whole = configuration(folder, "whole")
    figures = {"machine": platform.processor() or platform.machine()}
    figures |= {"cores": os.cpu_count(), "images": sum_of_counts()}
    figures["first_dry_run_s"], plan = timed(folder, whole, "--dry-run")
    figures["trainings"] = len(TRAINING.findall(plan))
    figures["dry_run_nothing_made_s"], _ = timed(folder, whole, "--dry-run")
    pretend(folder, whole)
    figures["dry_run_all_made_s"], _ = timed(folder, whole, "--dry-run")
    figures["run_with_nothing_to_do_s"], _ = timed(folder, whole)
    figures["status_s"], _ = timed_status(folder, whole)
    (folder / "mvtec/bottle/test/good/000.png").write_text("changed")
    figures["dry_run_one_image_changed_s"], plan = timed(folder, whole, "--dry-run")
    figures["trainings_after_that"] = len(TRAINING.findall(plan))
    for name in ("one", "all"):
        single = configuration(folder, name, runs_per_job=name)
        figures |= overhead(folder, single, name)
    return figures


def sum_of_counts() -> int:
    """Number of all images."""
    return sum(sum(counts) for names in COUNTS.values() for counts in names.values())


def make_workflow(folder: Path) -> None:
    """Copy the workflow into `folder` and take the training out of it."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("workflow", "profiles", "config", "envs"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    shutil.copy(REPOSITORY / "Snakefile", folder)
    (folder / "workflow/scripts/train.py").write_text(NO_TRAINING)


def make_images(folder: Path) -> None:
    """Write a tiny file in place of each image and mask."""
    for dataset, names in COUNTS.items():
        for name, (train, good, defects) in names.items():
            place = folder / dataset / name
            write(place / "train/good", train, "{:03}.png")
            write(place / "test/good", good, "{:03}.png")
            write(place / "test/defect", defects, "{:03}.png")
            write(place / "ground_truth/defect", defects, "{:03}_mask.png")


def write(place: Path, count: int, name: str) -> None:
    """Write `count` files, each with a content of its own."""
    place.mkdir(parents=True)
    for index in range(count):
        (place / name.format(index)).write_text(f"{index}")


def configuration(folder: Path, name: str, **changes) -> Path:
    """Write the full benchmark's configuration on five seeds; with changes, of a class.

    Its results have a folder of their own.
    """
    config = yaml.safe_load((folder / "config/config.yaml").read_text())
    config |= {"results": f"results/{name}", "seeds": SEEDS, **changes}
    for dataset, source in config["datasets"].items():
        source["root"] = dataset
    if changes:
        config["datasets"] = {"mvtec": config["datasets"]["mvtec"]}
        config["datasets"]["mvtec"]["classes"] = ["bottle"]
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def timed_status(folder: Path, config: Path) -> tuple[float, str]:
    """Wall time and output of `fsad status`."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "fsad.cli", "status", "--configfile", config]
    environment = os.environ | {"PYTHONPATH": str(folder / "workflow")}
    output = subprocess.check_output(command, cwd=folder, env=environment, text=True)
    return round(time.perf_counter() - start, 2), output


def timed(folder: Path, config: Path, *arguments: str) -> tuple[float, str]:
    """Wall time and output of a call of Snakemake."""
    start = time.perf_counter()
    output = snakemake(folder, config, *arguments)
    return round(time.perf_counter() - start, 2), output


def snakemake(folder: Path, config: Path, *arguments: str) -> str:
    """Output of a call of Snakemake in `folder`."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    command += ["--configfile", config]
    environment = os.environ | {"PYTHONPATH": str(folder / "workflow")}
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    if run.returncode != 0:
        raise RuntimeError(run.stdout[-2000:] + run.stderr[-2000:])
    return run.stdout


def pretend(folder: Path, config: Path) -> None:
    """Write a stand-in for every output, and have Snakemake take it for made."""
    rows = snakemake(folder, config, "--summary").splitlines()[1:]
    for path in (folder / row.partition("\t")[0] for row in rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0")
    snakemake(folder, config, "--touch", "--forceall", "--quiet", "all")
    with chdir(folder):
        plan = make_plan(yaml.safe_load(config.read_text()))
        write_records(plan)
    snakemake(folder, config, "--touch", "--forceall", "--quiet", "all")


def write_records(plan: Plan) -> None:
    """Write the records of all runs, features and pages, and the files beside them."""
    tree = plan.tree
    for run in plan.runs:
        write_record(run_path(tree.metrics, run), {"settings": plan.run(run)})
        for pattern in (tree.model, tree.scores, tree.history):
            Path(run_path(pattern, run)).write_text("0")
    for place in plan.classes:
        for experiment in plan.config["experiments"]:
            for work in plan.embeddings(experiment, place):
                write_npz(*work.features[:1], {}, work.features.record)
    write_record(tree.report_record, report_record(plan))


def overhead(folder: Path, config: Path, name: str) -> dict:
    """Time that each training of a class takes beside the training."""
    pretend(folder, config)
    shutil.rmtree(folder / f"results/{name}/runs")
    planning, plan = timed(folder, config, "--dry-run")
    jobs = TRAINING.findall(plan)
    trainings = len(SEEDS) * 7 * 3 * 2  # experiments, shots, tasks
    running, _ = timed(folder, config, "--until", *sorted(set(jobs)))
    figures = {"jobs": len(jobs), "trainings": trainings}
    figures["overhead_per_training_s"] = round((running - planning) / trainings, 4)
    return {f"{name}_{key}": value for key, value in figures.items()}


if __name__ == "__main__":
    main()
