"""Methods against each other on one data set, after the last epoch."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from fsad.artifacts.names import MEAN
from fsad.reports.comparison import CONFIDENCE, by_experiment, paired_differences

MAIN_METRICS = "image_auroc", "pixel_auroc", "aupro"
RESAMPLES = 10_000
DECIMALS = 9  # of values that are equal up to rounding
KEYS = ["experiment", "metric", "shots"]
RESULTS = ["classes", "wins", "best", "difference", "low", "high"]
COLUMNS = [*KEYS, "mean", "std", *RESULTS]


def methods_table(table: pd.DataFrame, wide: pd.DataFrame) -> pd.DataFrame:
    """Compare the experiments of one data set; COLUMNS, a row per KEYS.

    table: `tables.long_table` of the data set; wide: `tables.wide_table` of it, in
    whose order the rows are. `classes` counts those with runs, `wins` those in which
    the experiment is the best, an equal share of each tie. `best` is the experiment
    with the highest mean of those with the most classes. `difference`, from `low` to
    `high`, is the mean of the differences to it over the classes, each of them the mean
    of pairs of the same seed, with its `bootstrap_interval`.
    """
    means = wide.xs(("last", MEAN), level=("selection", "class"))
    means = means.stack("shots", future_stack=True)
    means = means[means.index.isin(MAIN_METRICS, level="metric")]
    last = table[table["selection"].eq("last") & table["metric"].isin(MAIN_METRICS)]
    values = by_experiment(last, means.index.unique("experiment")).dropna(how="all")
    rows = []
    for setting, pairs in values.groupby(level=["metric", "shots"]):
        own = means["mean"].xs(setting, level=["metric", "shots"]).dropna()
        rows += [(name, *setting, *found) for name, *found in _compared(pairs, own)]
    compared = pd.DataFrame(rows, columns=[*KEYS, *RESULTS]).set_index(KEYS)
    found = means.join(compared).reset_index()[COLUMNS]
    return found.astype({"classes": "Int64"}).fillna({"classes": 0})


def _compared(pairs: pd.DataFrame, means: pd.Series) -> Iterator[tuple]:
    """Experiment and RESULTS, from all pairs of one metric and number of shots.

    pairs: `comparison.by_experiment`. means: over the classes, by experiment.
    """
    of_class = pairs.groupby(level="class").mean()
    classes, wins = of_class.count(), _wins(of_class)
    best = means[classes[means.index] == classes.max()].idxmax()
    for name in means.index:
        differences = paired_differences(pairs, name, best)
        sample = differences.groupby(level="class").mean()
        interval = bootstrap_interval(sample)
        yield name, classes[name], wins[name], best, sample.mean(), *interval


def _wins(of_class: pd.DataFrame) -> pd.Series:
    """Number of classes in which each experiment is the best, ties shared.

    of_class: values by class and experiment. A class that one experiment alone has is
    won by none.
    """
    values = of_class.round(DECIMALS)
    values = values[values.count(axis=1) > 1]
    first = values.eq(values.max(axis=1), axis=0)
    return first.div(first.sum(axis=1), axis=0).sum()


def bootstrap_interval(sample: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean: percentiles of means of RESAMPLES drawn samples.

    The same for the same sample; nan for fewer than two values.
    """
    sample = np.asarray(sample, np.float64)
    if len(sample) < 2:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(0).integers(
        len(sample), size=(RESAMPLES, len(sample))
    )
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(sample[drawn].mean(axis=1), [tail, 100 - tail])
    return float(low), float(high)


def ranking(table: pd.DataFrame) -> pd.DataFrame:
    """Experiments from the highest mean over the classes to the lowest.

    table: rows of `tables.long_table` of one data set, metric, selection and number of
    shots. Columns: `mean`, its `bootstrap_interval` from `low` to `high`, `classes`.
    """
    of_class = table.groupby(["experiment", "class"], sort=False)["value"].mean()
    rows = {
        name: (values.mean(), *bootstrap_interval(values), len(values))
        for name, values in of_class.dropna().groupby(level="experiment", sort=False)
    }
    columns = ["mean", "low", "high", "classes"]
    found = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return found.sort_values("mean", ascending=False, kind="stable")
