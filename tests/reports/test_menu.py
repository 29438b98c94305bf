"""The menu of the report."""

from fsad.reports.menu import category, labels


def test_pages_stand_under_what_they_show():
    assert category("own/original/history") == "3 Training"
    assert category("settings") == "6 Run"


def test_labels_name_data_set_and_experiment_or_page():
    found = labels("own/original/history")
    assert found == {"data set": "own", "experiment": "original"}
    assert labels("own/overview") == {"data set": "own", "page": "overview"}
    assert labels("times") == {"page": "Run times and cores"}
