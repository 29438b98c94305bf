"""Comparison of experiments in pairs of the same class, support images and seed."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

SETTING = ["dataset", "task", "selection", "metric", "shots"]
PAIR = ["class", "seed"]
CONFIDENCE = 0.95
RESULTS = ["classes", "pairs", "difference", "low", "high", "wins", "ties", "losses"]
COLUMNS = [*SETTING, "experiment", "reference", *RESULTS]


def compare(table: pd.DataFrame, experiments: Sequence[str]) -> pd.DataFrame:
    """Compare each experiment with the first; COLUMNS, a row per setting.

    table: `tables.long_table`. A pair is a class and seed with a run of both
    experiments; `wins` counts pairs with a higher value than the reference.
    """
    reference, *others = experiments
    values = table.pivot(index=[*SETTING, *PAIR], columns="experiment", values="value")
    rows = [
        (*setting, other, reference, *paired(differences.droplevel(SETTING)))
        for other in others
        for setting, differences in _differences(values, other, reference)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _differences(values: pd.DataFrame, other: str, reference: str) -> Iterable:
    if not {other, reference} <= set(values.columns):
        return []
    return (values[other] - values[reference]).dropna().groupby(level=SETTING)


def paired(differences: pd.Series) -> tuple:
    """RESULTS of the differences of all pairs, indexed by class and seed.

    Seeds of one class share its test images, so classes are the sample: each counts
    once, with the mean over its seeds. With one class, the seeds are the sample.
    """
    classes = differences.groupby(level="class").mean()
    low, high = mean_interval(classes if len(classes) > 1 else differences)
    signs = np.sign(differences.round(9))  # equal up to rounding is a tie
    counts = [int((signs == sign).sum()) for sign in (1, 0, -1)]
    return len(classes), len(differences), classes.mean(), low, high, *counts


def mean_interval(sample: Sequence[float]) -> tuple[float, float]:
    """Confidence interval of the mean by Student's t; nan for fewer than two values."""
    n, mean = len(sample), np.mean(sample)
    if n < 2:
        return float("nan"), float("nan")
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * np.std(sample, ddof=1) / n**0.5
    return mean - half, mean + half
