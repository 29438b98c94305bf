"""From the metrics of single runs to tables."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from promptad.comparison import compare
from promptad.config import run_options
from promptad.formats import FAILED, Page, to_html, to_latex, to_markdown
from promptad.literature import read_literature, same_setting
from promptad.metrics import METRICS, SELECTIONS
from promptad.pages import (
    KEYS,
    MEAN,
    PARTS,
    comparison_page,
    notes,
    parts_page,
    wide_page,
)
from promptad.provenance import origin
from promptad.storage import atomic, check_origin, read_record, write_text

PLACE = "experiment", "dataset", "class", "shots", "seed", "task"
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
    classes: Mapping[str, list[str]],
    experiments: Sequence[str],
    literature: str | Path,
    options: Mapping,
    failed: Sequence[tuple] = (),
    logs: Sequence[str] = (),
) -> None:
    """Write all numbers, and the tables that people read, into `folder`.

    metrics.csv and .parquet; parts, DATASET_TASK of each and, of two experiments and
    more, comparison, as .csv, .md, .tex and .html. runs: the options planned for each
    metrics.json, see `planned_options`. classes: those expected of each data set.
    experiments: their names, in order. literature: see `read_literature`. options:
    `decimals` and `bold`. failed: the runs that did, as (experiment, dataset, class,
    task, shots, seed), and logs that tell why; with one seed of a class and number of
    shots missing, the others are in no mean either.
    """
    folder, runs = Path(folder), [_read_planned(*run) for run in runs.items()]
    about = notes(runs, failed, logs)
    _write_long(folder / "metrics", long_table(runs))
    whole = _whole(runs, failed)
    table, parts = long_table(whole), parts_table(whole)
    _write_table(folder / "parts", parts, parts_page(parts, about, options))
    if len(experiments) > 1:
        pairs = compare(table, experiments)
        page = comparison_page(pairs, about, options)
        _write_table(folder / "comparison", pairs, page)
    published = read_literature(literature)
    for (dataset, task), part in _with_failed(table, failed).groupby(
        ["dataset", "task"]
    ):
        lost = {(e, c, k) for e, d, c, t, k, _ in failed if (d, t) == (dataset, task)}
        wide = wide_table(part, classes[dataset], experiments)
        rows = same_setting(published, dataset, classes[dataset])
        page = wide_page(f"{dataset}, {task}", wide, about, rows, options, lost)
        _write_table(folder / f"{dataset}_{task}", _flat(wide, lost), page)


def _whole(runs: Iterable[dict], failed: Sequence[tuple]) -> list[dict]:
    """The runs of whose class and number of shots no seed failed."""
    lost = {run[:-1] for run in failed}
    return [r for r in runs if tuple(r["settings"][c] for c in COLUMNS[:5]) not in lost]


def _with_failed(table: pd.DataFrame, failed: Sequence[tuple]) -> pd.DataFrame:
    """The long table with rows, but no values, of the runs that failed."""
    rows = [
        (*run, selection, metric, float("nan"))
        for run in failed
        for selection in SELECTIONS
        for metric in METRICS[run[COLUMNS.index("task")]]
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


def planned_options(config: Mapping, path: str | Path) -> dict:
    """The `config.run_options` of the run whose metrics.json lies at a path."""
    experiment, dataset, class_name, _, seed, task = Path(path).parts[-7:-1]
    return run_options(config, task, experiment, dataset, class_name, int(seed[1:]))


def _read_planned(path: str | Path, options: Mapping) -> dict:
    """`read_run`; UserError too if it was trained with other options."""
    run = read_run(path)
    check_origin(path, run["settings"]["options"], options)
    return run


def read_run(path: str | Path) -> dict:
    """The content of a run's metrics.json.

    Raises UserError if it is damaged, is not of the run that its folders name, or was
    made by other code than the present.
    """
    run = read_record(path)
    place = dict(zip(PLACE, Path(path).parts[-7:-1], strict=True))
    settings = run["settings"]
    told = settings | {"shots": f"k{settings['shots']}", "seed": f"s{settings['seed']}"}
    check_origin(path, told, origin("train.py", **place))
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


def parts_table(runs: Iterable[Mapping]) -> pd.DataFrame:
    """AUROC of textual, visual and fused scores, a row per run and selection."""
    keys = COLUMNS[: COLUMNS.index("metric") + 1]
    rows = [row for run in runs for row in _part_rows(run)]
    table = pd.DataFrame(rows, columns=[*keys, *PARTS])
    return table.sort_values(list(keys), kind="stable", ignore_index=True)


def _part_rows(run: Mapping) -> list[tuple]:
    settings = run["settings"]
    keys = [settings[name] for name in COLUMNS[:6]]
    auroc = METRICS[settings["task"]][0]
    scores = {s: run[s]["parts"] | {"fused": run[s][auroc]} for s in SELECTIONS}
    return [
        (*keys, selection, auroc, *(values[part] for part in PARTS))
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
