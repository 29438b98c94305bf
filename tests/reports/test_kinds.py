import numpy as np
import pytest

from fsad.artifacts.files import write_npz
from fsad.errors import UserError
from fsad.reports import kinds
from reports.contents import run, store

NAMES = ["good/0.png", "good/1.png", "hole/0.png", "hole/1.png", "scratch/0.png"]
LABELS = np.array([0, 0, 1, 1, 1])
SCORES = np.array([0.1, 0.3, 0.2, 0.4, 0.5], np.float32)


def test_each_kind_is_ranked_against_the_good_images_alone():
    found = list(kinds.kind_aurocs(NAMES, LABELS, SCORES))
    assert found == [("hole", 2, 75.0), ("scratch", 1, 100.0)]


def test_without_good_images_the_auroc_is_undefined():
    ((kind, images, value),) = kinds.kind_aurocs(NAMES[4:], LABELS[4:], SCORES[4:])
    assert (kind, images) == ("scratch", 1)
    assert np.isnan(value)


def test_the_table_has_a_row_per_run_and_kind(tmp_path):
    contents = [run("nut", 80, seed=seed) for seed in (2, 1)]
    places = {store(tmp_path, content).parent: content for content in contents}
    table = kinds.kinds_table(places)
    assert list(table.columns) == kinds.COLUMNS
    assert list(table["seed"]) == [1, 1, 2, 2]
    assert list(table["kind"]) == ["hole", "scratch"] * 2
    assert list(table["value"]) == [50.0, 100.0] * 2
    assert set(table["method"]) == {"promptad"}


def test_scores_of_another_run_are_refused(tmp_path):
    content = run("nut", 80)
    place = store(tmp_path, content).parent
    arrays = {"names": np.array(NAMES), "labels": LABELS, "last_scores": SCORES}
    write_npz(place / "scores.npz", arrays, content["settings"] | {"class": "bolt"})
    with pytest.raises(UserError, match=r"scores\.npz: is of class bolt"):
        kinds.kinds_table({place: content})
