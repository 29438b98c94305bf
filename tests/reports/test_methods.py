import numpy as np
import pandas as pd
import pytest

from fsad.evaluation.metrics import METRICS
from fsad.reports import literature, methods
from fsad.reports.formats import ABSENT, to_html, to_markdown
from fsad.reports.method_pages import Published, cite_note, methods_page
from fsad.reports.tables import long_table, wide_table
from helpers import REPOSITORY
from reports.contents import run

CLASSES = ["bolt", "nut", "screw"]
NAMES = ["low", "high"]
MVTEC = sorted(literature.CLASSES["mvtec"])


def runs(values, experiment="low", task="cls", **keys):
    """Runs of an experiment, of a value by class and seed."""
    return [
        run(name, value, task, seed=seed, experiment=experiment, **keys)
        for (name, seed), value in values.items()
    ]


LOW = {(name, seed): 80 for name in CLASSES for seed in (1, 2)}
HIGH = dict.fromkeys(LOW, 80) | {("bolt", 1): 84, ("bolt", 2): 86, ("nut", 1): 74}
BOTH = [*runs(LOW), *runs(HIGH, "high")]


def table_of(contents, classes=CLASSES, names=NAMES):
    table = long_table(contents)
    return methods.methods_table(table, wide_table(table, classes, names))


def result(contents, experiment, metric="image_auroc", shots=1):
    table = table_of(contents)
    keys = {"experiment": experiment, "metric": metric, "shots": shots}
    (row,) = table[(table[list(keys)] == list(keys.values())).all(axis=1)].to_dict(
        "records"
    )
    return row


def test_the_mean_is_over_classes_and_the_deviation_over_seeds():
    row = result(BOTH, "high")
    of_seeds = [(84 + 74 + 80) / 3, (86 + 80 + 80) / 3]
    assert row["mean"] == pytest.approx(np.mean(of_seeds))
    assert row["std"] == pytest.approx(np.std(of_seeds, ddof=1))
    assert row["classes"] == 3


def test_a_tie_is_shared_and_all_classes_are_won():
    found = {name: result(BOTH, name)["wins"] for name in NAMES}
    assert found == {"low": 1 + 0.5, "high": 1 + 0.5}


def test_a_class_of_one_experiment_alone_is_won_by_none():
    contents = [x for x in BOTH if x["settings"]["class"] == "bolt"]
    contents += runs({("nut", 1): 99})
    assert {name: result(contents, name)["wins"] for name in NAMES} == {
        "low": 0,
        "high": 1,
    }


def test_differences_to_the_best_are_of_pairs():
    row = result(BOTH, "low")
    assert (row["best"], result(BOTH, "high")["difference"]) == ("high", 0)
    assert row["difference"] == pytest.approx(-(5 - 3 + 0) / 3)
    assert row["low"] < row["difference"] < row["high"]


def test_the_best_is_one_of_those_with_the_most_classes():
    contents = [*runs(LOW), *runs({("bolt", 1): 99}, "high")]
    assert result(contents, "high")["best"] == "low"


def test_what_did_not_run_has_no_result():
    contents = [*BOTH, *runs({("bolt", 1): 60}, shots=0)]
    row = result(contents, "high", shots=0)
    assert (row["classes"], np.isnan(row["mean"]), pd.isna(row["best"])) == (
        0,
        True,
        True,
    )


def test_without_any_defined_value_the_table_has_no_results():
    contents = runs({("bolt", 1): float("nan")})
    table = table_of(contents, names=["low"])
    assert list(table["metric"]) == ["image_auroc"]
    assert (list(table["classes"]), table["mean"].isna().all()) == ([0], True)


def test_the_table_is_of_the_main_metrics_in_the_order_of_the_experiments():
    contents = [*BOTH, *runs(LOW, task="seg"), *runs(HIGH, "high", task="seg")]
    table = table_of(contents, names=["high", "low"])
    assert list(table["experiment"].unique()) == ["high", "low"]
    assert list(table["metric"].unique()) == list(methods.MAIN_METRICS)
    assert {*methods.MAIN_METRICS} < {x for names in METRICS.values() for x in names}


def test_the_bootstrap_interval_is_that_of_the_mean_and_always_the_same():
    sample = np.random.default_rng(1).normal(3, 2, 200)
    low, high = methods.bootstrap_interval(sample)
    half = 1.96 * sample.std() / 200**0.5
    assert (low, high) == pytest.approx(
        (sample.mean() - half, sample.mean() + half), abs=0.03
    )
    assert methods.bootstrap_interval(sample) == (low, high)


def test_one_class_has_no_bootstrap_interval():
    assert np.isnan(methods.bootstrap_interval([3.0])).all()


def test_the_ranking_is_from_the_highest_mean_to_the_lowest():
    table = long_table(BOTH)
    table = table[(table["metric"] == "image_auroc") & (table["selection"] == "last")]
    ranked = methods.ranking(table)
    assert list(ranked.index) == ["high", "low"]
    assert list(ranked["mean"]) == pytest.approx([(85 + 77 + 80) / 3, 80])
    assert list(ranked["low"] <= ranked["mean"]) == [True, True]
    assert list(ranked["classes"]) == [3, 3]


def page_of(contents, classes=CLASSES, dataset="own", names=NAMES, keys=()):
    table = table_of(contents, classes, names)
    for place, name in ((1, "method"), (2, "backbone")):
        known = {x["settings"]["experiment"]: x["settings"][name] for x in contents}
        table.insert(place, name, table["experiment"].map(known))
    rows = literature.read_literature(REPOSITORY / "config/literature.csv")
    published = Published(literature.same_setting(rows, dataset, classes), len(classes))
    options = {"decimals": 2, "bold": True}
    return methods_page(dataset, table, published, cite_note(keys), options)


def section(text, title):
    return text.partition(f"## {title}\n\n")[2].partition("\n\n")[0].splitlines()


def test_the_page_shows_means_wins_and_differences():
    text = to_markdown(page_of(BOTH, keys=["patchcore", "wide_resnet"]))
    assert "Cite: patchcore, wide_resnet (`references.bib`)." in text
    assert section(text, "image_auroc, mean over 3 classes")[2:] == [
        "| low | promptad | ViT-B-16_tag | 80.00 ± 0.00 |",
        "| high | promptad | ViT-B-16_tag | **80.67 ± 1.89** |",
    ]
    assert section(text, "image_auroc, wins by class")[2:] == [
        "| low | 1.5 |",
        "| high | 1.5 |",
    ]
    low, high = section(text, "image_auroc, difference to the best")[2:]
    assert low.startswith("| low | -0.67 (-")
    assert high == "| high | best |"


def test_what_did_not_run_is_a_dash_and_what_ran_in_part_is_counted():
    contents = [*runs({("bolt", 1): 90, ("nut", 1): 80}), *runs(LOW, "high", shots=0)]
    text = to_markdown(page_of(contents))
    means = section(text, "image_auroc, mean over 3 classes")[2:]
    assert means[0].endswith(f"| {ABSENT} | 85.00 (2/3) |")
    assert means[1].endswith(f"| 80.00 ± 0.00 | {ABSENT} |")
    assert "nan" not in to_html(page_of(contents)).lower()


def test_published_results_of_a_method_stand_below_its_experiments():
    contents = [run(name, 90, experiment="low", shots=2) for name in MVTEC]
    contents += [
        run(name, 80, experiment="high", shots=k, method="winclip")
        for name in MVTEC
        for k in (0, 2)
    ]
    text = to_markdown(page_of(contents, MVTEC, "mvtec"))
    rows = section(text, "image_auroc, mean over 15 classes")[2:]
    assert [row.split(" | ")[1] for row in rows] == [
        *("promptad", "PromptAD", "PromptAD", "winclip"),
        *("WinCLIP", "WinCLIP+", "WinCLIP", "WinCLIP+"),
    ]
    source = "as published: Li et al., PromptAD, CVPR 2024"
    assert rows[1] == f"| published | PromptAD | {source} | – | 95.7 |"
    assert rows[2].endswith("| – | 92.8–95.1 |")
    assert rows[4].endswith("| 91.8 | – |")


def test_published_results_need_all_classes_of_that_number_of_shots():
    contents = [run(name, 90, experiment="low", shots=2) for name in MVTEC[1:]]
    assert "published |" not in to_markdown(page_of(contents, MVTEC, "mvtec"))


def test_without_references_nothing_is_to_cite():
    assert cite_note([]) == []
