"""A self-test: does the pipeline do here, with this configuration, what it promises?

One class is trained through the pipeline, and by hand, and the published way: there
every epoch is evaluated, for which all test images are decoded, encoded and kept, and
maps are enlarged before they are smoothed. All of it on the CPU.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from promptad import images, maps, metrics, prompts, published
from promptad.backbone import load_clip, split_towers
from promptad.backbone_config import backbone_name, image_size
from promptad.config import (
    class_files,
    class_names,
    class_override,
    class_prompts,
    class_support,
    class_tasks,
    run_settings,
)
from promptad.errors import UserError
from promptad.formats import markdown_table
from promptad.scores import MEMORY, TRAINED_ON
from promptad.storage import read_record, write_json, write_text
from promptad.training import initial_contexts, temperature
from promptad.variants import parse_variant

CORES = {2: 2.5, 1: 1.2}  # the most that a job may use, by its threads
SERVER, AT_ONCE = 40, 20  # cores, and jobs on them
EPOCH_SECONDS, LONG_EPOCHS, LONG_SECONDS = 6, 100, 600
PERCENT = 1  # by which AUROC may differ
OTHER_RESOLUTION = 400
TAIL = 2000  # characters of what a failed command says


class Line(NamedTuple):
    """A promise, what was found, and whether that keeps it."""

    promise: str
    found: str
    kept: bool


class Cost(NamedTuple):
    """Wall and CPU seconds."""

    seconds: float
    cpu: float


class Subject(NamedTuple):
    """A class: the configuration of it alone, and the settings of its runs by task.

    Each command runs in the working directory and writes below `folder`.
    """

    config: Mapping
    runs: Mapping[str, dict]
    folder: Path
    snakefile: str


def first_class(config: Mapping, folder: Path, snakefile: str) -> Subject:
    """The first class, experiment, number of shots and seed of a configuration."""
    dataset, source = next(iter(config["datasets"].items()))
    name, experiment = class_names(source)[0], next(iter(config["experiments"]))
    shots, seed = config["shots"][0], config["seeds"][0]
    override = {name: class_override(config, dataset, name)}
    one = {
        "datasets": {dataset: source | {"classes": [name]}},
        "experiments": {experiment: config["experiments"][experiment]},
        "shots": [shots],
        "seeds": [seed],
        "overrides": {dataset: override},
    }
    fixed = {"device": "cpu", "gpus": [], "predict": {}, "train_together": False}
    config = {**config, **one, **fixed, "vis": False, "monitor": True}
    run = experiment, dataset, name, shots, seed
    tasks = class_tasks(config, class_files(config, dataset, name))
    backbone = backbone_name(config["backbone"])
    runs = {task: run_settings(config, backbone, task, *run) for task in tasks}
    return Subject(config, runs, folder, snakefile)


def verify(subject: Subject) -> list[Line]:
    """Every promise, and what was found."""
    costs = {threads: pipeline(subject, threads) for threads in CORES}
    used = {threads: monitored(subject, threads) for threads in CORES}
    other, cost = published_way(subject)
    return [
        *(cores_line(threads, jobs) for threads, jobs in used.items()),
        at_once_line(subject),
        schedule_line(subject),
        epoch_line(subject, used[2]),
        long_line(subject),
        *(auroc_line(subject, task, auroc) for task, auroc in other.items()),
        *cost_lines(costs[2], cost),
        nothing_kept_line(subject),
        *([maps_line(subject)] if "seg" in subject.runs else []),
        cache_line(subject),
        by_hand_line(subject),
    ]


def checklist(subject: Subject, lines: list[Line]) -> str:
    """The lines as a page of Markdown."""
    run = next(iter(subject.runs.values()))
    rows = [
        (line.promise, line.found, "PASS" if line.kept else "FAIL") for line in lines
    ]
    about = (
        f"{run['dataset']}/{run['class']}, {run['shots']}-shot, {run['experiment']}, "
        f"{run['backbone']}, on {os.cpu_count()} cores. `published`: the "
        "published way, every epoch evaluated; its start-up is not counted, that of "
        "the pipeline is."
    )
    table = markdown_table(["promise", "found", ""], rows, left=3)
    return f"# Self-test\n\n{about}\n\n{table}\n"


def written(subject: Subject, threads: int) -> Path:
    """The configuration with so many threads, written to a file."""
    results = str(subject.folder / f"threads_{threads}")
    path = subject.folder / f"threads_{threads}.json"
    write_json(path, {**subject.config, "results": results, "threads": threads})
    return path


def snakemake(subject: Subject, threads: int, *arguments: str) -> str:
    """A call of Snakemake for the class; what it says."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", subject.snakefile]
    return said([*command, "--configfile", written(subject, threads), *arguments])


def said(command: list) -> str:
    """What a command says; UserError with the end of it where it fails."""
    run = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if run.returncode != 0:
        raise UserError(f"{' '.join(map(str, command))}: {run.stdout[-TAIL:].strip()}")
    return run.stdout


def pipeline(subject: Subject, threads: int) -> Cost:
    """Train the class through the pipeline, on two cores."""
    before = children_seconds(), time.perf_counter()
    snakemake(subject, threads, "--cores", "2")
    return Cost(time.perf_counter() - before[1], children_seconds() - before[0])


def children_seconds() -> float:
    """CPU seconds of all that this process has started and that has ended."""
    times = os.times()
    return times.children_user + times.children_system


def monitored(subject: Subject, threads: int) -> pd.DataFrame:
    """What the monitor saw of the jobs that compute with torch."""
    path = subject.folder / f"threads_{threads}/monitor/jobs.csv"
    jobs = pd.read_csv(path, index_col="job")
    return jobs[jobs.index.str.match("train_|embed_")]


def run_folder(subject: Subject, task: str) -> Path:
    """Where the pipeline has written the run of a task, with two threads."""
    run = subject.runs[task]
    place = f"{run['experiment']}/{run['dataset']}/{run['class']}"
    drawn = f"k{run['shots']}/s{run['seed']}"
    return subject.folder / f"threads_2/runs/{place}/{drawn}/{task}"


def last(folder: Path, task: str) -> float:
    """AUROC of the last epoch of a run."""
    return read_record(folder / "metrics.json")["last"][metrics.METRICS[task][0]]


def published_way(subject: Subject) -> tuple[dict[str, float], Cost]:
    """AUROC of the last epoch by task, and what all of it cost."""
    begin = time.perf_counter(), time.process_time()
    found = {task: list(published_run(subject, task))[-1] for task in subject.runs}
    end = time.perf_counter(), time.process_time()
    return found, Cost(end[0] - begin[0], end[1] - begin[1])


def published_run(subject: Subject, task: str) -> Iterator[float]:
    """AUROC after each epoch."""
    config, run = subject.config, subject.runs[task]
    clip = load_clip(config["backbone"]).requires_grad_(False)
    vision, text = split_towers(clip, config["backbone"]["model"])
    place, options = (run["dataset"], run["class"]), run["options"]
    files, words = class_files(config, *place), class_prompts(config, *place)
    drawn = class_support(config, *place, files, run["shots"], run["seed"])
    see = seen_with(vision, config["experiments"][run["experiment"]]["variant"])
    known = [see(sample) for sample in drawn]
    known = {n: torch.cat([k[n] for k in known]) for n in (*MEMORY, TRAINED_ON[task])}
    tokens = prompts.tokenize(words["text"], words["states"])
    width = clip.token_embedding.weight.shape[1]
    contexts = initial_contexts(options, width, run["seed"])
    factor = temperature(text, options)
    trained = clip, tokens, contexts, known[TRAINED_ON[task]], factor, options
    for learned in published.train(*trained):
        yield published.evaluate(see, files.test, known, learned, factor, task)


def seen_with(vision, variant: str | Mapping) -> Callable:
    """`published.see`, of images decoded and resized as here: what differs is when."""

    def read(path: Path, size: int) -> np.ndarray:
        return images.square(images.read_image(path), size)

    return partial(published.see, vision, variant=parse_variant(variant), read=read)


def cores_line(threads: int, jobs: pd.DataFrame) -> Line:
    """The most cores that a job used on the mean."""
    cores, limit = jobs["mean_cores"].max(), CORES[threads]
    promise = f"a job with `threads: {threads}` uses at most {limit} cores"
    return Line(promise, f"{cores:.2f}", bool(cores <= limit))


def at_once_line(subject: Subject) -> Line:
    """How many trainings fit on the cores of a server, by the threads they ask for."""
    plan = snakemake(subject, 2, "--cores", f"{SERVER}", "--dry-run", "--forceall")
    threads = re.findall(r"rule train_\w+:\n(?: .*\n)*? +threads: (\d+)", plan)
    jobs = min(SERVER // int(number) for number in threads)
    return Line(f"{AT_ONCE} jobs at once on {SERVER} cores", f"{jobs}", jobs == AT_ONCE)


def schedule_line(subject: Subject) -> Line:
    """The epochs whose AUROC is in the history."""
    found, expected = [], []
    for task, run in subject.runs.items():
        history = pd.read_csv(run_folder(subject, task) / "history.csv")
        known = history[metrics.METRICS[task][0]].notna()
        found.append(history["epoch"][known].tolist())
        epochs, every = (run["options"][name] for name in ("epochs", "eval_every"))
        expected.append([*range(every, epochs, every), epochs])
    promise = f"evaluated after epochs {', '.join(map(str, expected[0]))} alone"
    return Line(promise, ", ".join(map(str, found[0])), found == expected)


def epoch_line(subject: Subject, jobs: pd.DataFrame) -> Line:
    """Seconds of a training, evaluations and start-up included, by its epochs."""
    seconds = jobs["seconds"][jobs.index.str.startswith("train_")].max()
    epochs = max(run["options"]["epochs"] for run in subject.runs.values())
    found = f"{seconds / epochs:.2f} s, of {seconds:.0f} s for {epochs}"
    promise = f"an epoch takes less than {EPOCH_SECONDS} s"
    return Line(promise, found, bool(seconds / epochs < EPOCH_SECONDS))


def long_line(subject: Subject) -> Line:
    """A hundred epochs by hand, from image files, with large maps."""
    task = list(subject.runs)[-1]
    out = subject.folder / f"by_hand/{task}_{LONG_EPOCHS}_epochs"
    options = {"epochs": LONG_EPOCHS, "resolution": OTHER_RESOLUTION}
    start = time.perf_counter()
    by_hand(subject, task, out, **options)
    seconds = time.perf_counter() - start
    trained = read_record(out / "metrics.json")["settings"]["options"]
    kept = seconds < LONG_SECONDS and options.items() <= trained.items()
    promise = (
        f"{LONG_EPOCHS} epochs at {OTHER_RESOLUTION} px take less than {LONG_SECONDS} s"
    )
    return Line(promise, f"{seconds:.0f} s", kept)


def by_hand(subject: Subject, task: str, out: Path, **options: int) -> None:
    """One training by hand."""
    run = subject.runs[task]
    given = {name: run[name] for name in ("experiment", "dataset", "class")}
    given |= {"shots": run["shots"], "seed": run["seed"], **options}
    given |= {"config": written(subject, 2), "out": out}
    words = [f"--{name}={value}" for name, value in given.items()]
    said([sys.executable, "-m", "promptad.cli", "train", task, *words])


def auroc_line(subject: Subject, task: str, other: float) -> Line:
    """AUROC of the last epoch here and there."""
    ours = last(run_folder(subject, task), task)
    promise = f"{task}: AUROC within {PERCENT} % of the published way's"
    return Line(
        promise, f"{ours:.2f}, published {other:.2f}", abs(ours - other) < PERCENT
    )


def cost_lines(ours: Cost, other: Cost) -> list[Line]:
    """Time and CPU time of both ways, all tasks together."""
    faster, saved = other.seconds / ours.seconds, 100 * (1 - ours.cpu / other.cpu)
    times = f"{ours.seconds:.0f} s, published {other.seconds:.0f} s"
    cpu = f"{ours.cpu:.0f} s of CPU, published {other.cpu:.0f} s"
    return [
        Line("faster", f"{faster:.1f} times: {times}", faster > 1),
        Line("saves CPU time", f"{saved:.0f} %: {cpu}", saved > 0),
    ]


def nothing_kept_line(subject: Subject) -> Line:
    """Pictures, and arrays as large as an image, among the files of the runs."""
    size = image_size(subject.config["backbone"])
    folders = [run_folder(subject, task) for task in subject.runs]
    pictures = [path for folder in folders for path in folder.rglob("*.png")]
    arrays = [a for f in folders for a in np.load(f / "scores.npz").values()]
    large = [array for array in arrays if array.ndim > 3 or size in array.shape[1:]]
    found = f"{len(pictures)} pictures, {len(large)} arrays of images"
    return Line("no test images are kept without `vis`", found, not pictures + large)


def maps_line(subject: Subject) -> Line:
    """Maps made at once against those enlarged, then smoothed, by PyTorch and SciPy."""
    grids = np.load(run_folder(subject, "seg") / "scores.npz")["last"]
    once = maps.full_maps(grids, published.RESOLUTION)
    twice = [published.smoothed(published.enlarged(torch.from_numpy(g))) for g in grids]
    error = float(np.abs(once - twice).max() / np.abs(twice).max())
    promise = "maps made at once are those enlarged, then smoothed"
    return Line(promise, f"{error:.0e} of the largest value apart", error < 1e-5)


def cache_line(subject: Subject) -> Line:
    """Whether a second call finds the test set cached, and all made."""
    cached = list(subject.folder.glob("threads_2/cache/*/*/test_px*.npz"))
    idle = "Nothing to be done" in snakemake(subject, 2, "--cores", "2")
    found = f"{len(cached)} cached test set, {'nothing' if idle else 'something'} to do"
    return Line("a second call makes nothing", found, idle and len(cached) == 1)


def by_hand_line(subject: Subject) -> Line:
    """Whether a training by hand gives the pipeline's numbers."""
    task = next(iter(subject.runs))
    out = subject.folder / f"by_hand/{task}"
    by_hand(subject, task, out)
    folders = out, run_folder(subject, task)
    results = [read_record(folder / "metrics.json") for folder in folders]
    values = [last(folder, task) for folder in folders]
    found = f"{values[0]:.4f}, and {values[1]:.4f} of the pipeline"
    kept = all(results[0][s] == results[1][s] for s in metrics.SELECTIONS)
    return Line("a training by hand gives the same numbers", found, kept)


def write_checklist(subject: Subject) -> None:
    """Verify and write checklist.md; UserError where a promise is not kept."""
    lines = verify(subject)
    path = subject.folder / "checklist.md"
    page = checklist(subject, lines)
    write_text(path, page)
    print(page)
    broken = sum(not line.kept for line in lines)
    if broken:
        raise UserError(f"{path}: promises not kept here: {broken}")
