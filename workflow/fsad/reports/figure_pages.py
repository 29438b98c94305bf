"""Pages of the report with figures, each one HTML file with its pictures in it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fsad.artifacts.files import read_npz, read_settings, write_text
from fsad.evaluation.metrics import METRICS, SELECTIONS
from fsad.reports import figures
from fsad.reports.formats import html_page, svg_picture
from fsad.reports.pages import warnings
from fsad.reports.tables import long_table

OVERVIEW = "image_auroc", "pixel_auroc", "aupro"


def write_overview(
    path: str | Path,
    runs: Sequence[Mapping],
    experiments: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Write means over the classes, and values of each class, of one data set.

    runs: see `tables.read_runs`. experiments and classes: in the order to show.
    """
    table = long_table(runs).dropna(subset="value")
    table = table[table["selection"] == "last"]
    title = f"{runs[0]['settings']['dataset']}: overview"
    about = "After the last epoch. Bars: standard deviation over seeds."
    body = _overview(table, experiments, classes)
    write_text(path, html_page(title, [about, *warnings(runs)], body))


def _overview(
    table: pd.DataFrame, experiments: Sequence[str], classes: Sequence[str]
) -> list[str]:
    """Figures of all metrics that are defined for a class."""
    shown = [metric for metric in OVERVIEW if metric in set(table["metric"])]
    if not shown:
        return ["<p>No metric is defined: no class has both kinds of images.</p>"]
    ran = [name for name in experiments if name in set(table["experiment"])]
    maps = (
        _titled(
            f"{figures.LABELS[metric]} of each class",
            figures.heat_map(table[table["metric"] == metric], ran, classes),
        )
        for metric in shown
    )
    means = svg_picture(figures.curves(table, shown, ran), "means against shots")
    return [means, '<div class="row">', *maps, "</div>"]


def _titled(title: str, svg: str) -> str:
    return f"<section><h2>{title}</h2>{svg_picture(svg, title)}</section>"


def write_history(
    path: str | Path, runs: Sequence[Mapping], histories: Iterable[str | Path]
) -> None:
    """Write AUROC over the epochs of one experiment and data set.

    runs: see `tables.read_runs`. histories: history.csv of each.
    """
    found = defaultdict(list)
    for run, history in zip(runs, histories, strict=True):
        auroc = METRICS[run["settings"]["task"]][0]
        found[auroc].append(_history(run, history, auroc))
    body = [
        _titled(label, figures.history(found[metric], label))
        for metric, label in figures.LABELS.items()
        if metric in found
    ]
    about = (
        "A line for each seed. ● last: after the last epoch; ★ best: picked on the "
        "test set."
    )
    write_text(path, html_page(_title(runs[0]["settings"]), [about], body))


def _history(run: Mapping, path: str | Path, metric: str) -> figures.History:
    table = pd.read_csv(path, index_col="epoch")
    epochs = [run[selection]["epoch"] for selection in SELECTIONS]
    identity = [run["settings"][name] for name in ("class", "shots", "seed")]
    return figures.History(*identity, table[metric].dropna(), *epochs)


def _title(settings: Mapping) -> str:
    return f"{settings['dataset']}: {settings['experiment']}"


def write_scores(path: str | Path, scores: Iterable[str | Path]) -> None:
    """Write histograms of image scores after the last epoch, for one experiment.

    scores: scores.npz of its cls runs on one data set; seeds are put together.
    """
    found = defaultdict(lambda: defaultdict(list))
    for file in scores:
        names, run = read_settings(file), read_npz(file, "labels", "last_scores")
        labelled = run["labels"], run["last_scores"]
        found[names["shots"]][names["class"]].append(labelled)
    body = [
        _titled(f"{shots}-shot", figures.histograms(_joined(classes)))
        for shots, classes in sorted(found.items())
    ]
    about = "Image scores after the last epoch; a higher score is more anomalous."
    write_text(path, html_page(_title(names), [about], body))


def _joined(classes: Mapping[str, list]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        name: tuple(map(np.concatenate, zip(*runs, strict=True)))
        for name, runs in classes.items()
    }
