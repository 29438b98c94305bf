import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from fsad.reports import figures
from fsad.reports.figures import History
from fsad.reports.methods import ranking
from reports.contents import words

NAMES = ["original", "qq"]
CLASSES = ["bottle", "metal_nut", "absent"]


def long_table(seeds=(1, 2)):
    rows = [
        (experiment, name, k, seed, metric, 80 + k + seed + len(name))
        for experiment in NAMES
        for name in CLASSES[:2]
        for k in (1, 4)
        for seed in seeds
        for metric in ("image_auroc", "aupro")
    ]
    columns = ["experiment", "class", "shots", "seed", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def one_metric(table):
    return table[table["metric"] == "aupro"]


def of_most_shots(table):
    return one_metric(table[table["shots"] == 4])


def epochs(best):
    auroc = pd.Series({5: 80.0, 10: 90.0, 15: 85.0})
    return History("bottle", 1, 1, auroc, 15, best)


LABELLED = np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3])
SCORES = {"bottle": figures.Scores(*LABELLED, [0.15, 0.25])}
JOBS = pd.DataFrame(
    {"rule": ["train", "train", "embed"], "s": [3.0, 4.0, 1.0], "cores": [1, 0.5, 2]}
)


def drawings(table):
    return {
        "curves": figures.curves(table, ["image_auroc", "aupro"], NAMES),
        "heat_map": figures.heat_map(one_metric(table), NAMES, CLASSES),
        "method_map": figures.method_map(of_most_shots(table), NAMES, CLASSES),
        "rankings": figures.rankings({"aupro": ranking(of_most_shots(table))}),
        "history": figures.history([epochs(10)], "image AUROC"),
        "histograms": figures.histograms(SCORES),
        "run_times": figures.run_times(JOBS),
    }


@pytest.fixture(scope="module")
def drawn():
    return drawings(long_table())


def test_figures_are_well_formed_and_link_to_nothing(drawn):
    for svg in drawn.values():
        links = re.findall(r'href="([^"]*)"', svg)
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert all(link.startswith(("#", "data:")) for link in links)


def test_the_same_numbers_give_the_same_bytes(drawn):
    assert drawings(long_table()) == drawn


def test_figures_name_what_they_show(drawn):
    assert {*NAMES, "image AUROC", "AUPRO", "shots"} <= set(words(drawn["curves"]))
    assert {*NAMES, *CLASSES} <= set(words(drawn["heat_map"]))
    assert {"bottle", "1-shot", "last", "best"} <= set(words(drawn["history"]))
    assert {"bottle", "good", "defect"} <= set(words(drawn["histograms"]))
    assert {"train", "embed", "wall seconds"} <= set(words(drawn["run_times"]))


def test_a_heat_map_holds_the_means_over_seeds_and_leaves_gaps(drawn):
    values = [word for word in words(drawn["heat_map"]) if "." in word]
    # 80 + shots + mean of the seeds + letters of the class; none of the absent class
    expected = [80 + k + 1.5 + len(name) for name in CLASSES[:2] for k in (1, 4)]
    assert sorted(map(float, values)) == sorted(expected * 2)


def test_error_bars_need_several_seeds(drawn):
    one = figures.curves(long_table(seeds=(1,)), ["image_auroc", "aupro"], NAMES)
    assert "LineCollection" in drawn["curves"]
    assert "LineCollection" not in one


def test_last_and_best_are_marked_at_their_epochs(drawn):
    assert figures.history([epochs(5)], "image AUROC") != drawn["history"]


def test_a_class_without_auroc_has_an_empty_panel():
    run = History("bottle", 1, 1, pd.Series(dtype=float), 15, 5)
    assert "bottle" in words(figures.history([run], "image AUROC"))


NAME = "螺丝|a$b$&c<d>_%#\\"


def test_names_are_shown_as_they_are():
    table = long_table().replace("bottle", NAME).replace("qq", f"_{NAME}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heat = figures.heat_map(one_metric(table), ["original", f"_{NAME}"], [NAME])
        curves = figures.curves(table, ["aupro"], ["original", f"_{NAME}"])
        history = figures.history([epochs(10)._replace(class_name=NAME)], "AUROC")
        histograms = figures.histograms({NAME: SCORES["bottle"]})
    assert {NAME, f"_{NAME}"} <= set(words(heat))
    assert f"_{NAME}" in words(curves)
    assert NAME in words(history)
    assert NAME in words(histograms)
    assert "Noto Sans CJK SC" in heat


def width_for(name):
    """The width of the panel beside the name of a class."""
    table = one_metric(long_table()).replace("bottle", name)
    drawn = figures.heat_map(table, ["original"], [name])
    return float(re.search(r'<image [^>]*width="([\d.]+)"', drawn)[1])


def test_chinese_names_have_the_room_that_their_letters_need():
    assert width_for("螺" * 6) <= width_for("W" * 6)


def test_more_experiments_than_colours_can_be_drawn():
    names = [str(index) for index in range(len(figures.EXPERIMENTS) + 1)]
    drawn = figures.curves(long_table().assign(experiment="0"), ["aupro"], names)
    assert set(names) <= set(words(drawn))


def test_the_map_of_methods_has_a_column_for_each_and_empty_fields(drawn):
    found = words(drawn["method_map"])
    assert {*NAMES, *CLASSES} <= set(found)
    assert len([word for word in found if word.endswith(".5")]) == 4


def test_experiments_are_ranked_from_the_best(drawn):
    found = words(drawn["rankings"])
    assert found.index("original") < found.index("qq")


def test_each_threshold_is_a_dashed_line(drawn):
    without = {"bottle": SCORES["bottle"]._replace(thresholds=[])}
    dashes = [
        svg.count("stroke-dasharray: 3.7")
        for svg in (drawn["histograms"], figures.histograms(without))
    ]
    assert dashes == [3, 1]  # one of them in the legend
