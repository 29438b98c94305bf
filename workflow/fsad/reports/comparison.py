"""Comparison of experiments in pairs of the same class, support images and seed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

SETTING = ["dataset", "task", "selection", "metric", "shots"]
CONFIDENCE = 0.95
RESULTS = ["classes", "pairs", "difference", "low", "high", "wins", "ties", "losses"]
COLUMNS = [*SETTING, "experiment", "reference", *RESULTS]


def compare(table: pd.DataFrame, experiments: Sequence[str]) -> pd.DataFrame:
    """Compare each experiment with the first; COLUMNS, a row per setting.

    table: `tables.long_table`. A pair is a class and seed with a run of both
    experiments; `wins` counts pairs with a higher value than the reference.
    """
    (reference, *others), rows = experiments, []
    values = by_experiment(table, experiments)
    for other in others:
        differences = paired_differences(values, other, reference)
        for setting, pairs in differences.groupby(level=SETTING):
            rows.append((*setting, other, reference, *_results(pairs)))
    return pd.DataFrame(rows, columns=COLUMNS)


def by_experiment(table: pd.DataFrame, experiments: Sequence[str]) -> pd.DataFrame:
    """Values with a column per experiment, nan where it has no run.

    table: `tables.long_table`. Rows are by SETTING, `class` and `seed`.
    """
    index = [*SETTING, "class", "seed"]
    values = table.pivot(index=index, columns="experiment", values="value")
    return values.reindex(columns=experiments)


def paired_differences(
    values: pd.DataFrame, experiment: str, reference: str
) -> pd.Series:
    """Differences of pairs, values of `by_experiment`, where both have a run."""
    return (values[experiment] - values[reference]).dropna()


def _results(pairs: pd.Series) -> tuple:
    """RESULTS of the differences of all pairs, indexed by class and seed.

    Seeds of one class share its test images, so classes are the sample: each counts
    once, with the mean over its seeds. With one class, the seeds are the sample.
    """
    classes = pairs.groupby(level="class").mean()
    low, high = _mean_interval(classes if len(classes) > 1 else pairs)
    signs = np.sign(pairs.round(9))  # equal up to rounding is a tie
    counts = [int((signs == sign).sum()) for sign in (1, 0, -1)]
    return len(classes), len(pairs), classes.mean(), low, high, *counts


def _mean_interval(sample: pd.Series) -> tuple[float, float]:
    """Confidence interval of the mean by Student's t; nan for fewer than two values."""
    n, mean = len(sample), np.mean(sample)
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * sample.std() / n**0.5
    return mean - half, mean + half
