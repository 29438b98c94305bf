"""Pages of the report with figures, each one HTML file with its pictures in it."""

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fsad.artifacts.files import read_npz, read_text, write_text
from fsad.artifacts.sources import Source
from fsad.evaluation.metrics import METRICS, SELECTIONS
from fsad.reports import figures
from fsad.reports.formats import html_page, picture
from fsad.reports.methods import MAIN_METRICS, ranking
from fsad.reports.pages import warnings
from fsad.reports.tables import long_table

UNDEFINED = "<p>No metric is defined: no class has both kinds of images.</p>"
RANKED = "Ranking: mean over the classes, with its 95 % bootstrap interval over them."


def write_overview(
    path: str | Path,
    runs: Sequence[Mapping],
    experiments: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Write means over the classes, and values of each class, of one data set.

    runs: see `tables.read_runs`. experiments and classes: in the order to show.
    """
    table = _defined(runs)
    shown = [metric for metric in MAIN_METRICS if metric in set(table["metric"])]
    ran = [name for name in experiments if name in set(table["experiment"])]
    body = [UNDEFINED]
    if shown:
        means = figures.curves(table, shown, ran)
        body = [picture(means, "means against shots"), '<div class="row">']
        for metric in shown:
            drawn = figures.heat_map(table[table["metric"] == metric], ran, classes)
            body.append(_titled(f"{figures.LABELS[metric]} of each class", drawn))
        body.append("</div>")
    title = f"{runs[0]['settings']['dataset']}: overview"
    about = "After the last epoch. Bars: standard deviation over seeds."
    write_text(path, html_page(title, [about, *warnings(runs)], body))


def _defined(runs: Sequence[Mapping]) -> pd.DataFrame:
    """The long table of values after the last epoch, without undefined ones."""
    table = long_table(runs).dropna(subset="value")
    return table[table["selection"] == "last"]


def write_methods(
    path: str | Path,
    runs: Sequence[Mapping],
    experiments: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Write classes x experiments, and the ranking, with the most shots that ran.

    runs, experiments, classes: see `write_overview`.
    """
    table = _defined(runs)
    shots = table["shots"].max()
    table = table[table["shots"] == shots]
    ran = [name for name in experiments if name in set(table["experiment"])]
    found = {
        metric: table[table["metric"] == metric]
        for metric in MAIN_METRICS
        if metric in set(table["metric"])
    }
    body = [UNDEFINED]
    if found:
        ranked = figures.rankings({name: ranking(x) for name, x in found.items()})
        body = [_titled("Ranking", ranked), '<div class="row">']
        for metric in [name for name in found if name.endswith("auroc")]:
            drawn = figures.method_map(found[metric], ran, classes)
            body.append(_titled(f"{figures.LABELS[metric]} of each class", drawn))
        body.append("</div>")
    title = f"{runs[0]['settings']['dataset']}: methods"
    about = [f"{shots}-shot, after the last epoch. {RANKED}"] if found else []
    write_text(path, html_page(title, [*about, *warnings(runs)], body))


def _titled(title: str, svg: str) -> str:
    return f"<section><h2>{title}</h2>{picture(svg, title)}</section>"


def write_history(path: str | Path, runs: Mapping[str, Mapping]) -> None:
    """Write AUROC over the epochs of one experiment and data set.

    runs: see `tables.read_runs`, by history.csv of each.
    """
    found = defaultdict(list)
    for history, run in runs.items():
        auroc = METRICS[run["settings"]["task"]][0]
        table = io.StringIO(read_text(history, run["history"]))
        values = pd.read_csv(table, index_col="epoch")[auroc].dropna()
        epochs = [run[selection]["epoch"] for selection in SELECTIONS]
        key = [run["settings"][name] for name in ("class", "shots", "seed")]
        found[auroc].append(figures.History(*key, values, *epochs))
    body = [
        _titled(label, figures.history(found[metric], label))
        for metric, label in figures.LABELS.items()
        if metric in found
    ]
    about = (
        "A line for each seed. ● last: after the last epoch; ★ best: picked on the "
        "test set."
    )
    write_text(path, html_page(_title(run["settings"]), [about], body))


def _title(settings: Mapping) -> str:
    return f"{settings['dataset']}: {settings['experiment']}"


def write_scores(
    path: str | Path, scores: Iterable[tuple[Source, float | None]]
) -> None:
    """Write histograms of image scores after the last epoch, for one experiment.

    scores: scores.npz of its cls runs on one data set, with the settings and the
    threshold of each; seeds are put together.
    """
    found = defaultdict(lambda: defaultdict(list))
    for (file, names), threshold in scores:
        run = read_npz(file, "labels", "last_scores", record=names)
        scored = figures.Scores(run["labels"], run["last_scores"], [threshold])
        found[names["shots"]][names["class"]].append(scored)
    body = []
    for shots, classes in sorted(found.items()):
        joined = {name: _joined(seeds) for name, seeds in classes.items()}
        body.append(_titled(f"{shots}-shot", figures.histograms(joined)))
    about = (
        "Image scores after the last epoch; a higher score is more anomalous. An image "
        "above the threshold of its run (dashed, one a seed) is called anomalous."
    )
    write_text(path, html_page(_title(names), [about], body))


def _joined(seeds: Sequence[figures.Scores]) -> figures.Scores:
    """Scores of all seeds; those of zero shots have no threshold."""
    labels, values, thresholds = map(np.concatenate, zip(*seeds, strict=True))
    return figures.Scores(labels, values, [x for x in thresholds if x is not None])
