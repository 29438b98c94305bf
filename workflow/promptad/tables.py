"""From the metrics of single runs to tables."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from promptad.backbone_config import RANDOM
from promptad.metrics import METRICS, SELECTIONS
from promptad.storage import damaged, write_text

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
KEYS = ["experiment", "selection", "metric"]
PARTS = ("textual", "visual", "fused")
MEAN = "mean"
ABSENT = "–"


def write_tables(
    folder: str | Path, runs: Iterable[str | Path], classes: Mapping[str, list[str]]
) -> None:
    """Write metrics.csv, parts.csv, parts.md, and DATASET_TASK.csv and .md of each.

    runs: metrics.json files. classes: those expected of each data set.
    """
    folder, runs = Path(folder), [read_run(path) for path in runs]
    table = long_table(runs)
    write_text(folder / "metrics.csv", table.to_csv(index=False, lineterminator="\n"))
    parts = parts_table(runs)
    write_text(folder / "parts.csv", parts.to_csv(index=False, lineterminator="\n"))
    write_text(folder / "parts.md", parts_markdown(parts, notes(runs)))
    for (dataset, task), part in table.groupby(["dataset", "task"]):
        wide = wide_table(part, classes[dataset])
        title = f"{dataset}, {task}"
        write_text(folder / f"{dataset}_{task}.csv", to_csv(wide))
        write_text(
            folder / f"{dataset}_{task}.md", to_markdown(wide, title, notes(runs))
        )


def read_run(path: str | Path) -> dict:
    """The content of a run's metrics.json."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


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


def parts_markdown(parts: pd.DataFrame, notes: Iterable[str]) -> str:
    """Means of `parts_table` over classes, then seeds, after the last epoch."""
    last = parts[parts["selection"] == "last"]
    keys = ["experiment", "dataset", "metric", "shots"]
    means = last.groupby([*keys, "seed"])[[*PARTS]].mean().groupby(keys).mean()
    rows = [
        [*map(str, key), *(_cell(value, float("nan")) for value in row)]
        for key, row in means.iterrows()
    ]
    table = markdown_table([*keys, *PARTS], rows, left=len(keys))
    about = "Mean AUROC of the text alone, the patch memory alone, and both, `last`."
    return "\n\n".join(["# Parts", about, *notes, table]) + "\n"


def markdown_table(
    head: Iterable[str], rows: Iterable[Iterable[str]], left: int = 1
) -> str:
    """Markdown of a table, its first `left` columns to the left, numbers right."""
    head = list(head)
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])


def wide_table(table: pd.DataFrame, classes: Iterable[str]) -> pd.DataFrame:
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
    return spread.reindex(_rows_in_order(table, classes)).sort_index(axis=1)


def _rows_in_order(table: pd.DataFrame, classes: Iterable[str]) -> pd.MultiIndex:
    metrics = [m for names in METRICS.values() for m in names]
    keys = table[KEYS].drop_duplicates()
    order = keys["metric"].map(metrics.index), keys["selection"].map(SELECTIONS.index)
    keys = keys.assign(m=order[0], s=order[1]).sort_values(["experiment", "m", "s"])
    rows = [
        (*key, name)
        for key in keys[KEYS].itertuples(index=False)
        for name in (*classes, MEAN)
    ]
    return pd.MultiIndex.from_tuples(rows, names=[*KEYS, "class"])


def to_csv(wide: pd.DataFrame) -> str:
    """The wide table with columns `k1`, `k1_std`, ...; empty where nothing ran."""
    flat = wide.copy()
    flat.columns = [
        f"k{k}" if part == "mean" else f"k{k}_std" for k, part in wide.columns
    ]
    return flat.reset_index().to_csv(
        index=False, float_format="%.4f", lineterminator="\n"
    )


def to_markdown(wide: pd.DataFrame, title: str, notes: Iterable[str]) -> str:
    """One section per experiment, metric and selection; `mean ± std` in percent."""
    parts = [f"# {title}", *notes]
    for key, rows in wide.groupby(level=KEYS, sort=False):
        experiment, selection, metric = key
        parts += [
            f"## {experiment}: {metric}, {selection}",
            _section(rows.droplevel(KEYS)),
        ]
    return "\n\n".join(parts) + "\n"


def _section(rows: pd.DataFrame) -> str:
    shots = list(dict.fromkeys(k for k, _ in rows.columns))
    cells = [
        [name, *(_cell(row[k, "mean"], row[k, "std"]) for k in shots)]
        for name, row in rows.iterrows()
    ]
    return markdown_table(["class", *(f"{k}-shot" for k in shots)], cells)


def _cell(mean: float, std: float) -> str:
    if pd.isna(mean):
        return ABSENT
    return f"{mean:.2f}" if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def notes(runs: Iterable[Mapping]) -> list[str]:
    """What a reader must know: the protocol, and whether weights were random."""
    lines = [
        "Percent; mean ± standard deviation over seeds. `last`: after the last epoch. "
        "`best`: the evaluated epoch with the highest AUROC on the test set. "
        f"{ABSENT}: did not run, and not in the mean."
    ]
    backbones = {run["settings"]["backbone"]["pretrained"] for run in runs}
    if RANDOM in backbones:
        lines.append(
            "**Warning: the backbone has RANDOM weights; use no number of this.**"
        )
    return lines
