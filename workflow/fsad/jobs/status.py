"""Status of the planned runs, and the time and disk that the rest needs."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fsad.artifacts.paths import Run
from fsad.jobs.job import DONE

STATES = ("done", "stale", "missing", "unfinished", "failed")
HEAD = ("data set", "experiment", "runs", *STATES, "spent", "left")
ERROR = re.compile(r"^error: .*|^Traceback ", re.MULTILINE)
TAIL_BYTES = 20_000
SHOWN_FAILURES = 20
ABOUT = (
    "done: up to date. stale: made, but something has changed since. unfinished: "
    "started but not ended, either running or killed. spent: time of finished training "
    "jobs. left: time of the remaining ones, one after the other, at the mean time of "
    "the finished runs of the experiment, or else of the method; N jobs at once take "
    "about 1/N of it."
)


class Job(NamedTuple):
    """A job that a call of Snakemake would run."""

    rule: str
    outputs: Sequence[str]
    log: str


class Planned(NamedTuple):
    """The planned work.

    runs: key of each run by the path of its metrics.json. methods: name of the method
    by experiment. features: size in bytes by path.
    """

    runs: Mapping[str, Run]
    methods: Mapping[str, str]
    features: Mapping[str, int]


def plain_jobs(records: Iterable[Mapping]) -> list[Job]:
    """Jobs from records with `rule`, `outputs` and `log`, a list of paths."""
    return [Job(r["rule"], r["outputs"], "".join(r["log"][:1])) for r in records]


def state(metrics: str, job: Job | None) -> str:
    """State of a run, one of STATES.

    metrics: path of its metrics.json. job: the planned job that makes it, if any.
    """
    if job is None:
        return "done"
    return "stale" if Path(metrics).exists() else _state_of_log(job.log)


def _state_of_log(log: str) -> str:
    text = _tail(log)
    if not text or text.rstrip().endswith(DONE):
        return "missing"
    return "failed" if ERROR.search(text) else "unfinished"


def _tail(log: str) -> str:
    path = Path(log)
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")


def report(planned: Planned, jobs: Sequence[Job], benchmarks: str | Path) -> str:
    """Status report as text: states of runs, remaining time, failures.

    jobs: those that a call of Snakemake would run. benchmarks: folder with the times
    of finished jobs.
    """
    makes = {path: job for job in jobs for path in job.outputs}
    times = _run_times(Path(benchmarks), planned.runs)
    rows = _rows(planned, makes, times)
    counts = ([row[column] for row in rows] for column in range(2, len(HEAD)))
    total = ["all", "", *map(_total, counts)]
    table = [HEAD, *([*map(_text, row)] for row in [*rows, total])]
    others = [job for job in jobs if planned.runs.keys().isdisjoint(job.outputs)]
    size = sum(s for path, s in planned.features.items() if path in makes)
    return "\n".join(
        [
            *_aligned(table),
            "",
            ABOUT,
            "",
            *_by_method(planned, rows),
            f"Features to make: {size / 1e9:.2f} GB.",
            f"Other jobs to run (images, features, tables): {len(others)}",
            *_failures(jobs),
        ]
    )


def _rows(planned: Planned, makes: Mapping, times: Mapping) -> list[list]:
    """One row for each data set and experiment."""
    found = defaultdict(list)
    for path, run in planned.runs.items():
        found[run.dataset, run.experiment].append(state(path, makes.get(path)))
    means = _mean_times(times, planned.methods)
    return [
        [
            *(dataset, experiment, len(states)),
            *(states.count(name) for name in STATES),
            sum(times.get((dataset, experiment), [0.0])),
            _left(len(states) - states.count("done"), means.get(experiment)),
        ]
        for (dataset, experiment), states in found.items()
    ]


def _left(runs: int, seconds: float | None) -> float | None:
    """Time of the remaining runs, None if it is unknown."""
    if runs == 0:
        return 0.0
    return None if seconds is None else runs * seconds


def _run_times(benchmarks: Path, runs: Mapping[str, Run]) -> dict[tuple, list[float]]:
    """Seconds of finished runs by data set and experiment.

    The time of a job of all runs of a class is divided equally among them.
    """
    counts, times = defaultdict(int), defaultdict(list)
    for run in runs.values():
        counts[run.dataset, run.experiment, run.class_name] += 1
    for rule in ("train", "train_class"):
        for path in sorted((benchmarks / rule).rglob("*.tsv")):
            names = path.relative_to(benchmarks / rule).with_suffix("").parts
            experiment, dataset, class_name = names[:3]
            number = counts[dataset, experiment, class_name]
            shares = number if rule == "train_class" and number else 1
            times[dataset, experiment] += [_seconds(path) / shares] * shares
    return times


def _seconds(path: Path) -> float:
    with open(path, newline="", encoding="utf-8") as file:
        return sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))


def _mean_times(times: Mapping, methods: Mapping[str, str]) -> dict[str, float]:
    """Mean seconds of a run by experiment, of its method if it has no finished run."""
    own, shared = defaultdict(list), defaultdict(list)
    for (_, experiment), seconds in times.items():
        own[experiment] += seconds
        shared[methods.get(experiment)] += seconds
    found = {name: own[name] or shared[method] for name, method in methods.items()}
    return {name: sum(s) / len(s) for name, s in found.items() if s}


def _by_method(planned: Planned, rows: Sequence[Sequence]) -> list[str]:
    """Remaining time by method."""
    left = defaultdict(list)
    for _, experiment, *_, seconds in rows:
        left[planned.methods[experiment]].append(seconds)
    sums = {method: _total(values) for method, values in left.items()}
    return [f"Left of {method}: {_text(seconds)}" for method, seconds in sums.items()]


def _total(column: Sequence) -> int | float | None:
    """Sum of a column; None if an entry is unknown."""
    return None if None in column else sum(column)


def _text(value: str | int | float | None) -> str:
    if value is None:
        return "unknown"
    if not isinstance(value, float):
        return str(value)
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, the first two columns aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]


def _failures(jobs: Sequence[Job]) -> list[str]:
    """A line for each failed job: its rule, its log and the error."""
    failed = [job for job in jobs if _state_of_log(job.log) == "failed"]
    lines = [
        f"failed: {job.rule}, {job.log}: {_tail(job.log).rstrip().splitlines()[-1]}"
        for job in failed[:SHOWN_FAILURES]
    ]
    more = len(failed) - SHOWN_FAILURES
    return [*lines, f"and {more} more failed jobs"] if more > 0 else lines
