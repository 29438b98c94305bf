"""Tables of the metrics of all runs."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from fsad.artifacts.files import atomic, write_text
from fsad.artifacts.names import MEAN
from fsad.artifacts.paths import Run
from fsad.artifacts.stages import check_record
from fsad.evaluation.metrics import METRICS, SELECTIONS, read_metrics
from fsad.reports import formats, pages
from fsad.reports.comparison import compare
from fsad.reports.literature import read_literature, same_setting
from fsad.reports.pages import FUSED, KEYS

RUN = ["experiment", "dataset", "class", "task", "shots", "seed"]
COLUMNS = [*RUN, "selection", "metric"]
NAN = float("nan")


def write_tables(
    folder: str | Path,
    runs: Mapping[str | Path, Mapping],
    order: Mapping,
    literature: str | Path,
    options: Mapping,
    *,
    failed: Sequence[Run] = (),
    logs: Sequence[str] = (),
) -> None:
    """Write the metrics of all runs, and tables of them to read, into `folder`.

    metrics.csv and .parquet; components, DATASET_TASK and, with several experiments,
    comparison, as .csv, .md, .tex and .html. runs: see `read_runs`. order: names of the
    `experiments`, and of the `classes` of each data set, in the order to show.
    literature: see `read_literature`. options: `decimals` and `bold`. failed, logs:
    runs that failed, and files with the reasons. Where a seed failed, the other seeds
    of its class and number of shots are in no mean either.
    """
    folder, runs = Path(folder), read_runs(runs)
    about, lost = pages.notes(runs, failed, logs), {run[:-1] for run in failed}
    complete = [run for run in runs if _key(run)[:-1] not in lost]
    table, components = long_table(complete), components_table(complete)
    _write_metrics(folder / "metrics", _with_methods(long_table(runs), runs))
    page = pages.components_page(components, about, options)
    _write_table(folder / "components", components, page)
    if len(order["experiments"]) > 1:
        pairs = compare(table, order["experiments"])
        page = pages.comparison_page(pairs, about, options)
        _write_table(folder / "comparison", pairs, page)
    published = read_literature(literature)
    for key, rows in _with_failed(table, failed).groupby(["dataset", "task"]):
        own = [run for run in failed if (run.dataset, run.task) == key]
        own = {(run.experiment, run.class_name, run.shots) for run in own}
        classes = order["classes"][key[0]]
        wide = wide_table(rows, classes, order["experiments"])
        others = same_setting(published, key[0], classes)
        page = pages.wide_page(", ".join(key), wide, about, others, options, failed=own)
        _write_table(folder / "_".join(key), _flat(wide, own), page)


def _key(run: Mapping) -> tuple:
    return tuple(run["settings"][name] for name in RUN)


def _with_failed(table: pd.DataFrame, failed: Sequence[Run]) -> pd.DataFrame:
    """The long table with rows of failed runs, which have no values."""
    rows = [
        (*run, *row, NAN)
        for run in failed
        for row in product(SELECTIONS, METRICS[run.task])
    ]
    return pd.concat(
        [table, pd.DataFrame(rows, columns=table.columns)] if rows else [table]
    )


def _with_methods(table: pd.DataFrame, runs: Iterable[Mapping]) -> pd.DataFrame:
    """The long table with method and backbone of each experiment beside it."""
    settings = {run["settings"]["experiment"]: run["settings"] for run in runs}
    for place, name in enumerate(("method", "backbone"), start=1):
        known = {experiment: found[name] for experiment, found in settings.items()}
        table.insert(place, name, table["experiment"].map(known))
    return table


def _write_metrics(stem: Path, table: pd.DataFrame) -> None:
    write_text(f"{stem}.csv", _csv(table))
    with atomic(f"{stem}.parquet") as temporary:
        table.to_parquet(temporary, index=False)


def _write_table(stem: Path, table: pd.DataFrame, page: formats.Page) -> None:
    write_text(f"{stem}.csv", _csv(table))
    write_text(f"{stem}.md", formats.to_markdown(page))
    write_text(f"{stem}.tex", formats.to_latex(page))
    write_text(f"{stem}.html", formats.to_html(page))


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")


def read_runs(runs: Mapping[str | Path, Mapping]) -> list[dict]:
    """Read each metrics.json, in order.

    runs: keys of the record that each must have, by path. Raises UserError if a file is
    damaged or of another record.
    """
    contents = [read_metrics(path) for path in runs]
    for (path, record), content in zip(runs.items(), contents, strict=True):
        check_record(path, content["settings"], record)
    return contents


def long_table(runs: Iterable[Mapping]) -> pd.DataFrame:
    """One row per run, selection and metric: COLUMNS and `value`, in percent."""
    rows = [
        (*_key(run), selection, metric, run[selection][metric])
        for run in runs
        for selection, metric in product(SELECTIONS, METRICS[run["settings"]["task"]])
    ]
    return _in_order(rows, ["value"])


def _in_order(rows: Sequence[tuple], values: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=[*COLUMNS, *values])
    return table.sort_values(COLUMNS, kind="stable", ignore_index=True)


def components_table(runs: Iterable[Mapping]) -> pd.DataFrame:
    """AUROC of fused scores and of their components, a row per run and selection.

    Runs of methods without components are left out.
    """
    runs = [run for run in runs if run["last"]["components"]]
    found = {name for run in runs for name in run["last"]["components"]}
    rows, names = [], [*sorted(found), FUSED]
    for run, selection in product(runs, SELECTIONS):
        auroc = METRICS[run["settings"]["task"]][0]
        own = run[selection]["components"] | {FUSED: run[selection][auroc]}
        values = [own.get(name, NAN) for name in names]
        rows.append((*_key(run), selection, auroc, *values))
    return _in_order(rows, names)


def wide_table(
    table: pd.DataFrame, classes: Iterable[str], experiments: Sequence[str]
) -> pd.DataFrame:
    """Mean and standard deviation over seeds of one data set and task.

    Rows are (experiment, selection, metric, class), with a row `mean` over the classes
    that have runs; columns are (k, mean | std). Classes without runs stay empty. The
    row `mean` averages classes first and seeds last, so its deviation is that of the
    table's mean.
    """
    average = table.groupby([*KEYS, "shots", "seed"], sort=False)["value"].mean()
    average = average.reset_index().assign(**{"class": MEAN})
    values = pd.concat([table, average]).groupby([*KEYS, "class", "shots"], sort=False)
    spread = values["value"].agg(["mean", "std"]).unstack("shots").swaplevel(axis=1)
    ran = set(table[KEYS].itertuples(index=False, name=None))
    metrics = [metric for names in METRICS.values() for metric in names]
    rows = [
        (experiment, selection, metric, name)
        for experiment, metric, selection in product(experiments, metrics, SELECTIONS)
        if (experiment, selection, metric) in ran
        for name in (*classes, MEAN)
    ]
    order = pd.MultiIndex.from_tuples(rows, names=[*KEYS, "class"])
    return spread.reindex(order).sort_index(axis=1)


def _flat(wide: pd.DataFrame, lost: Iterable[tuple]) -> pd.DataFrame:
    """The wide table with columns `k1`, `k1_std`, ...; empty without runs."""
    flat = wide.round(4)
    flat.columns = [f"k{k}" if n == "mean" else f"k{k}_std" for k, n in wide.columns]
    flat = flat.reset_index()
    for experiment, name, shots in lost:
        rows = flat["experiment"].eq(experiment) & flat["class"].eq(name)
        flat[f"k{shots}"] = flat[f"k{shots}"].astype(object).mask(rows, formats.FAILED)
    return flat
