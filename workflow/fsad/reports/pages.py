"""Pages of formatted tables."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

import pandas as pd

from fsad.artifacts.names import MEAN
from fsad.artifacts.paths import Run
from fsad.backbones.spec import is_random
from fsad.evaluation.metrics import METRICS
from fsad.reports import formats
from fsad.reports.formats import ABSENT, FAILED, Cell, Page, Table, cells, number

KEYS = ["experiment", "selection", "metric"]
FUSED = "fused"
PUBLISHED = "method", "protocol"
SHOWN_LOGS = 5


def notes(
    runs: Sequence[Mapping], failed: Sequence[Run] = (), logs: Sequence[str] = ()
) -> list[str]:
    """Notes on the protocol, on random weights, and on failures, as Markdown.

    failed, logs: see `tables.write_tables`.
    """
    protocol = (
        "Percent; mean ± standard deviation over seeds. `last`: after the last epoch. "
        "`best`: the evaluated epoch with the highest AUROC on the test set. "
        f"{ABSENT}: did not run, and not in the mean."
    )
    protocol = " ".join([protocol, *_untrained(runs)])
    if not failed:
        return [protocol, *warnings(runs)]
    lost = Counter(f"{run.dataset}/{run.class_name}" for run in failed)
    counts = ", ".join(f"{n} of {name}" for name, n in sorted(lost.items()))
    shown = ", ".join(logs[:SHOWN_LOGS])
    more = " and more" if len(logs) > SHOWN_LOGS else ""
    failures = formats.markdown_text(
        f"Warning: {len(failed)} runs {FAILED}, and are in no mean: {counts}. See "
        f"{shown}{more}, and run the pipeline again."
    )
    return [protocol, *warnings(runs), f"**{failures}**"]


def _untrained(runs: Iterable[Mapping]) -> list[str]:
    """A note of the experiments whose `best` is `last`, if there are any."""
    settings = (run["settings"] for run in runs)
    names = dict.fromkeys(
        x["experiment"] for x in settings if "epochs" not in x["options"]
    )
    shown = formats.markdown_text(", ".join(names))
    return [f"Without training, one evaluation is both: {shown}."] if names else []


def warnings(runs: Iterable[Mapping]) -> list[str]:
    """A warning if the weights of a run were random, else none."""
    if not any(is_random(run["settings"]["backbone"]) for run in runs):
        return []
    return ["**Warning: the backbone has RANDOM weights; use no number of this.**"]


def components_page(
    components: pd.DataFrame, notes: Sequence[str], options: Mapping
) -> Page:
    """Page of `tables.components_table`: means over classes, then seeds, of `last`."""
    last = components[components["selection"] == "last"]
    keys = ["experiment", "dataset", "metric", "shots"]
    names = [*components.columns[list(components).index("metric") + 1 :]]
    means = last.groupby([*keys, "seed"])[names].mean().groupby(keys).mean()
    bold, no_spread = best_of(means.T, options).T, means * float("nan")
    shown = formatted(means, no_spread, bold, options["decimals"])
    rows = [[*cells(key), *row] for key, row in shown.iterrows()]
    table = Table("Means over the classes", [*keys, *names], rows, left=len(keys))
    about = "Mean AUROC of each component alone, and of all fused, `last`."
    none = ["No method here has components."] * components.empty
    return Page("Components", [about, *none, *notes], [table])


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
    head = ["experiment", "shots", "difference", "95 % interval"]
    rest = ["wins", "ties", "losses", "classes", "pairs"]
    rows = []
    for pair in pairs.to_dict("records"):
        difference, low, high = (
            f"{pair[name]:+.{decimals}f}" for name in ("difference", "low", "high")
        )
        interval = ABSENT if low == "+nan" else f"{low} to {high}"
        first = pair["experiment"], pair["shots"], difference, interval
        rows.append(cells([*first, *(pair[name] for name in rest)]))
    return Table(title, head + rest, rows)


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
    means, spreads = (wide.xs(name, axis=1, level=1) for name in ("mean", "std"))
    rivals = means.groupby(level=["selection", "metric", "class"], sort=False)
    bold = pd.concat([best_of(group, options) for _, group in rivals]).loc[means.index]
    shown = formatted(means, spreads, bold, options["decimals"])
    metrics = dict.fromkeys(wide.index.get_level_values("metric"))
    summaries = [_summary(metric, means, shown, published) for metric in metrics]
    return Page(title, notes, [*summaries, *_class_tables(shown, failed)])


def best_of(values: pd.DataFrame, options: Mapping) -> pd.DataFrame:
    """Whether each value is the highest of its column, rounded as it is printed.

    No value is with `bold: false`, or as the only one of its column.
    """
    shown = values.round(options["decimals"])
    return shown.eq(shown.max()) & (options["bold"] & (shown.count() > 1))


def formatted(
    means: pd.DataFrame, spreads: pd.DataFrame, bold: pd.DataFrame, decimals: int
) -> pd.DataFrame:
    """Table of a Cell for each mean."""
    columns = {}
    for name in means:
        values = zip(means[name], spreads[name], bold[name], strict=True)
        columns[name] = [Cell(number(m, s, decimals), bool(b)) for m, s, b in values]
    return pd.DataFrame(columns, index=means.index)


def _class_tables(shown: pd.DataFrame, failed: Container[tuple]) -> Iterator[Table]:
    """A table per experiment, metric and selection."""
    head = ["class", *(f"{k}-shot" for k in shown)]
    for (experiment, selection, metric), rows in shown.groupby(level=KEYS, sort=False):
        entries = []
        for (*_, name), row in rows.iterrows():
            lost = {
                k: Cell(FAILED) for k in row.index if (experiment, name, k) in failed
            }
            entries.append([Cell(name), *({**row, **lost}).values()])
        yield Table(f"{experiment}: {metric}, {selection}", head, entries)


def _summary(
    metric: str, means: pd.DataFrame, shown: pd.DataFrame, published: pd.DataFrame
) -> Table:
    """Means over the classes, by experiment and selection, then published ones."""
    classes = means.xs(metric, level="metric").drop(MEAN, level="class")
    ran = classes.notna().groupby(level=["experiment", "selection"], sort=False).sum()
    wanted = len(classes.index.unique("class"))
    ours = shown.xs((metric, MEAN), level=("metric", "class"))
    rows = [
        [*cells(key), *(counted(row[k], ran.loc[key, k], wanted) for k in shown)]
        for _, group in ours.groupby(level="selection", sort=False)
        for key, row in group.iterrows()
    ]
    complete = [k for k in shown if (ran[k] == wanted).any()]
    same = published["metric"].eq(metric) & published["shots"].isin(complete)
    rows += published_means(published[same], list(shown))
    head = ["method", "protocol", *(f"{k}-shot" for k in shown)]
    sources = published[same].groupby("source", sort=False)["method"].unique()
    note = "; ".join(f"{', '.join(names)}: {s}" for s, names in sources.items())
    title = f"{metric}, mean over {wanted} classes"
    return Table(title, head, rows, left=2, note=note and f"Sources: {note}.")


def counted(cell: Cell, count: int, wanted: int) -> Cell:
    """A mean with the number of its classes, unless it is that of all."""
    if count in (0, wanted):
        return cell
    return cell._replace(text=f"{cell.text} ({count}/{wanted})")


def published_means(
    published: pd.DataFrame, shots: Sequence[int], keys: Sequence[str] = PUBLISHED
) -> list[list[Cell]]:
    """A row per value of `keys`, with values as they were published.

    published: of one metric. keys: columns that tell a number of shots' rows apart.
    """
    rows = []
    for key, group in published.groupby(list(keys), sort=False):
        ends = group.set_index("shots")[["value", "value_to"]]
        texts = {k: "–".join(filter(None, ends.loc[k])) for k in ends.index}
        rows.append(cells([*key, *(texts.get(k, ABSENT) for k in shots)]))
    return rows
