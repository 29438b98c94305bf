import pytest

from fsad.errors import UserError
from fsad.reports import literature
from helpers import REPOSITORY

SHIPPED = REPOSITORY / "config/literature.csv"
HEAD = ",".join(literature.COLUMNS)


@pytest.fixture(scope="module")
def rows():
    return literature.read_literature(SHIPPED)


def published(rows, method, metric="image_auroc", dataset="mvtec"):
    keys = {"method": method, "metric": metric, "dataset": dataset}
    keys |= {"protocol": "as published"}
    found = rows[(rows[list(keys)] == list(keys.values())).all(axis=1)]
    return dict(zip(found["shots"], found["value"], strict=True))


def test_shipped_values(rows):
    assert published(rows, "PromptAD") == {1: "94.6", 2: "95.7", 4: "96.6"}
    assert published(rows, "PaDiM") == {1: "76.6"}
    assert published(rows, "ANoCo") == {1: "97.9", 2: "98.4", 4: "98.7"}
    visa = published(rows, "SubspaceAD", dataset="visa")
    assert visa == {1: "93.2", 2: "93.8", 4: "94.7"}
    assert published(rows, "PromptAD", "pixel_auroc", "visa") == {1: "96.7"}


def test_every_shipped_row_names_its_source_once(rows):
    keys = ["method", "dataset", "shots", "metric", "protocol"]
    assert not rows.duplicated(keys).any()
    assert rows["source"].str.len().min() > 0
    assert set(rows["dataset"]) == set(literature.CLASSES)


def test_re_runs_are_ranges(rows):
    ranges = rows[rows["value_to"] != ""]
    assert set(ranges["method"]) == {"PromptAD"}
    assert (ranges["value"].astype(float) < ranges["value_to"].astype(float)).all()


def test_the_classes_are_those_of_the_benchmark():
    assert {name: len(c) for name, c in literature.CLASSES.items()} == {
        "mvtec": 15,
        "visa": 12,
    }


def test_only_the_whole_data_set_is_the_same_setting(rows):
    classes = sorted(literature.CLASSES["visa"])
    found = literature.same_setting(rows, "visa", classes)
    assert set(found["dataset"]) == {"visa"}
    assert literature.same_setting(rows, "visa", classes[1:]).empty
    assert literature.same_setting(rows, "visa", [*classes, "more"]).empty
    assert literature.same_setting(rows, "own", classes).empty


@pytest.mark.parametrize(
    "content",
    [
        "",
        "method,value\na,1\n",
        f"{HEAD}\na,mvtec,one,image_auroc,90,,p,s\n",
        f"{HEAD}\na,mvtec,1,image_auroc,high,,p,s\n",
        f"{HEAD}\na,mvtec,1,image_auroc,90,high,p,s\n",
    ],
)
def test_a_wrong_file_is_named(tmp_path, content):
    path = tmp_path / "own.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=str(path)):
        literature.read_literature(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"missing\.csv"):
        literature.read_literature(tmp_path / "missing.csv")
