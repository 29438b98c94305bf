"""What is done of the planned runs, what is left, and the time of both."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from promptad.jobs import DONE

STATES = ("done", "stale", "missing", "unfinished", "failed")
HEAD = ("data set", "experiment", "runs", *STATES, "spent", "left")
# A job in the output of a dry run, further to the right in a group of jobs.
JOB = re.compile(r"^ *(?:local)?rule (\w+):\n((?: +\w+: .*\n)*)", re.MULTILINE)
ERROR = re.compile(r"^error: .*|^Traceback ", re.MULTILINE)
TAIL_BYTES = 20_000
SHOWN_FAILURES = 20
ABOUT = (
    "done: up to date. stale: made, but something has changed since. unfinished: begun "
    "and not ended, running now or killed. spent: time of the training jobs that are "
    "done. left: what those to come will take, one after the other, if they take as "
    "long as the finished ones of their rule; N at once take about 1/N of it."
)


class Job(NamedTuple):
    """A job that a dry run plans."""

    rule: str
    outputs: list[str]
    log: Path


class Place(NamedTuple):
    """Where training time is spent."""

    dataset: str
    experiment: str


def planned_jobs(dry_run: str, results: str) -> list[Job]:
    """The jobs in the output of `snakemake --dry-run`.

    results: the folder of all outputs, by which a list of their names is split.
    """
    return [_job(*block, results) for block in JOB.findall(dry_run)]


def _job(rule: str, lines: str, results: str) -> Job:
    fields = dict(re.findall(r"^ +(\w+): (.*)$", lines, re.MULTILINE))
    outputs = re.split(f", (?={re.escape(results)}/)", fields.get("output", ""))
    return Job(rule, outputs, Path(fields.get("log", "")))


def state(metrics: str, job: Job | None) -> str:
    """One of STATES, of the run whose metrics.json is named, and the job to make it."""
    if job is None:
        return "done"
    return "stale" if Path(metrics).exists() else _state_of_log(job.log)


def _state_of_log(log: Path) -> str:
    text = _tail(log)
    if not text or text.rstrip().endswith(DONE):
        return "missing"
    return "failed" if ERROR.search(text) else "unfinished"


def _tail(log: Path) -> str:
    if not log.is_file():
        return ""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")


def seconds_by_job(benchmarks: Path) -> dict[tuple[str, ...], float]:
    """Wall time of each finished job, by the parts of its benchmark file's path."""
    return {
        path.relative_to(benchmarks).with_suffix("").parts: _seconds(path)
        for path in benchmarks.rglob("*.tsv")
    }


def _seconds(path: Path) -> float:
    with open(path, newline="", encoding="utf-8") as file:
        return sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))


def report(
    runs: Mapping[str, Sequence], jobs: Sequence[Job], benchmarks: str | Path
) -> str:
    """A table of the runs by data set and experiment, and what failed, as text.

    runs: (experiment, dataset, class, task, shots, seed) by metrics.json. jobs: what a
    dry run plans. benchmarks: the folder with RULE/EXPERIMENT/DATASET/... of each
    training.
    """
    seconds = seconds_by_job(Path(benchmarks))
    rows = _rows(runs, jobs, seconds)
    total = [
        "all",
        "",
        *(_total(column) for column in list(zip(*rows, strict=True))[2:]),
    ]
    table = [HEAD, *([*map(_text, row)] for row in [*rows, total])]
    others = [job for job in jobs if not set(job.outputs) & set(runs)]
    counts = f"Other jobs to run (images, features, tables): {len(others)}"
    return "\n".join([*_aligned(table), "", ABOUT, "", counts, *_failures(jobs)])


def _rows(runs: Mapping, jobs: Sequence[Job], seconds: Mapping) -> list[list]:
    makes = {path: job for job in jobs for path in job.outputs}
    found, left = defaultdict(list), defaultdict(dict)
    for path, (experiment, dataset, *_) in runs.items():
        place, job = Place(dataset, experiment), makes.get(path)
        found[place].append(state(path, job))
        if job is not None:
            left[place][job.log] = job  # one job may make several runs
    means = _means(seconds)
    spent = _spent(seconds)
    return [
        [
            *place,
            len(states),
            *(states.count(name) for name in STATES),
            spent[place],
            _sum(means.get(job.rule) for job in left[place].values()),
        ]
        for place, states in found.items()
    ]


def _means(seconds: Mapping[tuple[str, ...], float]) -> dict[str, float]:
    """Mean time of the finished jobs of each rule."""
    times = defaultdict(list)
    for (rule, *_), time in seconds.items():
        times[rule].append(time)
    return {rule: sum(values) / len(values) for rule, values in times.items()}


def _spent(seconds: Mapping[tuple[str, ...], float]) -> dict[Place, float]:
    spent = defaultdict(float)
    for (rule, *where), time in seconds.items():
        if rule.startswith("train"):
            experiment, dataset, *_ = where
            spent[Place(dataset, experiment)] += time
    return spent


def _sum(times: Iterable[float | None]) -> float | None:
    """None if a time is unknown."""
    times = list(times)
    return None if None in times else float(sum(times))


def _total(column: Sequence) -> int | float | None:
    return None if None in column else sum(column)


def _text(value: str | int | float | None) -> str:
    if value is None:
        return "unknown"
    if not isinstance(value, float):
        return str(value)
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, its first two columns to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]


def _failures(jobs: Sequence[Job]) -> list[str]:
    """A line for each job that failed: its rule, its log, and the error."""
    failed = [job for job in jobs if _state_of_log(job.log) == "failed"]
    lines = [
        f"failed: {job.rule}, {job.log}: {_tail(job.log).rstrip().splitlines()[-1]}"
        for job in failed[:SHOWN_FAILURES]
    ]
    more = len(failed) - SHOWN_FAILURES
    return [*lines, f"and {more} more failed jobs"] if more > 0 else lines
