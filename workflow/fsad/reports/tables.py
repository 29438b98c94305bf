"""Tables of the metrics of all runs."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from fsad.artifacts.files import atomic, read_record, write_text
from fsad.artifacts.paths import Run
from fsad.artifacts.stages import check_record
from fsad.evaluation.metrics import METRICS, SELECTIONS
from fsad.reports.comparison import compare
from fsad.reports.formats import FAILED, Page, to_html, to_latex, to_markdown
from fsad.reports.literature import read_literature, same_setting
from fsad.reports.pages import (
    COMPONENTS,
    KEYS,
    MEAN,
    comparison_page,
    components_page,
    notes,
    wide_page,
)

COLUMNS = (
    "experiment",
    "dataset",
    "class",
    "task",
    "shots",
    "seed",
    "selection",
    "metric",
    "value",
)
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
    about, complete = notes(runs, failed, logs), _complete(runs, failed)
    table, components = long_table(complete), components_table(complete)
    _write_long(folder / "metrics", long_table(runs))
    page = components_page(components, about, options)
    _write_table(folder / "components", components, page)
    if len(order["experiments"]) > 1:
        pairs = compare(table, order["experiments"])
        page = comparison_page(pairs, about, options)
        _write_table(folder / "comparison", pairs, page)
    published = read_literature(literature)
    for key, rows in _with_failed(table, failed).groupby(["dataset", "task"]):
        lost, classes = _lost(failed, *key), order["classes"][key[0]]
        wide = wide_table(rows, classes, order["experiments"])
        others = same_setting(published, key[0], classes)
        page = wide_page(", ".join(key), wide, about, others, options, failed=lost)
        _write_table(folder / "_".join(key), _flat(wide, lost), page)


def _lost(failed: Sequence[Run], dataset: str, task: str) -> set[tuple]:
    """(experiment, class, shots) of the failed runs of a data set and task."""
    return {
        (run.experiment, run.class_name, run.shots)
        for run in failed
        if (run.dataset, run.task) == (dataset, task)
    }


def _complete(runs: Iterable[dict], failed: Sequence[Run]) -> list[dict]:
    """Runs whose class and number of shots have no failed seed."""
    lost = {run[:-1] for run in failed}
    return [r for r in runs if tuple(r["settings"][c] for c in COLUMNS[:5]) not in lost]


def _with_failed(table: pd.DataFrame, failed: Sequence[Run]) -> pd.DataFrame:
    """The long table with rows of failed runs, which have no values."""
    rows = [
        (*run, selection, metric, NAN)
        for run in failed
        for selection in SELECTIONS
        for metric in METRICS[run.task]
    ]
    return pd.concat([table, pd.DataFrame(rows, columns=COLUMNS)] if rows else [table])


def _write_long(stem: Path, table: pd.DataFrame) -> None:
    write_text(f"{stem}.csv", _csv(table))
    with atomic(f"{stem}.parquet") as temporary:
        table.to_parquet(temporary, index=False)


def _write_table(stem: Path, table: pd.DataFrame, page: Page) -> None:
    write_text(f"{stem}.csv", _csv(table))
    write_text(f"{stem}.md", to_markdown(page))
    write_text(f"{stem}.tex", to_latex(page))
    write_text(f"{stem}.html", to_html(page))


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")


def read_runs(runs: Mapping[str | Path, Mapping]) -> list[dict]:
    """Read each metrics.json, in order.

    runs: keys of the record that each must have, by path. Raises UserError if a file is
    damaged or of another record.
    """
    return [_read_run(path, record) for path, record in runs.items()]


def _read_run(path: str | Path, record: Mapping) -> dict:
    run = read_record(path)
    check_record(path, run["settings"], record)
    return run


def long_table(runs: Iterable[Mapping]) -> pd.DataFrame:
    """One row per run, selection and metric, with COLUMNS, in percent."""
    rows = [row for run in runs for row in _rows(run)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(list(COLUMNS[:-1]), kind="stable", ignore_index=True)


def _rows(run: Mapping) -> list[tuple]:
    settings = run["settings"]
    keys = [settings[name] for name in COLUMNS[:6]]
    return [
        (*keys, selection, metric, run[selection][metric])
        for selection in SELECTIONS
        for metric in METRICS[settings["task"]]
    ]


def components_table(runs: Iterable[Mapping]) -> pd.DataFrame:
    """AUROC of fused scores and of their components, a row per run and selection."""
    keys = COLUMNS[: COLUMNS.index("metric") + 1]
    rows = [row for run in runs for row in _component_rows(run)]
    table = pd.DataFrame(rows, columns=[*keys, *COMPONENTS])
    return table.sort_values(list(keys), kind="stable", ignore_index=True)


def _component_rows(run: Mapping) -> list[tuple]:
    settings = run["settings"]
    keys = [settings[name] for name in COLUMNS[:6]]
    auroc = METRICS[settings["task"]][0]
    scores = {s: run[s]["components"] | {"fused": run[s][auroc]} for s in SELECTIONS}
    return [
        (*keys, selection, auroc, *(values.get(name, NAN) for name in COMPONENTS))
        for selection, values in scores.items()
    ]


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
    order = _rows_in_order(table, classes, experiments)
    return spread.reindex(order).sort_index(axis=1)


def _rows_in_order(
    table: pd.DataFrame, classes: Iterable[str], experiments: Sequence[str]
) -> pd.MultiIndex:
    metrics = [m for names in METRICS.values() for m in names]
    ran = set(table[KEYS].itertuples(index=False, name=None))
    keys = [
        key
        for experiment in experiments
        for metric in metrics
        for selection in SELECTIONS
        if (key := (experiment, selection, metric)) in ran
    ]
    rows = [(*key, name) for key in keys for name in (*classes, MEAN)]
    return pd.MultiIndex.from_tuples(rows, names=[*KEYS, "class"])


def _flat(wide: pd.DataFrame, lost: Iterable[tuple]) -> pd.DataFrame:
    """The wide table with columns `k1`, `k1_std`, ...; empty without runs."""
    flat = wide.round(4)
    flat.columns = [
        f"k{k}" if name == "mean" else f"k{k}_std" for k, name in wide.columns
    ]
    flat = flat.reset_index()
    for experiment, name, shots in lost:
        rows = flat["experiment"].eq(experiment) & flat["class"].eq(name)
        flat[f"k{shots}"] = flat[f"k{shots}"].astype(object).mask(rows, FAILED)
    return flat
