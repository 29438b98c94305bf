"""From the metrics of single runs to tables."""

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


def write_tables(
    folder: str | Path,
    runs: Mapping[str | Path, Mapping],
    order: Mapping,
    literature: str | Path,
    options: Mapping,
    failed: Sequence[Run] = (),
    logs: Sequence[str] = (),
) -> None:
    """Write all numbers, and the tables that people read, into `folder`.

    metrics.csv and .parquet; components, DATASET_TASK of each and, of two experiments
    and more, comparison, as .csv, .md, .tex and .html. runs: what the record of each
    metrics.json must hold. order: names of the `experiments`, and of the `classes` of each
    data set, as they are to be shown. literature: see `read_literature`. options: `decimals` and `bold`.
    failed: runs that failed, and logs that say why; with one seed of a class and number
    of shots missing, the others are in no mean either.
    """
    folder, runs = Path(folder), read_runs(runs)
    experiments, classes = order["experiments"], order["classes"]
    about = notes(runs, failed, logs)
    _write_long(folder / "metrics", long_table(runs))
    complete = _complete(runs, failed)
    table, components = long_table(complete), components_table(complete)
    page = components_page(components, about, options)
    _write_table(folder / "components", components, page)
    if len(experiments) > 1:
        pairs = compare(table, experiments)
        page = comparison_page(pairs, about, options)
        _write_table(folder / "comparison", pairs, page)
    published = read_literature(literature)
    for (dataset, task), part in _with_failed(table, failed).groupby(
        ["dataset", "task"]
    ):
        lost = {
            (run.experiment, run.class_name, run.shots)
            for run in failed
            if (run.dataset, run.task) == (dataset, task)
        }
        wide = wide_table(part, classes[dataset], experiments)
        rows = same_setting(published, dataset, classes[dataset])
        page = wide_page(f"{dataset}, {task}", wide, about, rows, options, lost)
        _write_table(folder / f"{dataset}_{task}", _flat(wide, lost), page)


def _complete(runs: Iterable[dict], failed: Sequence[Run]) -> list[dict]:
    """The runs of whose class and number of shots no seed failed."""
    lost = {run[:-1] for run in failed}
    return [r for r in runs if tuple(r["settings"][c] for c in COLUMNS[:5]) not in lost]


def _with_failed(table: pd.DataFrame, failed: Sequence[Run]) -> pd.DataFrame:
    """The long table with rows, but no values, of the runs that failed."""
    rows = [
        (*run, selection, metric, float("nan"))
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
    """The content of each metrics.json, in order.

    runs: what the record of each must hold. Raises UserError if one is damaged, is not
    of the run that its folders name, or of another record.
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
    """AUROC of the components of scores and of both fused, a row per run and selection."""
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
        (*keys, selection, auroc, *(values[name] for name in COMPONENTS))
        for selection, values in scores.items()
    ]


def wide_table(
    table: pd.DataFrame, classes: Iterable[str], experiments: Sequence[str]
) -> pd.DataFrame:
    """Mean and standard deviation over seeds of one data set and task.

    Rows are (experiment, selection, metric, class) with a `mean` row over the
    classes that ran; columns are (k, mean | std). `classes` that did not run
    stay empty. The mean row averages classes first and seeds last, so its
    deviation is that of the whole table.
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
    """The wide table with columns `k1`, `k1_std`, ...; empty where nothing ran."""
    flat = wide.round(4)
    flat.columns = [
        f"k{k}" if part == "mean" else f"k{k}_std" for k, part in wide.columns
    ]
    flat = flat.reset_index()
    for experiment, name, shots in lost:
        rows = flat["experiment"].eq(experiment) & flat["class"].eq(name)
        flat[f"k{shots}"] = flat[f"k{shots}"].astype(object).mask(rows, FAILED)
    return flat
