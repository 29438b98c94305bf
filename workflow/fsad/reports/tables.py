"""Tables of the metrics of all runs."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fsad.artifacts.files import atomic, write_text
from fsad.artifacts.names import MEAN
from fsad.artifacts.paths import Run
from fsad.artifacts.stages import check_record
from fsad.evaluation.metrics import METRICS, SELECTIONS, read_metrics
from fsad.reports import formats, pages
from fsad.reports.comparison import compare
from fsad.reports.kinds import kinds_table
from fsad.reports.literature import read_literature, same_setting
from fsad.reports.method_pages import Published, cite_note, methods_page
from fsad.reports.methods import methods_table
from fsad.reports.pages import FUSED, KEYS
from fsad.reports.references import bibliography, cited, read_references

RUN = ["experiment", "dataset", "class", "task", "shots", "seed"]
COLUMNS = [*RUN, "selection", "metric"]
NAN = float("nan")


class Shared(NamedTuple):
    """What the tables share: names in order, rows of `literature`, notes, options."""

    folder: Path
    order: Mapping
    published: pd.DataFrame
    notes: Sequence[str]
    options: Mapping


def write_tables(
    folder: str | Path,
    runs: Mapping[str | Path, Mapping],
    order: Mapping,
    literature: str | Path,
    options: Mapping,
    *,
    references: str | Path,
    failed: Sequence[Run] = (),
    logs: Sequence[str] = (),
) -> None:
    """Write the metrics of all runs, and tables of them to read, into `folder`.

    metrics.csv and .parquet; kinds.csv; references.bib; components, DATASET_TASK and,
    with several experiments, comparison and DATASET_methods, as .csv, .md, .tex and
    .html. runs: see `read_runs`. order: names of the `experiments`, and of the
    `classes` of each data set, in the order to show. literature: see `read_literature`.
    options: `decimals` and `bold`. references: see `read_references`. failed, logs:
    runs that failed, and files with the reasons. Where a seed failed, the other seeds
    of its class and number of shots are in no mean either.
    """
    places = [Path(path).parent for path in runs]
    found = dict(zip(places, read_runs(runs), strict=True))
    runs, lost = [*found.values()], {run[:-1] for run in failed}
    complete = [run for run in runs if _key(run)[:-1] not in lost]
    about, published = pages.notes(runs, failed, logs), read_literature(literature)
    shared = Shared(Path(folder), order, published, about, options)
    _write_values(shared.folder, found)
    keys = _write_references(shared.folder, runs, read_references(references))
    _write_components(complete, shared)
    table = long_table(complete)
    planned = _with_failed(table, failed)
    for key, rows in planned.groupby(["dataset", "task"]):
        own = [run for run in failed if (run.dataset, run.task) == key]
        _write_task(key, rows, own, shared)
    if len(order["experiments"]) > 1:
        _write_comparison(table, shared)
        for dataset, rows in planned.groupby("dataset"):
            _write_methods(dataset, rows, runs, keys, shared)


def _write_values(folder: Path, runs: Mapping[Path, Mapping]) -> None:
    """Write the metrics of all runs, which are by their folders, and of kinds."""
    content = [*runs.values()]
    _write_metrics(folder / "metrics", _with_methods(long_table(content), content))
    write_text(folder / "kinds.csv", _csv(kinds_table(runs)))


def _write_references(
    folder: Path, runs: Sequence[Mapping], references: Mapping[str, str]
) -> list[str]:
    """Write the references of what runs used; their keys."""
    keys = cited(runs, references)
    write_text(folder / "references.bib", bibliography(keys, references))
    return keys


def _write_components(runs: Sequence[Mapping], shared: Shared) -> None:
    table = components_table(runs)
    page = pages.components_page(table, shared.notes, shared.options)
    _write_table(shared.folder / "components", table, page)


def _write_comparison(table: pd.DataFrame, shared: Shared) -> None:
    pairs = compare(table, shared.order["experiments"])
    page = pages.comparison_page(pairs, shared.notes, shared.options)
    _write_table(shared.folder / "comparison", pairs, page)


def _write_task(
    key: tuple[str, str], rows: pd.DataFrame, failed: Sequence[Run], shared: Shared
) -> None:
    """Write the table of a data set and task, some of whose runs failed."""
    lost = {(run.experiment, run.class_name, run.shots) for run in failed}
    wide, others = _of_dataset(key[0], rows, shared)
    page = pages.wide_page(
        ", ".join(key), wide, shared.notes, others, shared.options, failed=lost
    )
    _write_table(shared.folder / "_".join(key), _flat(wide, lost), page)


def _write_methods(
    dataset: str,
    rows: pd.DataFrame,
    runs: Sequence[Mapping],
    keys: Sequence[str],
    shared: Shared,
) -> None:
    """Write the table of the methods of a data set. keys: of references to cite."""
    wide, others = _of_dataset(dataset, rows, shared)
    table = _with_methods(methods_table(rows, wide), runs)
    published = Published(others, len(shared.order["classes"][dataset]))
    notes = [*shared.notes, *cite_note(keys)]
    page = methods_page(dataset, table, published, notes, shared.options)
    _write_table(shared.folder / f"{dataset}_methods", table.round(4), page)


def _of_dataset(
    dataset: str, rows: pd.DataFrame, shared: Shared
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The wide table of the rows of a data set, and published rows of its setting."""
    classes = shared.order["classes"][dataset]
    wide = wide_table(rows, classes, shared.order["experiments"])
    return wide, same_setting(shared.published, dataset, classes)


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
