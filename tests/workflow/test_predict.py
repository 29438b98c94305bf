"""Trained runs on new images: in place, exported, and as a rule."""

import csv
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from evaluation.cached import seen
from fsad.data.layouts import list_class
from fsad.evaluation.detector import detect
from fsad.evaluation.detector_files import load_detectors, save_detectors
from fsad.evaluation.restore import run_detector
from fsad.methods.maps import full_maps
from project import Project

RUN = "results/runs/original/own/bolt/k{shots}/s111/{task}"
SPEED = r"\n{count} images, .* a second, .* ms an image \(decode .*\); write .*\n$"
TEST_IMAGES = "results/cache/own/bolt/test_px32.npz"


def table(folder):
    """Rows of a prediction by image name."""
    with open(folder / "scores.csv", newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def file_bytes(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("task", ["cls", "seg"])
def test_a_run_scores_its_test_images_as_it_did(finished, task, shots):
    folder = finished.folder / RUN.format(task=task, shots=shots)
    detector = run_detector(folder)
    images = np.load(finished.folder / TEST_IMAGES)["images"]
    scores, maps = detect(detector, seen(images))
    run = np.load(folder / "scores.npz")
    # Equal but for rounding: threads may share a sum in another way.
    np.testing.assert_allclose(scores, run["last_scores"], 1e-6)
    expected = full_maps(run["last_maps"], 32, float(run["sigma"]))
    np.testing.assert_allclose(maps, expected, 1e-5, 1e-7)


def test_predict_writes_scores_maps_and_overlays(finished, tmp_path):
    run = RUN.format(task="cls", shots=2)
    call = "predict", "--run", run, "data/bolt/test", "--out", tmp_path
    done = finished.fsad(*call)
    assert not (tmp_path / "page.html").exists()
    assert re.search(SPEED.format(count=len(table(tmp_path))), done.stdout)
    rows, scores = table(tmp_path), np.load(finished.folder / run / "scores.npz")
    assert list(rows) == sorted(scores["names"])
    for name, value in zip(scores["names"], scores["last_scores"], strict=True):
        row = rows[name]
        assert float(row["score"]) == pytest.approx(value, rel=1e-5)
        assert row["error"] == ""
        assert int(row["anomalous"]) == (float(row["score"]) > float(row["threshold"]))
        heat = np.asarray(Image.open(tmp_path / "maps" / f"{name}.tiff"))
        assert (heat.shape, heat.dtype) == ((32, 32), np.float32)
        assert Image.open(tmp_path / "overlays" / name).size == (40, 40)


def test_predict_names_images_over_its_limit(finished, tmp_path):
    Image.new("RGB", (1001, 1000)).save(tmp_path / "a.png")
    shutil.copy(finished.folder / "data/bolt/test/good/000.png", tmp_path / "b.png")
    call = ["predict", tmp_path, "--run", RUN.format(task="cls", shots=1)]
    call += ["--max-megapixels", "1", "--out", tmp_path / "out"]
    assert finished.fsad(*call, check=False).returncode == 1
    rows = table(tmp_path / "out")
    assert "has 1001000 pixels; raise `max_megapixels`" in rows["a.png"]["error"]
    assert rows["b.png"]["error"] == ""


def test_an_exported_file_needs_nothing_else(finished, tmp_path):
    run, away = RUN.format(task="seg", shots=2), tmp_path / "away"
    shutil.copytree(finished.folder / "data/bolt/test", away / "photographs")
    file = away / "bolt.safetensors"
    finished.fsad("export", "--run", run, "--out", file)
    predict = ["predict", away / "photographs", "--run"]
    finished.fsad(*predict, run, "--out", tmp_path / "in_place")
    Project(away).fsad(*predict, file.name, "--out", "out")
    assert file_bytes(away / "out") == file_bytes(tmp_path / "in_place")
    described = load_detectors(file)["bolt"].described
    (features,) = finished.folder.glob("results/features/*_random0")
    assert described["backbone"] == features.name
    assert described["run"]["class"] == "bolt"


@pytest.fixture
def two_classes(finished, tmp_path):
    """A file of two detectors, and a folder with images of both classes."""
    bolt, other = (
        run_detector(finished.folder / RUN.format(task=task, shots=2))
        for task in ("seg", "cls")
    )
    other = other._replace(described=other.described | {"class": "nut"})
    save_detectors(tmp_path / "two.safetensors", [bolt, other])
    for name in ("bolt", "nut"):
        folder = tmp_path / "images" / name
        shutil.copytree(finished.folder / "data/bolt/test", folder)
    return tmp_path / "two.safetensors"


def test_images_of_two_classes_are_scored_from_one_file(finished, two_classes):
    folder, out = two_classes.parent / "images", two_classes.parent / "out"
    call = "predict", "--run", two_classes
    finished.fsad(*call, folder, "--out", out, "--threshold", "0.25", "--html")
    rows = table(out)
    for task, name in (("seg", "bolt"), ("cls", "nut")):
        run = RUN.format(task=task, shots=2)
        scores = np.load(finished.folder / run / "scores.npz")
        for image, score in zip(scores["names"], scores["last_scores"], strict=True):
            row = rows[f"{name}/{image}"]
            assert (row["class"], row["threshold"]) == (name, "0.25")
            assert float(row["score"]) == pytest.approx(score, rel=1e-5)
    page = (out / "page.html").read_text()
    assert page.count("data:image/webp") == 2 * len(rows)
    for name in ("bolt", "nut"):
        own = two_classes.parent / name
        finished.fsad(*call, folder / "bolt", "--out", own, "--class", name)
        assert {row["class"] for row in table(own).values()} == {name}


def test_an_image_of_none_of_several_classes_is_named(finished, two_classes):
    image = two_classes.parent / "a.png"
    shutil.copy(finished.folder / "data/bolt/test/good/000.png", image)
    out = two_classes.parent / "out"
    call = "predict", "--run", two_classes, two_classes.parent, "--out", out
    done = finished.fsad(*call, check=False)
    assert f"error: {image}: lies in no folder with the name of a class" in done.stderr
    assert not out.exists()


def test_a_page_is_never_overwritten(finished, tmp_path):
    (tmp_path / "page.html").write_text("mine")
    call = "predict", "--run", RUN.format(task="cls", shots=1), "data", "--html"
    done = finished.fsad(*call, "--out", tmp_path, check=False)
    assert f"--out: {tmp_path} holds scores already" in done.stderr
    assert (tmp_path / "page.html").read_text() == "mine"


def test_an_unreadable_image_is_told_and_the_others_go_on(finished, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(finished.folder / "data/bolt/test/good", images)
    (images / "001.png").write_bytes(b"no image")
    run, absent = RUN.format(task="cls", shots=1), tmp_path / "images/9.png"
    arguments = ["--run", run, images, absent, "--out", tmp_path / "out"]
    done = finished.fsad("predict", *arguments, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("error: 2 of 4 images could not be read\n")
    assert f"{images / '001.png'}: cannot be read as an image" in done.stderr
    rows = table(tmp_path / "out")
    assert [name for name, row in rows.items() if row["error"]] == ["001.png", "9.png"]
    assert [name for name, row in rows.items() if row["score"]] == [
        *("000.png", "002.png")
    ]


def test_the_rule_scores_a_folder_and_follows_it(copied):
    run = RUN.format(task="seg", shots=1).removeprefix("results/runs/")
    option = f"predict={{line: {{run: {run}, images: data/bolt/test}}}}"
    assert copied.planned("--config", option) == {"predict": 1, "all": 1, "total": 2}
    copied.snakemake("--config", option)
    found = copied.folder / "results/predict/line"
    names = {s.name for s in list_class("folder", copied.folder / "data", "bolt").test}
    assert table(found).keys() == names
    assert len(list((found / "overlays").rglob("*.png"))) == len(names)
    assert copied.planned("--config", option) == {}
    new = copied.folder / "data/bolt/test/late.png"
    shutil.copy(copied.folder / "data/bolt/test/good/000.png", new)
    assert copied.planned("--config", option) == {"predict": 1, "all": 1, "total": 2}
    new.write_bytes(b"no image")
    new.with_name("gone.png").symlink_to("nowhere.png")
    Image.new("RGB", (1001, 1000)).save(new.with_name("large.png"))
    copied.snakemake("--config", option, "max_megapixels=1")
    assert "cannot be read as an image" in table(found)["late.png"]["error"]
    assert "No such file" in table(found)["gone.png"]["error"]
    assert "raise `max_megapixels`" in table(found)["large.png"]["error"]


def test_the_rule_names_a_run_that_is_not_planned(finished):
    option = "predict={line: {run: original/own/bolt/k3/s111/seg, images: data}}"
    run = finished.snakemake("--dry-run", "--config", option, check=False)
    assert run.returncode == 1
    assert "predict.line.run: no such run in this configuration" in run.stdout
    assert "original/own/bolt/k2/s111/seg" in run.stdout


def test_features_of_another_support_are_not_taken(copied):
    folder = copied.folder / RUN.format(task="cls", shots=1)
    features = copied.folder.glob("results/features/*/original/own/*/support_s111.npz")
    first, second = sorted(features)
    shutil.copy(second, first)
    done = copied.fsad("predict", "--run", folder, "data", "--out", "out", check=False)
    assert done.returncode == 1
    assert "another file in its place" in done.stderr
    assert not (copied.folder / "out").exists()


WRONG = {
    "no such run": (["--run", "nowhere"], "nowhere: no such run, nor a file of"),
    "no run": (["--run", "data"], "data: no folder of a run"),
    "no exported file": (["--run", "tiny.json"], "tiny.json: is not a whole detector"),
    "no image": (["--run", RUN, "results"], "results: holds no image"),
    "another class": (
        ["--run", RUN, "--class", "nut"],
        "class: 'nut' is not there; take",
    ),
    "unknown device": (["--run", RUN, "--device", "tpu"], "device: 'tpu' is neither"),
}


@pytest.mark.parametrize("case", WRONG)
def test_predict_names_what_is_wrong(finished, case):
    arguments, message = WRONG[case]
    arguments = [text.format(task="cls", shots=1) for text in arguments]
    done = finished.fsad("predict", *arguments, "data", "--out", "out", check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (finished.folder / "out").exists()


def test_predict_never_overwrites_scores(finished, tmp_path):
    (tmp_path / "scores.csv").write_text("image,score\n")
    run = RUN.format(task="cls", shots=1)
    done = finished.fsad(
        "predict", "--run", run, "data", "--out", tmp_path, check=False
    )
    assert done.returncode == 1
    assert f"--out: {tmp_path} holds scores already" in done.stderr
