"""Pages of the report on run times and settings."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from fsad.artifacts.files import write_text
from fsad.reports import figures
from fsad.reports.formats import (
    Page,
    Table,
    cells,
    html_page,
    html_table,
    number,
    svg_picture,
    to_html,
)


def write_times(path: str | Path, benchmarks: str | Path, threads: int) -> None:
    """Write wall time, cores and memory of the jobs recorded in a folder."""
    jobs = pd.DataFrame(_jobs(Path(benchmarks)), columns=["rule", "s", "cores", "mb"])
    body = ["<p>No job has been recorded.</p>"]
    if len(jobs):
        body = [svg_picture(figures.run_times(jobs), "seconds and cores of each job")]
        body += ["<h2>By rule</h2>", html_table(_time_table(jobs))]
    about = [
        f"Threads of each job: {threads}. Cores are CPU time over wall time as "
        "Snakemake samples it, every half second at first and every half minute "
        "later; work after the last sample is not counted. The option `monitor` "
        "counts all of it."
    ]
    write_text(path, html_page("Run times", about, body))


def _time_table(jobs: pd.DataFrame) -> Table:
    head = ["rule", "jobs", "median s", "longest s", "total s", "cores ≥", "peak MB"]
    rows = []
    for rule, group in jobs.groupby("rule"):
        seconds, cores = group["s"], group["cores"].mean()
        values = seconds.median(), seconds.max(), seconds.sum(), cores
        tenths = [number(value, decimals=1) for value in values]
        peak = number(group["mb"].max(), decimals=0)
        rows.append(cells([rule, len(group), *tenths, peak]))
    return Table("", head, rows)


def _jobs(folder: Path) -> Iterator[tuple]:
    """Rule, wall seconds, mean cores and peak megabytes of each recorded job."""
    for file in sorted(folder.rglob("*.tsv")):
        rule = file.relative_to(folder).parts[0].removesuffix(".tsv")
        with open(file, newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines, delimiter="\t"):
                seconds, cpu = _measured(row["s"]), _measured(row["cpu_time"])
                yield rule, seconds, cpu / seconds, _measured(row["max_rss"])


def _measured(text: str) -> float:
    """A number of a benchmark file, nan for jobs too short to be measured."""
    return float("nan") if text in ("NA", "-") else float(text)


def write_settings(path: str | Path, runs: Iterable[Mapping]) -> None:
    """Write every setting of the runs with all its values, and the versions.

    runs: see `tables.read_runs`.
    """
    values = defaultdict(dict)
    for run in runs:
        for name, value in _flat(run["settings"]):
            values[name][value] = None
    sections = defaultdict(list)
    for name, found in values.items():
        section, _, rest = name.rpartition(".")
        sections[section].append(cells([rest, ", ".join(found)]))
    tables = [
        Table(section or "runs", ["setting", "values"], rows, left=2)
        for section, rows in sections.items()
    ]
    write_text(path, to_html(Page("Settings and versions", [], tables)))


def _flat(settings: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values of nested settings, as text."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield (
                f"{prefix}{name}",
                value if isinstance(value, str) else json.dumps(value),
            )
