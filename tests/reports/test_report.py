"""The whole report, of two data sets with a class of the same name."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fsad.artifacts.content import content_digest
from fsad.artifacts.files import read_npz, read_settings, write_npz
from fsad.artifacts.paths import Run
from fsad.artifacts.sources import Source
from fsad.errors import UserError
from fsad.evaluation.metrics import METRICS
from fsad.reports.report import example_runs, write_report
from reports.contents import run, store

SIZE = 8
LABELS = np.array([0, 1])
EXPERIMENTS = ["first", "second"]
CLASSES = {"own": ["nut"], "other": ["nut", "bolt"]}
PLACES = [(dataset, name) for dataset, names in CLASSES.items() for name in names]


def store_runs(results):
    """The files of all runs; their records by metrics.json. `other` has no masks."""
    records = {}
    for (dataset, name), experiment in product(PLACES, EXPERIMENTS):
        for task in METRICS if dataset == "own" else ["cls"]:
            keys = {"dataset": dataset, "experiment": experiment}
            options = {"epochs": 10, "resolution": SIZE}
            content = run(name, 80, task, **keys, options=options)
            table = f"epoch,{METRICS[task][0]}\n5,70\n10,80\n"
            content["history"] = content_digest(table)
            path = store(results, content)
            (path.parent / "history.csv").write_text(table)
            store_arrays(path.parent, content)
            records[str(path)] = content["settings"]
    return records


def store_arrays(folder, content):
    maps = np.random.default_rng(0).random((2, 2, 2)).astype(np.float32)
    arrays = {"labels": LABELS, "last_scores": maps.max((1, 2)), "last_maps": maps}
    arrays["sigma"] = np.array(1.0)
    write_npz(folder / "scores.npz", arrays, content["settings"])


def store_images(folder):
    """Cached images of all classes, and masks of those of `own`."""
    cached = []
    for dataset, name in PLACES:
        names = np.array(["good/0.png", f"{dataset}_{name}/1.png"])
        images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
        masks = np.zeros((2, SIZE, SIZE), np.uint8)
        masks[1, 2:4, 2:4] = 1
        notes = np.array([f"{name}/1.png: is nearly black"])
        arrays = {
            "images": {"images": images, "names": names, "notes": notes},
            "masks": {"masks": masks, "notes": notes[:0]},
        }
        for stage in ["images", "masks"] if dataset == "own" else ["images"]:
            path = str(folder / f"{dataset}_{name}_{stage}.npz")
            settings = {"stage": stage, "dataset": dataset, "class": name}
            write_npz(path, arrays[stage], settings)
            cached.append(Source(path, settings))
    return cached


def write(folder, records, cached, experiments=EXPERIMENTS, classes=CLASSES):
    order = {"experiments": experiments, "classes": classes}
    jobs = {"benchmarks": folder / "benchmarks", "threads": 2, "notes": ["assumed"]}
    write_report(folder / "report", records, order, cached, jobs)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder of all pages."""
    folder = tmp_path_factory.mktemp("report")
    write(folder, store_runs(folder), store_images(folder))
    return folder / "report"


def test_every_data_set_and_experiment_has_its_pages(pages):
    kinds = ("history", "scores", "examples")
    of_each = (f"{d}/{e}/{k}.html" for d in CLASSES for e in EXPERIMENTS for k in kinds)
    names = "overview", "methods"
    overviews = (f"{dataset}/{name}.html" for dataset in CLASSES for name in names)
    found = {str(path.relative_to(pages)) for path in pages.rglob("*.*")}
    assert found == {*of_each, *overviews, "times.html", "settings.html"}


def test_pages_are_titled_by_their_data_set_and_experiment(pages):
    for dataset, experiment in product(CLASSES, EXPERIMENTS):
        for path in (pages / dataset / experiment).iterdir():
            assert f"<h1>{dataset}: {experiment}" in path.read_text()
        overview = (pages / dataset / "overview.html").read_text()
        assert f"<h1>{dataset}: overview" in overview


def test_classes_of_one_name_show_the_images_of_their_own_data_set(pages):
    for dataset, names in CLASSES.items():
        text = (pages / dataset / "first/examples.html").read_text()
        for place in PLACES:
            shown = "{}_{}/1.png".format(*place) in text
            assert shown == (place[0] == dataset and place[1] in names)


def test_pixels_are_shown_where_there_are_masks(pages):
    assert (
        "pixel AUROC of this image" in (pages / "own/first/examples.html").read_text()
    )
    assert ", score 0." in (pages / "other/first/examples.html").read_text()


def test_the_settings_are_those_of_all_runs(pages):
    text = (pages / "settings.html").read_text()
    assert "first, second" in text
    assert "own, other" in text


def test_the_settings_begin_with_reasons_to_doubt_inputs(pages):
    text = (pages / "settings.html").read_text()
    notes = ["assumed", *(f"{d}/{n}: {n}/1.png: is nearly black" for d, n in PLACES)]
    assert [text.count(note) for note in notes] == [1] * 4


def test_a_run_of_another_record_is_refused(tmp_path):
    records = {p: r | {"code": "later"} for p, r in store_runs(tmp_path).items()}
    with pytest.raises(UserError, match="is of code now, not later"):
        write(tmp_path, records, [])
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    "name", ["scores.npz", "history.csv", "own_nut_images.npz", "own_nut_masks.npz"]
)
def test_another_file_in_its_place_is_refused_by_name(tmp_path, name):
    """Of one class, whose pages alone are drawn before."""
    records, cached = store_runs(tmp_path), store_images(tmp_path)
    records = {path: r for path, r in records.items() if "/first/own/nut/" in path}
    path = next(path for path in tmp_path.rglob(name) if "second" not in path.parts)
    if path.suffix == ".npz":
        settings = read_settings(path) | {"class": "bolt"}
        write_npz(path, read_npz(path), settings)
    else:
        path.write_text("epoch,image_auroc,pixel_auroc\n5,1,1\n")
    with pytest.raises(UserError, match=rf"{name}: (is of class bolt|damaged)"):
        write(tmp_path, records, cached[:2], ["first"], {"own": ["nut"]})


def key(task, shots, seed, name="nut"):
    return Run("first", "own", name, task, shots, seed)


@pytest.mark.parametrize(
    ("runs", "shown"),
    [
        ([("cls", 1, 1), ("seg", 1, 1)], ("seg", 1, 1)),
        ([("cls", 4, 1), ("seg", 1, 1)], ("seg", 1, 1)),
        ([("cls", 1, 1), ("cls", 4, 1), ("cls", 2, 1)], ("cls", 4, 1)),
        ([("seg", 2, 7), ("seg", 2, 1)], ("seg", 2, 7)),
    ],
)
def test_pixels_most_shots_and_the_first_seed_are_shown(runs, shown):
    keys = {Path(str(index)): key(*run) for index, run in enumerate(runs)}
    assert list(example_runs(keys).values()) == [key(*shown)]


def test_each_class_has_its_example():
    keys = {Path(name): key("cls", 1, 1, name) for name in ("nut", "bolt")}
    assert example_runs(keys) == keys
