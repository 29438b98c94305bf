"""Self-test: does the pipeline keep its promises here, with this configuration?

One class is run through the pipeline, by hand, and the published way, all on the CPU.
The published way evaluates every epoch; for that, all test images are decoded, encoded
and kept, and maps are enlarged before they are smoothed.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from fsad.artifacts.files import read_record, write_json, write_text
from fsad.artifacts.paths import Run, results_tree, run_path
from fsad.artifacts.schema import read_yaml
from fsad.backbones.clip import load_clip, split_towers
from fsad.backbones.readout import parse_variant
from fsad.data import images
from fsad.data.words import tokenize
from fsad.demo.dataset import write_demo
from fsad.errors import UserError
from fsad.evaluation import metrics
from fsad.methods.maps import full_maps
from fsad.methods.promptad.method import COMPARED, MEMORY, SIGMA
from fsad.methods.promptad.training import initial_contexts, logit_scale
from fsad.planning.checks import make_plan
from fsad.planning.options import (
    METHOD,
    class_names,
    class_override,
    experiment_backbone,
)
from fsad.planning.plan import Plan
from fsad.reference import published
from fsad.reports.formats import markdown_table

CORES = {2: 2.5, 1: 1.2}  # limit of the cores that a job uses, by its threads
SERVER, AT_ONCE = 40, 20  # cores, and jobs on them
EPOCH_SECONDS, LONG_EPOCHS, LONG_SECONDS = 6, 100, 600
PERCENT = 1  # by which AUROC may differ
OTHER_RESOLUTION = 400
TAIL = 2000  # characters of the output of a failed command
DEMO = "results/demo/data"  # generated if the configuration names it
SQUARE = {"fit": "square"}  # the published way squashes images


class Check(NamedTuple):
    """A promise, the finding, and whether the promise is kept."""

    promise: str
    found: str
    passed: bool


class Cost(NamedTuple):
    """Wall and CPU seconds."""

    seconds: float
    cpu: float


class Subject(NamedTuple):
    """The class that is tested."""

    plan: Plan
    runs: Mapping[str, Run]  # by task
    folder: Path  # of all results; commands run in the working directory
    snakefile: str


def prepare_data(configfiles: Sequence[str]) -> None:
    """Generate the demo's images if a configuration names their folder."""
    for path in configfiles:
        datasets = read_yaml(path).get("datasets")  # not checked yet
        sources = datasets.values() if isinstance(datasets, Mapping) else ()
        if any(isinstance(s, Mapping) and s.get("root") == DEMO for s in sources):
            write_demo(Path(DEMO))


def first_class(config: Mapping, folder: Path, snakefile: str) -> Subject:
    """Subject with the first class, shots and seed of a configuration, and its first
    experiment of PromptAD. Raises UserError if it has none."""
    dataset, source = next(iter(config["datasets"].items()))
    methods = {n: x["method"] for n, x in config["experiments"].items()}
    if METHOD not in methods.values():
        raise UserError(f"config: experiments: the self-test needs one of {METHOD}")
    experiment = next(n for n, method in methods.items() if method == METHOD)
    name = class_names(source)[0]
    one = {
        "datasets": {dataset: source | {"classes": [name]}},
        "experiments": {experiment: config["experiments"][experiment] | SQUARE},
        "shots": [max(1, config["shots"][0])],
        "seeds": config["seeds"][:1],
        "overrides": {dataset: {name: class_override(config, dataset, name)}},
    }
    fixed = {"device": "cpu", "gpus": [], "predict": {}, "runs_per_job": "one"}
    plan = make_plan({**config, **one, **fixed, "vis": False, "monitor": True})
    return Subject(plan, {run.task: run for run in plan.runs}, folder, snakefile)


def verify(subject: Subject) -> list[Check]:
    """Check every promise."""
    (_, cost), _ = (measured(snakemake, subject, t, "--cores", "2") for t in CORES)
    used = {threads: monitored(subject, threads) for threads in CORES}
    other, other_cost = measured(published_way, subject)
    return [
        *(check_cores(threads, jobs) for threads, jobs in used.items()),
        check_at_once(subject),
        check_schedule(subject),
        check_epoch(subject, used[2]),
        check_long(subject),
        *(check_auroc(subject, task, auroc) for task, auroc in other.items()),
        *check_costs(cost, other_cost),
        check_nothing_kept(subject),
        *([check_maps(subject)] if "seg" in subject.runs else []),
        check_cache(subject),
        check_by_hand(subject),
    ]


def write_config(subject: Subject, threads: int) -> Path:
    """Write the configuration with a number of threads to a file."""
    path = subject.folder / f"threads_{threads}"
    changed = {"results": str(path), "threads": threads}
    write_json(path.with_suffix(".json"), {**subject.plan.config, **changed})
    return path.with_suffix(".json")


def snakemake(subject: Subject, threads: int, *arguments: str) -> str:
    """Call Snakemake for the class; return its output."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", subject.snakefile]
    command += ["--configfile", write_config(subject, threads), *arguments]
    return run_command(command)


def run_command(command: list) -> str:
    """Run a command; return its output. UserError with the end of it if it fails."""
    one = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    run = subprocess.run(command, **one)
    if run.returncode != 0:
        raise UserError(f"{' '.join(map(str, command))}: {run.stdout[-TAIL:].strip()}")
    return run.stdout


def measured(action: Callable, *arguments: object) -> tuple[object, Cost]:
    """Result of a call, and its cost, with that of child processes that have ended."""
    begin = os.times()
    result = action(*arguments)
    *cpu, seconds = np.subtract(os.times(), begin)
    return result, Cost(seconds, sum(cpu))


def monitored(subject: Subject, threads: int) -> pd.DataFrame:
    """Records of the monitor for jobs that compute with torch."""
    path = subject.folder / f"threads_{threads}/monitor/jobs.csv"
    jobs = pd.read_csv(path, index_col="job")
    return jobs[jobs.index.str.match("train/|embed/")]


def run_folder(subject: Subject, task: str) -> Path:
    """Folder of the pipeline's run of a task, with two threads."""
    tree = results_tree(subject.folder / "threads_2")
    return Path(run_path(tree.run, subject.runs[task]))


def _first_run(subject: Subject) -> Run:
    return next(iter(subject.runs.values()))


def last(folder: Path, task: str) -> float:
    """AUROC of the last epoch of a run."""
    found = metrics.read_metrics(folder / "metrics.json")["last"]
    return found[metrics.METRICS[task][0]]


def published_way(subject: Subject) -> dict[str, float]:
    """Run all tasks the published way; last AUROC by task."""
    return {task: list(published_run(subject, task))[-1] for task in subject.runs}


def published_run(subject: Subject, task: str) -> Iterator[float]:
    """Run one task the published way; yield the AUROC after each epoch."""
    plan, run = subject.plan, subject.runs[task]
    place, options = run.place, plan.run(run)["options"]
    backbone = experiment_backbone(plan.config, run.experiment)
    clip = load_clip(backbone).requires_grad_(False)
    vision, text = split_towers(clip, backbone["model"])
    variant = parse_variant(plan.run(run)["readout"]["fields"])
    see = partial(published.see, vision, variant=variant, read=_read)
    drawn = [see(sample) for sample in plan.draw(place, run.seed)]
    names = (*MEMORY, COMPARED[task])
    support = {name: torch.cat([image[name] for image in drawn]) for name in names}
    words = plan.prompts(place).record
    tokens = tokenize(words["text"], words["states"])
    width = clip.token_embedding.weight.shape[1]
    contexts = initial_contexts(options, width, run.seed)
    features, test = support[COMPARED[task]], plan.classes[place].test
    scale = logit_scale(text, options)
    options = {**options, "logit_scale": scale}
    for prompts in published.train(clip, tokens, contexts, features, options):
        yield published.evaluate(see, test, support, prompts, scale, task=task)


def _read(path: Path, size: int) -> np.ndarray:
    """Image as the pipeline decodes and resizes it."""
    return images.square(images.read_image(path), size)


def check_cores(threads: int, jobs: pd.DataFrame) -> Check:
    """Compare the highest mean of cores that a job used with the limit."""
    cores, limit = jobs["mean_cores"].max(), CORES[threads]
    promise = f"a job with `threads: {threads}` uses at most {limit} cores"
    return Check(promise, f"{cores:.2f}", bool(cores <= limit))


def check_at_once(subject: Subject) -> Check:
    """Count the training jobs that fit on a server by their threads."""
    plan = snakemake(subject, 2, "--cores", f"{SERVER}", "--dry-run", "--forceall")
    threads = re.findall(r"rule train:\n(?: .*\n)*? +threads: (\d+)", plan)
    jobs = min((SERVER // int(number) for number in threads), default=0)
    promise = f"{AT_ONCE} jobs at once on {SERVER} cores"
    return Check(promise, f"{jobs}", jobs == AT_ONCE)


def check_schedule(subject: Subject) -> Check:
    """Compare the evaluated epochs in the history with the schedule."""
    found, expected = [], []
    for task, run in subject.runs.items():
        history = pd.read_csv(run_folder(subject, task) / "history.csv")
        known = history[metrics.METRICS[task][0]].notna()
        found.append(history["epoch"][known].tolist())
        options = subject.plan.run(run)["options"]
        epochs, every = options["epochs"], options["eval_every"]
        expected.append([*range(every, epochs, every), epochs])
    promise = f"evaluated after epochs {', '.join(map(str, expected[0]))} alone"
    return Check(promise, ", ".join(map(str, found[0])), found == expected)


def check_epoch(subject: Subject, jobs: pd.DataFrame) -> Check:
    """Measure seconds an epoch, evaluations and start-up included."""
    seconds = jobs["seconds"][jobs.index.str.startswith("train/")].max()
    records = map(subject.plan.run, subject.runs.values())
    epochs = max(record["options"]["epochs"] for record in records)
    found = f"{seconds / epochs:.2f} s, of {seconds:.0f} s for {epochs}"
    promise = f"an epoch takes less than {EPOCH_SECONDS} s"
    return Check(promise, found, bool(seconds / epochs < EPOCH_SECONDS))


def check_long(subject: Subject) -> Check:
    """Time a hundred epochs by hand, from image files, with large maps."""
    task = list(subject.runs)[-1]
    out = subject.folder / f"by_hand/{task}_{LONG_EPOCHS}_epochs"
    options = {"epochs": LONG_EPOCHS, "resolution": OTHER_RESOLUTION}
    _, cost = measured(partial(by_hand, subject, task, out, **options))
    trained = read_record(out / "metrics.json")["settings"]["options"]
    passed = cost.seconds < LONG_SECONDS and options.items() <= trained.items()
    how = f"{LONG_EPOCHS} epochs at {OTHER_RESOLUTION} px"
    promise = f"{how} take less than {LONG_SECONDS} s"
    return Check(promise, f"{cost.seconds:.0f} s", passed)


def by_hand(subject: Subject, task: str, out: Path, **options: int) -> None:
    """Make one run by hand."""
    run = subject.runs[task]
    given = {"experiment": run.experiment, "dataset": run.dataset}
    given |= {"class": run.class_name, "shots": run.shots, "seed": run.seed, **options}
    given |= {"config": write_config(subject, 2), "out": out}
    words = [f"--{name}={value}" for name, value in given.items()]
    run_command([sys.executable, "-m", "fsad.cli", "train", task, *words])


def check_auroc(subject: Subject, task: str, other: float) -> Check:
    """Compare AUROC of the last epoch with that of the published way."""
    ours = last(run_folder(subject, task), task)
    promise = f"{task}: AUROC within {PERCENT} % of the published way's"
    found = f"{ours:.2f}, published {other:.2f}"
    return Check(promise, found, abs(ours - other) < PERCENT)


def check_costs(ours: Cost, other: Cost) -> list[Check]:
    """Compare time and CPU time of both ways, all tasks together."""
    faster, saved = other.seconds / ours.seconds, 100 * (1 - ours.cpu / other.cpu)
    times = f"{ours.seconds:.0f} s, published {other.seconds:.0f} s"
    cpu = f"{ours.cpu:.0f} s of CPU, published {other.cpu:.0f} s"
    check = Check("faster", f"{faster:.1f} times: {times}", faster > 1)
    return [check, Check("saves CPU time", f"{saved:.0f} %: {cpu}", saved > 0)]


def check_nothing_kept(subject: Subject) -> Check:
    """Look for pictures, and arrays as large as an image, among the files of runs."""
    first = _first_run(subject)
    place = first.place
    size = subject.plan.readout(first.experiment, place).view.size
    folders = [run_folder(subject, task) for task in subject.runs]
    pictures = [path for folder in folders for path in folder.rglob("*.png")]
    arrays = [a for f in folders for a in np.load(f / "scores.npz").values()]
    large = [array for array in arrays if array.ndim > 3 or size in array.shape[1:]]
    found = f"{len(pictures)} pictures, {len(large)} arrays of images"
    return Check("no test images are kept without `vis`", found, not pictures + large)


def check_maps(subject: Subject) -> Check:
    """Compare full maps with those interpolated by PyTorch, then smoothed by SciPy."""
    grids = np.load(run_folder(subject, "seg") / "scores.npz")["last_maps"]
    once = full_maps(grids, published.RESOLUTION, SIGMA)
    twice = [published.smoothed(published.enlarged(torch.from_numpy(g))) for g in grids]
    error = float(np.abs(once - twice).max() / np.abs(twice).max())
    promise = "maps made at once are those enlarged, then smoothed"
    return Check(promise, f"{error:.0e} of the largest value apart", error < 1e-5)


def check_cache(subject: Subject) -> Check:
    """Look for the cached test set, and call the pipeline again."""
    cached = list(subject.folder.glob("threads_2/cache/*/*/test_px*.npz"))
    idle = "Nothing to be done" in snakemake(subject, 2, "--cores", "2")
    found = f"{len(cached)} cached test set, {'nothing' if idle else 'something'} to do"
    return Check("a second call makes nothing", found, idle and len(cached) == 1)


def check_by_hand(subject: Subject) -> Check:
    """Compare the metrics of a run by hand with those of the pipeline."""
    task = next(iter(subject.runs))
    folders = subject.folder / f"by_hand/{task}", run_folder(subject, task)
    by_hand(subject, task, folders[0])
    ours, other = (read_record(folder / "metrics.json") for folder in folders)
    values = [last(folder, task) for folder in folders]
    found = f"{values[0]:.4f}, and {values[1]:.4f} of the pipeline"
    passed = all(ours[s] == other[s] for s in metrics.SELECTIONS)
    return Check("a training by hand gives the same numbers", found, passed)


def write_checklist(subject: Subject) -> str:
    """Verify and write checklist.md; return its text.

    Raises UserError if a promise is not kept.
    """
    checks, path = verify(subject), subject.folder / "checklist.md"
    run = _first_run(subject)
    rows = [(c.promise, c.found, "PASS" if c.passed else "FAIL") for c in checks]
    backbone = subject.plan.folder(run.experiment)
    about = (
        f"{run.dataset}/{run.class_name}, {run.shots}-shot, {run.experiment}, "
        f"{backbone}, on {os.cpu_count()} cores. `published`: the "
        "published way, which evaluates every epoch; its start-up is not counted, that "
        "of the pipeline is."
    )
    table = markdown_table(["promise", "found", ""], rows, left=3)
    page = f"# Self-test\n\n{about}\n\n{table}\n"
    write_text(path, page)
    broken = sum(not check.passed for check in checks)
    if broken:
        raise UserError(f"{page}\n{path}: promises not kept here: {broken}")
    return page
