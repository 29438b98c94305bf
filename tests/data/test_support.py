import os
import unicodedata
from pathlib import Path

import pytest

from fsad.data.layouts import Sample, list_class
from fsad.data.support import draw_support
from fsad.errors import UserError
from helpers import write_class

TRAIN = [
    Sample(f"good/{i:03}.png", Path(f"/data/nut/train/good/{i:03}.png"), 0, None)
    for i in range(30)
]


def test_the_same_seed_and_class_draw_the_same():
    first = draw_support(TRAIN, "nut", 4, 111)
    assert draw_support(TRAIN, "nut", 4, 111) == first
    assert len(set(first)) == 4


@pytest.mark.parametrize(("name", "seed"), [("bolt", 111), ("nut", 112)])
def test_another_class_or_seed_draws_others(name, seed):
    assert draw_support(TRAIN, name, 4, seed) != draw_support(TRAIN, "nut", 4, 111)


def test_the_draw_does_not_change_with_releases():
    drawn = [sample.path.stem for sample in draw_support(TRAIN, "nut", 4, 111)]
    assert drawn == ["017", "015", "014", "021"]


def test_smaller_sets_start_larger_ones():
    largest = draw_support(TRAIN, "nut", 30, 111)
    for shots in (1, 2, 4, 8):
        assert draw_support(TRAIN, "nut", shots, 111) == largest[:shots]


def test_the_order_on_disk_does_not_matter(tmp_path, monkeypatch):
    write_class(tmp_path, "nut", train=6)
    listed = list_class("mvtec", tmp_path, "nut").train
    scan = os.scandir
    turned = lambda p: sorted(scan(p), key=lambda e: e.name, reverse=True)  # noqa: E731
    monkeypatch.setattr(os, "scandir", turned)
    assert list_class("mvtec", tmp_path, "nut").train == listed


def test_the_place_of_the_data_does_not_matter():
    moved = [s._replace(path=Path("/elsewhere") / s.path.name) for s in TRAIN]
    drawn, again = (draw_support(t, "nut", 4, 111) for t in (TRAIN, moved))
    assert [s.name for s in drawn] == [s.name for s in again]


def test_given_names_replace_the_draw_in_their_order():
    chosen = draw_support(TRAIN, "nut", 2, 111, ["007.png", "good/003.png", "001.png"])
    assert chosen == [TRAIN[7], TRAIN[3]]


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match=r"'999\.png'.*/data/nut/train/good"):
        draw_support(TRAIN, "nut", 1, 111, ["999.png"])


@pytest.mark.parametrize(("shots", "chosen"), [(31, None), (2, ["001.png"])])
def test_too_few_images_are_refused(shots, chosen):
    with pytest.raises(UserError, match=f"nut: {shots} shots"):
        draw_support(TRAIN, "nut", shots, 111, chosen)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_and_classes_may_be_of_another_unicode_form(form):
    def name(i):
        return unicodedata.normalize(form, f"Gehäuse_{i}.png")

    decomposed = [unicodedata.normalize("NFD", name(i)) for i in range(9)]
    train = [Sample(f"good/{n}", Path("train/good", n), 0, None) for n in decomposed]
    assert draw_support(train, "part", 1, 111, [name(3)]) == [train[3]]
    drawn = draw_support(train, unicodedata.normalize(form, "Gehäuse"), 4, 111)
    assert drawn == draw_support(train, "Gehäuse", 4, 111)
