import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from fsad.reports import comparison

KEYS = {"dataset": "mvtec", "task": "cls", "shots": 1}
KEYS |= {"selection": "last", "metric": "image_auroc"}
REFERENCE = {("nut", 1): 80, ("nut", 2): 82, ("bolt", 1): 90, ("bolt", 2): 91}


def long_table(**experiments):
    """The long table of values by class and seed of each experiment."""
    return pd.DataFrame(
        {**KEYS, "experiment": name, "class": c, "seed": s, "value": float(value)}
        for name, values in experiments.items()
        for (c, s), value in values.items()
    )


def compared(other, reference=REFERENCE):
    table = long_table(first=reference, other=other)
    (row,) = comparison.compare(table, ["first", "other"]).to_dict("records")
    return row


def test_differences_are_taken_in_pairs():
    row = compared({("nut", 1): 83, ("nut", 2): 83, ("bolt", 1): 89, ("bolt", 2): 91})
    assert row["difference"] == pytest.approx((2 - 0.5) / 2)
    assert (row["wins"], row["ties"], row["losses"]) == (2, 1, 1)
    assert (row["classes"], row["pairs"]) == (2, 4)
    assert (row["experiment"], row["reference"]) == ("other", "first")


def test_the_interval_is_students_t_over_the_classes():
    row = compared({("nut", 1): 83, ("nut", 2): 83, ("bolt", 1): 89, ("bolt", 2): 91})
    expected = scipy.stats.ttest_1samp([2, -0.5], 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected))


def test_with_one_class_the_seeds_are_the_sample():
    row = compared({("nut", 1): 83, ("nut", 2): 83})
    expected = scipy.stats.ttest_1samp([3, 1], 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected))
    assert (row["classes"], row["pairs"]) == (1, 2)


def test_one_pair_has_no_interval():
    row = compared({("nut", 1): 83})
    assert row["difference"] == 3
    assert np.isnan([row["low"], row["high"]]).all()


def test_what_did_not_run_twice_is_no_pair():
    row = compared({("nut", 1): 83, ("screw", 1): 10, ("bolt", 1): float("nan")})
    assert (row["classes"], row["pairs"]) == (1, 1)


def test_equal_experiments_tie():
    row = compared({key: value + 1e-12 for key, value in REFERENCE.items()})
    assert (row["wins"], row["ties"], row["losses"]) == (0, 4, 0)
    assert (row["low"], row["high"]) == pytest.approx((0, 0))


def test_each_experiment_meets_the_first_in_every_setting():
    parts = []
    for shots, metric in itertools.product((1, 2), ("image_auroc", "image_aupr")):
        part = long_table(a=REFERENCE, b=REFERENCE, c=REFERENCE)
        parts.append(part.assign(shots=shots, metric=metric))
    found = comparison.compare(pd.concat(parts), ["b", "a", "c"])
    assert list(found.columns) == comparison.COLUMNS
    assert set(found["reference"]) == {"b"}
    assert found.groupby("experiment").size().to_dict() == {"a": 4, "c": 4}


def test_an_experiment_without_any_run_has_no_row():
    found = comparison.compare(long_table(a=REFERENCE), ["a", "b"])
    assert list(found.columns) == comparison.COLUMNS
    assert found.empty
