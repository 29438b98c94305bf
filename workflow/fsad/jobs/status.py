"""Status of the planned runs, and the time and disk that the rest needs."""

import csv
import re
from collections import Counter, defaultdict
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
    """State of the run of a metrics.json; job: the planned one making it, if any."""
    if job is None:
        return "done"
    return "stale" if Path(metrics).exists() else _state_of_log(_tail(job.log))


def _state_of_log(text: str) -> str:
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
    rows = _rows(planned, makes, _run_times(Path(benchmarks), planned.runs))
    counts = ([row[column] for row in rows] for column in range(2, len(HEAD)))
    total, left = ["all", "", *map(_total, counts)], defaultdict(list)
    for _, experiment, *_, seconds in rows:
        left[planned.methods[experiment]].append(seconds)
    others = [job for job in jobs if planned.runs.keys().isdisjoint(job.outputs)]
    size = sum(s for path, s in planned.features.items() if path in makes)
    lines = [
        *aligned([HEAD, *([*map(_text, row)] for row in [*rows, total])]),
        *("", ABOUT, ""),
        *(f"Left of {method}: {_text(_total(s))}" for method, s in left.items()),
        f"Features to make: {size / 1e9:.2f} GB.",
        f"Other jobs to run (images, features, tables): {len(others)}",
        *_failures(jobs),
    ]
    return "\n".join(lines)


def _rows(planned: Planned, makes: Mapping, times: Mapping) -> list[list]:
    """One row for each data set and experiment; `left` is None if it is unknown."""
    states, own, of_method = defaultdict(list), defaultdict(list), defaultdict(list)
    for path, run in planned.runs.items():
        states[run.dataset, run.experiment].append(state(path, makes.get(path)))
    for (_, experiment), seconds in times.items():
        own[experiment] += seconds
        of_method[planned.methods.get(experiment)] += seconds
    rows = []
    for (dataset, experiment), found in states.items():
        counts = [found.count(name) for name in STATES]
        known = own[experiment] or of_method[planned.methods[experiment]]
        runs, left = sum(counts[1:]), None
        if known or not runs:
            left = runs * (sum(known) / len(known) if known else 0.0)
        spent = sum(times.get((dataset, experiment), [0.0]))
        rows.append([dataset, experiment, len(found), *counts, spent, left])
    return rows


def _run_times(benchmarks: Path, runs: Mapping[str, Run]) -> dict[tuple, list[float]]:
    """Seconds of finished runs by data set and experiment.

    The time of a job of all runs of a class is divided equally among them.
    """
    counts = Counter((r.experiment, r.dataset, r.class_name) for r in runs.values())
    times = defaultdict(list)
    for rule in ("train", "train_class"):
        for path in sorted((benchmarks / rule).rglob("*.tsv")):
            names = path.relative_to(benchmarks / rule).with_suffix("").parts[:3]
            shares = max(1, counts[names]) if rule == "train_class" else 1
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file, delimiter="\t"))
            seconds = sum(float(row["s"]) for row in rows)
            times[names[1], names[0]] += [seconds / shares] * shares
    return times


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


def aligned(table: Sequence[Sequence[str]], left: int = 2) -> list[str]:
    """Lines of a table, the first columns aligned left, the others right."""
    columns = []
    for index, column in enumerate(zip(*table, strict=True)):
        width, align = max(map(len, column)), "<" if index < left else ">"
        columns.append([f"{text:{align}{width}}" for text in column])
    return ["  ".join(row) for row in zip(*columns, strict=True)]


def _failures(jobs: Sequence[Job]) -> list[str]:
    """A line for each failed job: its rule, its log and the error."""
    tails = [(job, _tail(job.log)) for job in jobs]
    lines = [
        f"failed: {job.rule}, {job.log}: {text.rstrip().splitlines()[-1]}"
        for job, text in tails
        if _state_of_log(text) == "failed"
    ]
    more = len(lines) - SHOWN_FAILURES
    rest = [f"and {more} more failed jobs"] if more > 0 else []
    return lines[:SHOWN_FAILURES] + rest
