"""Pages of the report on run times and settings."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from fsad.artifacts.files import write_text
from fsad.reports import figures, formats
from fsad.reports.formats import Table, cells, number

SHORT = 8  # digits of a digest that are shown


def write_times(path: str | Path, benchmarks: str | Path, threads: int) -> None:
    """Write wall time, cores and memory of the jobs recorded in a folder."""
    jobs = _jobs(Path(benchmarks))
    body = ["<p>No job has been recorded.</p>"]
    if len(jobs):
        drawn = figures.run_times(jobs)
        body = [formats.picture(drawn, "seconds and cores of each job")]
        body += ["<h2>By rule</h2>", formats.html_table(_time_table(jobs))]
    about = [
        f"Threads of each job: {threads}. Cores are CPU time over wall time as "
        "Snakemake samples it, every half second at first and every half minute "
        "later; work after the last sample is not counted. The option `monitor` "
        "counts all of it."
    ]
    write_text(path, formats.html_page("Run times", about, body))


def _time_table(jobs: pd.DataFrame) -> Table:
    head = ["rule", "jobs", "median s", "longest s", "total s", "cores ≥", "peak MB"]
    rows = []
    for rule, group in jobs.groupby("rule"):
        values = [*group["s"].agg(["median", "max", "sum"]), group["cores"].mean()]
        tenths = [number(value, decimals=1) for value in values]
        peak = number(group["max_rss"].max(), decimals=0)
        rows.append(cells([rule, len(group), *tenths, peak]))
    return Table("", head, rows)


def _jobs(folder: Path) -> pd.DataFrame:
    """Recorded jobs: `rule`, wall seconds `s`, mean `cores`, megabytes `max_rss`.

    nan for jobs too short to be measured.
    """
    found = [pd.DataFrame(columns=["rule", "s", "cores", "max_rss"])]
    for file in sorted(folder.rglob("*.tsv")):
        table = pd.read_csv(file, sep="\t", na_values="-")
        rule = file.relative_to(folder).parts[0].removesuffix(".tsv")
        found.append(table.assign(rule=rule, cores=table["cpu_time"] / table["s"]))
    return pd.concat(found[1:] or found)


def write_settings(
    path: str | Path, runs: Iterable[Mapping], doubts: Sequence[str]
) -> None:
    """Write every setting of the runs with all its values, the versions, and names and
    digests of the support images.

    runs: see `tables.read_runs`. doubts: reasons to doubt inputs, shown first.
    """
    values, sections, support = defaultdict(dict), defaultdict(list), {}
    for run in runs:
        settings = dict(run["settings"])
        draw = tuple(settings[name] for name in ("dataset", "class", "seed"))
        support[draw] = max(settings.pop("support"), support.get(draw, []), key=len)
        for name, value in _flat(settings):
            values[name][value] = None
    for name, found in values.items():
        section, _, rest = name.rpartition(".")
        sections[section or "runs"].append(cells([rest, ", ".join(found)]))
    tables = [Table(s, ["setting", "values"], r, left=2) for s, r in sections.items()]
    if doubts:
        rows = [cells([doubt]) for doubt in doubts]
        tables.insert(0, Table("Inputs in doubt", ["reason"], rows, left=1))
    body = [*formats.html_tables(tables), formats.collapsed(_support_table(support))]
    write_text(path, formats.html_page("Settings and versions", [], body))


def _support_table(support: Mapping[tuple, Sequence]) -> Table:
    """Names and short digests of the support images of each data set, class and seed.

    support: names and digests of the largest draw.
    """
    rows = []
    for draw, images in support.items():
        shown = ", ".join(f"{name} ({digest[:SHORT]})" for name, digest in images)
        rows.append(cells([*draw, shown or formats.ABSENT]))
    note = f"Those of k shots are the first k; with {SHORT} digits of the SHA-256."
    head = ["data set", "class", "seed", "images"]
    return Table("Support images", head, rows, left=len(head), note=note)


def _flat(settings: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values of nested settings, as text."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = json.dumps(value, ensure_ascii=False)
            yield prefix + name, value if isinstance(value, str) else text
