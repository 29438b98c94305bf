"""Pages of formatted tables."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

import pandas as pd

from fsad.artifacts.paths import Run
from fsad.backbones.spec import is_random
from fsad.evaluation.metrics import METRICS
from fsad.reports.formats import ABSENT, FAILED, Cell, Page, Table, cells, number

KEYS = ["experiment", "selection", "metric"]
COMPONENTS = ("text_probability", "memory_distance", "fused")
MEAN = "mean"
SHOWN_LOGS = 5


def notes(
    runs: Sequence[Mapping], failed: Sequence[Run] = (), logs: Sequence[str] = ()
) -> list[str]:
    """Notes on the protocol, on random weights, and on failures.

    failed, logs: see `tables.write_tables`.
    """
    protocol = (
        "Percent; mean ± standard deviation over seeds. `last`: after the last epoch. "
        "`best`: the evaluated epoch with the highest AUROC on the test set. "
        f"{ABSENT}: did not run, and not in the mean."
    )
    return [protocol, *warnings(runs), *_failures(failed, logs)]


def warnings(runs: Iterable[Mapping]) -> list[str]:
    """A warning if the weights of a run were random, else none."""
    if not any(is_random(run["settings"]["backbone"]) for run in runs):
        return []
    return ["**Warning: the backbone has RANDOM weights; use no number of this.**"]


def _failures(failed: Sequence[Run], logs: Sequence[str]) -> Iterator[str]:
    if not failed:
        return
    lost = Counter(f"{run.dataset}/{run.class_name}" for run in failed)
    counts = ", ".join(f"{n} of {name}" for name, n in sorted(lost.items()))
    more = " and more" if len(logs) > SHOWN_LOGS else ""
    yield (
        f"**Warning: {len(failed)} runs {FAILED}, and are in no mean: {counts}. See "
        f"{', '.join(logs[:SHOWN_LOGS])}{more}, and run the pipeline again.**"
    )


def components_page(
    components: pd.DataFrame, notes: Sequence[str], options: Mapping
) -> Page:
    """Page of `tables.components_table`: means over classes, then seeds, of `last`."""
    last = components[components["selection"] == "last"]
    keys = ["experiment", "dataset", "metric", "shots"]
    means = last.groupby([*keys, "seed"])[[*COMPONENTS]].mean().groupby(keys).mean()
    bold = best_of(means.T, options).T
    rows = [
        [*cells(key), *_numbers(values, bold.loc[key], options["decimals"])]
        for key, values in means.iterrows()
    ]
    table = Table("Means over the classes", [*keys, *COMPONENTS], rows, left=len(keys))
    about = "Mean AUROC of the text alone, the patch memory alone, and both, `last`."
    return Page("Components", [about, *notes], [table])


def _numbers(values: Iterable[float], bold: Iterable[bool], decimals: int) -> list:
    return [
        Cell(number(value, decimals=decimals), bool(best))
        for value, best in zip(values, bold, strict=True)
    ]


def best_of(values: pd.DataFrame, options: Mapping) -> pd.DataFrame:
    """Whether each value is the highest of its column, rounded as it is printed.

    No value is with `bold: false`, or as the only one of its column.
    """
    shown = values.round(options["decimals"])
    return shown.eq(shown.max()) & (options["bold"] & (shown.count() > 1))


def comparison_page(
    pairs: pd.DataFrame, notes: Sequence[str], options: Mapping
) -> Page:
    """Page of `comparison.compare` after the last epoch, by data set and metric."""
    last = pairs[pairs["selection"] == "last"]
    groups = last.groupby(["dataset", "task", "metric"])
    order = [metric for names in METRICS.values() for metric in names]
    tables = [
        _comparison_table(f"{dataset}: {metric}, last", rows, options["decimals"])
        for (dataset, _, metric), rows in sorted(
            groups, key=lambda group: (*group[0][:2], order.index(group[0][2]))
        )
    ]
    about = (
        "Difference in percentage points over pairs of the same class and seed, with "
        "its 95 % confidence interval: Student's t over the classes, each with the "
        "mean of its seeds; over the seeds where there is only one class. Wins, ties "
        "and losses count pairs."
    )
    reference = "".join(pairs["reference"].unique())
    return Page(f"Against {reference}", [about, *notes], tables)


def _comparison_table(title: str, pairs: pd.DataFrame, decimals: int) -> Table:
    head = ["experiment", "shots", "difference", "95 % interval", "wins", "ties"]
    rows = [
        cells(
            [
                *(pair.experiment, pair.shots, _signed(pair.difference, decimals)),
                _interval(pair.low, pair.high, decimals),
                *(pair.wins, pair.ties, pair.losses, pair.classes, pair.pairs),
            ]
        )
        for pair in pairs.itertuples()
    ]
    return Table(title, [*head, "losses", "classes", "pairs"], rows)


def _signed(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}"


def _interval(low: float, high: float, decimals: int) -> str:
    if low != low:
        return ABSENT
    return f"{_signed(low, decimals)} to {_signed(high, decimals)}"


def wide_page(
    title: str,
    wide: pd.DataFrame,
    notes: Sequence[str],
    published: pd.DataFrame,
    options: Mapping,
    *,
    failed: Container[tuple] = (),
) -> Page:
    """Page of `tables.wide_table`: means beside published ones, then each class.

    published: rows of `literature.same_setting`. failed: (experiment, class, shots).
    """
    metrics = dict.fromkeys(wide.index.get_level_values("metric"))
    summaries = [_summary(wide, metric, published, options) for metric in metrics]
    return Page(title, notes, [*summaries, *_class_tables(wide, options, failed)])


def _shots(wide: pd.DataFrame) -> list[int]:
    return list(dict.fromkeys(k for k, _ in wide.columns))


def _class_tables(
    wide: pd.DataFrame, options: Mapping, failed: Container[tuple]
) -> Iterator[Table]:
    """A table per experiment, metric and selection; the best experiment is bold."""
    means = wide.xs("mean", axis=1, level=1)
    rivals = means.groupby(level=["selection", "metric", "class"], sort=False)
    bold = pd.concat([best_of(group, options) for _, group in rivals])
    head = ["class", *(f"{k}-shot" for k in _shots(wide))]
    for key, rows in wide.groupby(level=KEYS, sort=False):
        experiment, selection, metric = key
        entries = []
        for index, row in rows.iterrows():
            spreads = _spreads(row, bold.loc[index], options)
            lost = [(experiment, index[-1], k) in failed for k in _shots(wide)]
            shown = [
                Cell(FAILED) if gone else cell
                for cell, gone in zip(spreads, lost, strict=True)
            ]
            entries.append([Cell(index[-1]), *shown])
        yield Table(f"{experiment}: {metric}, {selection}", head, entries)


def _spreads(row: pd.Series, bold: pd.Series, options: Mapping) -> list[Cell]:
    """Cells of a row of the wide table, one for each number of shots."""
    return [
        Cell(number(*row[k][["mean", "std"]], options["decimals"]), bool(bold[k]))
        for k in bold.index
    ]


def _summary(
    wide: pd.DataFrame, metric: str, published: pd.DataFrame, options: Mapping
) -> Table:
    """Means over the classes, by experiment and selection, then published ones."""
    ours = wide.xs(metric, level="metric")
    classes = ours.drop(MEAN, level="class")
    ran = classes.xs("mean", axis=1, level=1).notna()
    wanted = len(classes.index.unique("class"))
    ran = ran.groupby(level=["experiment", "selection"], sort=False).sum()
    rows = _our_means(ours.xs(MEAN, level="class"), ran, wanted, options)
    complete = [k for k in _shots(wide) if (ran[k] == wanted).any()]
    shown = published["metric"].eq(metric) & published["shots"].isin(complete)
    rows += _published_means(published[shown], _shots(wide))
    head = ["method", "protocol", *(f"{k}-shot" for k in _shots(wide))]
    sources = published[shown].groupby("source", sort=False)["method"].unique()
    note = "; ".join(f"{', '.join(names)}: {s}" for s, names in sources.items())
    title = f"{metric}, mean over {wanted} classes"
    return Table(title, head, rows, left=2, note=note and f"Sources: {note}.")


def _our_means(
    means: pd.DataFrame, ran: pd.DataFrame, wanted: int, options: Mapping
) -> list[list[Cell]]:
    rows = []
    for selection, group in means.groupby(level="selection", sort=False):
        bold = best_of(group.xs("mean", axis=1, level=1), options)
        for index, row in group.iterrows():
            spreads = _spreads(row, bold.loc[index], options)
            counted = [
                cell._replace(text=f"{cell.text} ({n}/{wanted})")
                if 0 < n < wanted
                else cell
                for cell, n in zip(spreads, ran.loc[index], strict=True)
            ]
            rows.append([*cells((index[0], selection)), *counted])
    return rows


def _published_means(published: pd.DataFrame, shots: Sequence[int]) -> list[list[Cell]]:
    """A row per method and protocol, with values as they were published."""
    rows = []
    for key, group in published.groupby(["method", "protocol"], sort=False):
        ends = group.set_index("shots")[["value", "value_to"]]
        texts = {k: "–".join(filter(None, ends.loc[k])) for k in ends.index}
        rows.append(cells([*key, *(texts.get(k, ABSENT) for k in shots)]))
    return rows
