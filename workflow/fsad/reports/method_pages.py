"""Page of the methods of one data set: means, wins, and differences to the best."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from fsad.reports import formats, pages
from fsad.reports.formats import ABSENT, Cell, Page, Table, cells
from fsad.reports.literature import of_method
from fsad.reports.methods import MAIN_METRICS

PUBLISHED = ["method", "protocol", "source"]
ABOUT = (
    "After the last epoch (`last`); means over the classes. Below an experiment stand "
    "published results of its method, where all classes ran with that number of shots; "
    "they come with backbones, sizes of images and protocols of their own."
)
COMPARED = (
    "Wins: classes in which an experiment is the best, shared where several are. "
    "Differences: percentage points, over pairs of the same class and seed, with the "
    "95 % bootstrap interval over the classes. The best has the highest mean of the "
    "experiments with the most classes; it is chosen on these same numbers, which "
    "favours it."
)


class Published(NamedTuple):
    """Rows of `literature.same_setting`, and the number of classes of the data set."""

    rows: pd.DataFrame
    classes: int


def cite_note(keys: Sequence[str]) -> list[str]:
    """A note, as Markdown, of the references to cite, if there are any."""
    names = formats.markdown_text(", ".join(keys))
    return [f"Cite: {names} (`references.bib`)."] if keys else []


def methods_page(
    dataset: str,
    table: pd.DataFrame,
    published: Published,
    notes: Sequence[str],
    options: Mapping,
) -> Page:
    """Page of `methods.methods_table`, with method and backbone of each experiment."""
    tables = []
    for metric in MAIN_METRICS:
        rows = table[table["metric"] == metric]
        same = published.rows[published.rows["metric"] == metric]
        if len(rows):
            own = published._replace(rows=same)
            tables += _metric_tables(metric, rows, own, options)
    return Page(f"{dataset}, methods", [ABOUT, COMPARED, *notes], tables)


def _metric_tables(
    metric: str, rows: pd.DataFrame, published: Published, options: Mapping
) -> list[Table]:
    """Means beside published ones, wins, and differences, of one metric."""
    shots = sorted(rows["shots"].unique())
    head = [f"{k}-shot" for k in shots]
    means = [*_mean_rows(rows, shots, published, options)]
    wins = _by_shots(rows, shots, lambda row: _share(row.wins))
    decimals = options["decimals"]
    differences = _by_shots(rows, shots, lambda row: _difference(row, decimals))
    title = f"{metric}, mean over {published.classes} classes"
    first = ["experiment", "method", "backbone or protocol", *head]
    rest = ["experiment", *head]
    return [
        Table(title, first, means, left=3),
        Table(f"{metric}, wins by class", rest, wins),
        Table(f"{metric}, difference to the best", rest, differences),
    ]


def _mean_rows(
    rows: pd.DataFrame, shots: Sequence[int], published: Published, options: Mapping
) -> Iterator[list[Cell]]:
    """A row per experiment, and below it those published of its method."""
    keys = ["experiment", "method", "backbone"]
    names = rows[keys].astype(object).fillna(ABSENT).drop_duplicates()
    values = rows.pivot(index="experiment", columns="shots")
    means, spreads, counts = (values[name] for name in ("mean", "std", "classes"))
    bold = pages.best_of(means, options)
    shown = pages.formatted(means, spreads, bold, options["decimals"])
    for name, method, backbone in names.itertuples(index=False):
        ran, wanted = counts.loc[name], published.classes
        own = (pages.counted(shown.loc[name, k], ran[k], wanted) for k in shots)
        yield [*cells([name, method, backbone]), *own]
        complete = [k for k in shots if ran[k] == wanted]
        same = of_method(published.rows, method)
        yield from _published_rows(same, complete, shots)


def _published_rows(
    published: pd.DataFrame, complete: Sequence[int], shots: Sequence[int]
) -> Iterator[list[Cell]]:
    """Rows of one method and metric, with values where its runs are complete."""
    same = published[published["shots"].isin(complete)]
    for row in pages.published_means(same, shots, PUBLISHED):
        (name, protocol, source), values = row[:3], row[3:]
        where = Cell(f"{protocol.text}: {source.text}")
        yield [Cell("published"), name, where, *values]


def _by_shots(
    rows: pd.DataFrame, shots: Sequence[int], text: Callable
) -> list[list[Cell]]:
    """A row per experiment of what `text` gives for its row at each number of shots."""
    found = []
    for name, own in rows.groupby("experiment", sort=False):
        texts = {row.shots: text(row) for row in own.itertuples()}
        found.append(cells([name, *(texts.get(k, ABSENT) for k in shots)]))
    return found


def _share(wins: float) -> str:
    return ABSENT if wins != wins else f"{wins:.2f}".rstrip("0").rstrip(".")


def _difference(row: tuple, decimals: int) -> str:
    """`-1.50 (-2.10 to -0.40)`, without interval where there is none."""
    if row.experiment == row.best:
        return "best"
    if row.difference != row.difference:
        return ABSENT
    middle, low, high = (
        f"{x:+.{decimals}f}" for x in (row.difference, row.low, row.high)
    )
    return middle if row.low != row.low else f"{middle} ({low} to {high})"
