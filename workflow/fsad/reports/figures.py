"""Figures of the report, as SVG text: the same bytes for the same numbers.

Colours: one for each experiment, deeper blue for more shots, grey for good and red for
defective images. Text stays text, which the fonts of the reader show.
"""

import io
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

INK, GOOD, DEFECT = "#1f2933", "#8a99a8", "#c8402f"
# Okabe and Ito's, which colour-blind readers can distinguish, blue first.
EXPERIMENTS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#7f5f3f", "#555555"),
)
# Comes with Matplotlib, so that the layout is the same on every machine.
FONT = "DejaVu Sans"
# For readers without it, and for the letters that it does not have.
FALLBACKS = (
    "Verdana, 'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', 'SimHei', "
    "sans-serif"
)
STYLE = {
    "font.family": FONT,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e9edf1",
    "text.color": INK,
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "fsad",
    "text.parse_math": False,
}
LABELS = {
    "image_auroc": "image AUROC",
    "image_aupr": "image AUPR",
    "image_f1max": "image best F1",
    "pixel_auroc": "pixel AUROC",
    "pixel_aupr": "pixel AUPR",
    "pixel_f1max": "pixel best F1",
    "aupro": "AUPRO",
}
COLUMNS = 5  # panels side by side
THRESHOLD = {"color": INK, "linewidth": 1, "linestyle": "--"}


class History(NamedTuple):
    """AUROC of a run by evaluated epoch, and the epochs of `last` and `best`."""

    class_name: str
    shots: int
    seed: int
    auroc: pd.Series
    last: int
    best: int


def curves(
    table: pd.DataFrame, metrics: Sequence[str], experiments: Sequence[str]
) -> str:
    """Plot means over the classes against shots, a panel for each metric.

    table: rows of `tables.long_table` of one data set and selection. Bars are the
    standard deviation over seeds.
    """
    shots = sorted(table["shots"].unique())
    shades = dict(zip(experiments, itertools.cycle(EXPERIMENTS), strict=False))

    def draw(axes: Axes, metric: str) -> None:
        rows = table[table["metric"] == metric]
        for index, (name, shade) in enumerate(shades.items()):
            means = rows[rows["experiment"] == name].groupby(["shots", "seed"])["value"]
            spread = means.mean().groupby("shots").agg(["mean", "std"]).reindex(shots)
            places = np.arange(len(shots)) + 0.03 * (index - (len(experiments) - 1) / 2)
            bars = spread["std"] if spread["std"].notna().any() else None
            look = {"color": shade, "linewidth": 1.6, "capsize": 3}
            axes.errorbar(places, spread["mean"], bars, fmt="o-", ms=5, **look)
        axes.set_xticks(range(len(shots)), [str(k) for k in shots])
        axes.set_xlim(-0.35, len(shots) - 0.65)
        axes.set(title=LABELS[metric], xlabel="shots")

    label, size = "%, mean over classes", (3.6, 3.0)
    return _panels(metrics, draw, _lines(shades), ylabel=label, size=size)


def heat_map(
    table: pd.DataFrame, experiments: Sequence[str], classes: Sequence[str]
) -> str:
    """Draw means over seeds by class and number of shots, a block per experiment.

    table: rows of `tables.long_table` of one data set, metric and selection.
    """
    keys = ["class", "experiment", "shots"]
    means = table.groupby(keys)["value"].mean().unstack(["experiment", "shots"])
    shots = sorted(table["shots"].unique())
    columns = pd.MultiIndex.from_product([experiments, shots])
    means = means.reindex(index=classes, columns=columns)
    shown = {name: means[name] for name in experiments}
    return _heat_blocks(shown, "shots", 0.9)


def method_map(
    table: pd.DataFrame, experiments: Sequence[str], classes: Sequence[str]
) -> str:
    """Draw means over seeds by class and experiment.

    table: rows of `tables.long_table` of one data set, metric, selection and number of
    shots.
    """
    means = table.groupby(["class", "experiment"])["value"].mean().unstack()
    shown = means.reindex(index=classes, columns=experiments)
    letters = max(map(len, experiments))
    return _heat_blocks({"": shown}, "", 0.5 + 0.08 * letters, rotation=90)


def _heat_blocks(
    blocks: Mapping[str, pd.DataFrame], xlabel: str, room: float, rotation: float = 0
) -> str:
    """Blocks of one scale side by side, by title; rows of all are the same classes.

    room: inches above and below a block. rotation: of the names of columns, in degrees.
    """
    values = np.concatenate([np.ravel(block) for block in blocks.values()])
    low, high = np.nanmin(values), np.nanmax(values)
    classes = next(iter(blocks.values())).index
    width = sum(len(block.columns) * 0.52 + 0.25 for block in blocks.values())
    with style.context(["default", STYLE, {"axes.grid": False}]):
        size = width + 1.4, len(classes) * 0.28 + room
        figure = Figure(size, layout="constrained")
        grid = figure.subplots(1, len(blocks), sharey=True, squeeze=False)[0]
        for axes, (title, block) in zip(grid, blocks.items(), strict=True):
            _heat_block(axes, block.to_numpy(), low, high)
            names = [str(name) for name in block.columns]
            axes.set_xticks(range(len(names)), names, rotation=rotation)
            axes.set(title=title, xlabel=xlabel)
        grid[0].set_yticks(range(len(classes)), classes)
        return _svg(figure)


def _heat_block(axes: Axes, values: np.ndarray, low: float, high: float) -> None:
    axes.imshow(values, cmap="Blues", vmin=low - 0.1, vmax=high + 0.1, aspect="auto")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "white" if value > low + 0.6 * (high - low) else INK
            look = {"ha": "center", "va": "center", "fontsize": 8, "color": ink}
            axes.text(column, row, f"{value:.1f}", **look)


def rankings(tables: Mapping[str, pd.DataFrame]) -> str:
    """Plot means over the classes with their intervals, a panel for each metric.

    tables: `methods.ranking` by metric.
    """

    def draw(axes: Axes, metric: str) -> None:
        table = tables[metric]
        errors = [table["mean"] - table["low"], table["high"] - table["mean"]]
        look = {"color": EXPERIMENTS[0], "ecolor": "#9aa5b1", "capsize": 3}
        axes.errorbar(table["mean"], range(len(table)), xerr=errors, fmt="o", **look)
        axes.set_yticks(range(len(table)), table.index)
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.set_title(LABELS[metric])

    rows = max(map(len, tables.values()))
    size = 4.2, 0.3 * rows + 0.8
    return _panels(list(tables), draw, [], xlabel="%, mean over classes", size=size)


def history(runs: Sequence[History], label: str) -> str:
    """Plot AUROC over epochs, a panel for each class, a line for each run.

    The panel of a class with one kind of image alone is empty.
    """
    classes = list(dict.fromkeys(run.class_name for run in runs))
    shots = sorted({run.shots for run in runs})
    blues = matplotlib.colormaps["Blues"](np.linspace(0.45, 0.95, len(shots)))
    shades = dict(zip(shots, map(matplotlib.colors.to_hex, blues), strict=True))
    edge = {"markeredgecolor": INK, "markeredgewidth": 0.6}

    def draw(axes: Axes, name: str) -> None:
        for run in (run for run in runs if run.class_name == name):
            look = {"color": shades[run.shots]}
            last, best = (run.auroc.reindex([epoch]) for epoch in (run.last, run.best))
            axes.plot(run.auroc.index, run.auroc, linewidth=1.2, **look)
            axes.plot(last.index, last, "o", markersize=4.5, **look)
            axes.plot(best.index, best, "*", markersize=9, **edge, **look)
        axes.set_title(name)
        axes.margins(x=0.06, y=0.15)
        axes.ticklabel_format(useOffset=False)

    handles = _lines({f"{k}-shot": shade for k, shade in shades.items()})
    handles += [_mark("last", "o", 5), _mark("best", "*", 9)]
    return _panels(classes, draw, handles, xlabel="epoch", ylabel=f"{label}, %")


class Scores(NamedTuple):
    """Labels [N] and scores [N] of the images of a class, and thresholds of runs."""

    labels: np.ndarray
    values: np.ndarray
    thresholds: Sequence[float]


def histograms(scores: Mapping[str, Scores]) -> str:
    """Plot image scores of good and defective test images, a panel for each class.

    scores: by class. A dashed line marks each threshold.
    """

    def draw(axes: Axes, name: str) -> None:
        labels, values, thresholds = scores[name]
        bins = np.histogram_bin_edges(values, 24)
        for label, shade in enumerate((GOOD, DEFECT)):
            look = {"color": shade, "alpha": 0.65, "linewidth": 0}
            axes.hist(values[labels == label], bins, **look)
        for threshold in thresholds:
            axes.axvline(threshold, **THRESHOLD)
        axes.set_title(name)
        axes.locator_params(axis="x", nbins=4)
        axes.locator_params(axis="y", nbins=4, integer=True)

    handles = [_mark("good", "s", 8, GOOD), _mark("defect", "s", 8, DEFECT)]
    handles += [Line2D([], [], label="threshold", **THRESHOLD)]
    return _panels(list(scores), draw, handles, xlabel="score", ylabel="images")


def run_times(jobs: pd.DataFrame) -> str:
    """Plot seconds and cores of every job, a row for each rule.

    jobs: columns `rule`, `s` and `cores`.
    """
    rules = list(jobs["rule"].unique())
    names = {"s": "wall seconds", "cores": "cores, at least"}

    def draw(axes: Axes, column: str) -> None:
        for row, name in enumerate(rules):
            values = jobs.loc[jobs["rule"] == name, column]
            spread = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else [0]
            look = {"color": EXPERIMENTS[0], "alpha": 0.45, "markeredgewidth": 0}
            axes.plot(values, row + np.asarray(spread), "o", markersize=4, **look)
            axes.plot([values.median()] * 2, [row - 0.35, row + 0.35], color=INK)
        axes.set_yticks(range(len(rules)), rules)
        axes.set_ylim(len(rules) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set(xlabel=names[column])

    size = (4.2, 0.45 * len(rules) + 0.9)
    return _panels(list(names), draw, [], size=size)


def _panels(
    names: Sequence[str],
    draw: Callable[[Axes, str], None],
    handles: Sequence[Line2D],
    *,
    xlabel: str = "",
    ylabel: str = "",
    size: tuple[float, float] = (2.25, 1.75),
) -> str:
    """A grid of panels, each filled by `draw`, with one legend above them."""
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    with style.context(["default", STYLE]):
        shape = columns * size[0] + 0.3, rows * size[1] + 0.45
        figure = Figure(shape, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, name in zip(grid, names, strict=False):
            draw(axes, name)
        for axes in grid[len(names) :]:
            axes.set_visible(False)
        figure.supylabel(ylabel, fontsize=9)
        figure.supxlabel(xlabel, fontsize=9)
        if handles:
            place = {"loc": "outside upper left", "ncols": min(len(handles), 7)}
            figure.legend(handles=handles, **place)
        return _svg(figure)


def _lines(shades: Mapping[str, str]) -> list[Line2D]:
    return [Line2D([], [], lw=2, color=c, label=name) for name, c in shades.items()]


def _mark(name: str, marker: str, size: float, shade: str = "#52606d") -> Line2D:
    look = {"marker": marker, "markersize": size, "color": shade}
    return Line2D([], [], linestyle="none", label=name, **look)


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    with warnings.catch_warnings():
        # A missing glyph is measured as one of Matplotlib's font of last resort, which
        # is wider than a Chinese letter; it is not drawn.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, format="svg", metadata={"Date": None})
    family = f"font-family: '{FONT}'"
    return file.getvalue().replace(family, f"{family}, {FALLBACKS}")
