import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsad.artifacts.files import read_record
from fsad.artifacts.names import nfc
from fsad.data.images import read_image
from fsad.data.overlay import png_name
from fsad.errors import UserError
from fsad.evaluation import predict as module
from fsad.evaluation.detector import Detector, detect, view_of
from fsad.evaluation.detector_files import save_detectors
from fsad.evaluation.predict import (
    detectors_of_images,
    open_detectors,
    predict,
    predict_entry,
    summary,
    with_threshold,
)


@pytest.fixture(scope="module")
def detector(make_detector, pixels):
    """A calibrated seg detector of the tiny CLIP."""
    described = {"threshold": 0.05, "map_range": [0.01, 0.2], "calibrated": {}}
    return make_detector(pixels[:1], "seg", **described)


@pytest.fixture
def photographs(tmp_path, pixels):
    """Eleven images of several kinds, more than a batch, by their names."""
    generator, files = np.random.default_rng(1), {}
    for index in range(11):
        shape = (20 + index, 50, 3) if index else (4, 1500, 3)
        array = pixels[0] if index == 5 else generator.integers(0, 256, shape)
        name = f"belt/{index:02}.{'jpg' if index % 2 else 'png'}"
        files[name] = tmp_path / name
        files[name].parent.mkdir(exist_ok=True)
        Image.fromarray(array.astype(np.uint8)).save(files[name])
    return files


def predict_with(detector, images, out, threads=1):
    """Rows of all images, predicted with one detector."""
    return predict(dict.fromkeys(images, detector), images, out, threads).rows


def failed(rows):
    return sum(row.error != "" for row in rows)


def rows(out):
    with open(out / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_image_has_its_score_map_and_overlay(detector, photographs, tmp_path):
    found = predict_with(detector, photographs, tmp_path / "out", 2)
    table = rows(tmp_path / "out")
    assert [row["image"] for row in table] == sorted(photographs)
    assert [tuple(row.values()) for row in table] == [(*map(str, x),) for x in found]
    for row in table:
        image = view_of(detector, read_image(photographs[row["image"]]))
        (value,), (heat,) = detect(detector, np.stack([image]))
        assert float(row["score"]) == pytest.approx(value, rel=1e-5)
        assert (row["class"], row["threshold"], row["error"]) == ("nut", "0.05", "")
        assert float(row["normalised"]) == pytest.approx(value / 0.05, rel=1e-5)
        assert row["anomalous"] == str(int(value > np.float32(0.05)))
        path = tmp_path / "out/maps" / f"{row['image']}.tiff"
        assert np.asarray(Image.open(path)) == pytest.approx(heat, rel=1e-5)


def test_files_of_a_killed_prediction_are_removed(detector, photographs, tmp_path):
    left = tmp_path / "out/maps/belt/.gone.png.tiff.77.tmp"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    predict_with(detector, photographs, tmp_path / "out")
    assert not left.exists()


def test_without_a_threshold_nothing_is_called_anomalous(
    make_detector, pixels, photographs, tmp_path
):
    """As at zero shots."""
    known = {"threshold": None, "map_range": [0.0, 1.0]}
    detector = make_detector(pixels[:1], "seg", **known)
    found = predict_with(detector, photographs, tmp_path / "out")
    assert summary(found) == "11 images scored, without a threshold"
    empty = ("threshold", "normalised", "anomalous")
    assert {row[name] for row in rows(tmp_path / "out") for name in empty} == {""}


def test_a_threshold_of_zero_has_no_multiples(detector, photographs, tmp_path):
    """As with two equal support images."""
    zero = with_threshold({"nut": detector}, 0.0)["nut"]
    found = predict_with(zero, photographs, tmp_path / "out")
    assert {(row.normalised, row.anomalous) for row in found} == {(None, 1)}


def test_overlays_have_the_proportions_of_the_image(detector, photographs, tmp_path):
    predict_with(detector, photographs, tmp_path / "out")
    sizes = {
        path.name: Image.open(path).size
        for path in (tmp_path / "out/overlays/belt").iterdir()
    }
    assert len(sizes) == 11
    assert sizes["00.png"] == (1024, 3)
    assert sizes["03.jpg.png"] == (50, 23)


def test_an_image_that_cannot_be_read_has_its_reason_in_the_table(
    detector, photographs, tmp_path
):
    broken = [*sorted(photographs)[:8:2], "belt/gone.png"]
    for name in broken[:-1]:
        photographs[name].write_bytes(photographs[name].read_bytes()[:40])
    photographs["belt/gone.png"] = tmp_path / "belt/gone.png"
    found = predict_with(detector, photographs, tmp_path / "out", 2)
    table = {row["image"]: row for row in rows(tmp_path / "out")}
    assert failed(found) == len(broken)
    for name, row in table.items():
        assert (row["score"] == "") == (name in broken) == (row["error"] != "")
    assert str(tmp_path / "belt/gone.png") in table["belt/gone.png"]["error"]


def test_a_batch_of_broken_images_stops_nothing(detector, photographs, tmp_path):
    for path in list(photographs.values())[:8]:
        path.write_bytes(b"")
    assert failed(predict_with(detector, photographs, tmp_path / "out")) == 8
    assert sum(row["score"] != "" for row in rows(tmp_path / "out")) == 3


def test_doubtful_images_are_one_warning_a_kind(detector, tmp_path, caplog):
    """Nearly black, of one colour, and of another aspect than the support images."""
    arrays = {"a.png": np.zeros((20, 50, 3)), "b.png": np.full((20, 50, 3), 200)}
    arrays["c.png"] = np.random.default_rng(1).integers(0, 256, (50, 20, 3))
    for name, array in arrays.items():
        Image.fromarray(array.astype(np.uint8)).save(tmp_path / name)
    images = {name: tmp_path / name for name in arrays}
    predict_with(detector, images, tmp_path / "out")
    said = [message.removeprefix(f"{tmp_path}/")[:14] for message in caplog.messages]
    assert said == ["a.png: is near", "b.png: is of o", "c.png: is 20x5"]


def test_the_same_images_give_the_same_bytes(detector, photographs, tmp_path):
    for threads in (1, 3):
        predict_with(detector, photographs, tmp_path / str(threads), threads)
    for path in (tmp_path / "1").rglob("*.*"):
        twin = tmp_path / "3" / path.relative_to(tmp_path / "1")
        assert path.read_bytes() == twin.read_bytes()


@pytest.fixture
def entry(detector, monkeypatch, tmp_path):
    """Predicts a folder of images with the detector, as an entry of `predict`."""
    monkeypatch.setattr(module, "run_detector", lambda run, device: detector)
    record = {"images": "all", "run": {"options": {"device": "cpu"}}}

    def run(folder):
        predict_entry(tmp_path / "run", folder, tmp_path / "out", record, threads=1)
        return record

    return run


def test_an_entry_stores_its_record_beside_the_table(entry, photographs, tmp_path):
    record = entry(tmp_path / "belt")
    assert read_record(tmp_path / "out/record.json") == record
    assert len(rows(tmp_path / "out")) == len(photographs)


def test_an_entry_without_any_readable_image_is_refused(entry, photographs, tmp_path):
    for path in photographs.values():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=f"{tmp_path}/belt: no image there can be read"):
        entry(tmp_path / "belt")
    assert not (tmp_path / "out/record.json").exists()


def test_a_detector_is_opened_from_a_file(detector, tmp_path):
    save_detectors(tmp_path / "d.safetensors", [detector])
    loaded = open_detectors(tmp_path / "d.safetensors", "cpu")["nut"]
    assert loaded.described["threshold"] == detector.described["threshold"]
    with pytest.raises(UserError, match="nowhere: no such run, nor a file of"):
        open_detectors("nowhere", "cpu")
    (tmp_path / "d.onnx").touch()
    with pytest.raises(UserError, match=r"d\.onnx: is a graph of ONNX; take"):
        open_detectors(tmp_path / "d.onnx", "cpu")


@pytest.mark.parametrize("work", ["read_image", "view_of", "overlay"])
def test_an_image_that_raises_anything_stops_no_other(
    detector, photographs, tmp_path, monkeypatch, caplog, work
):
    original, odd = getattr(module, work), []

    def raise_once(*arguments):
        if not odd:
            odd.append(1)
            raise TypeError("odd\nmetadata")
        return original(*arguments)

    monkeypatch.setattr(module, work, raise_once)
    assert failed(predict_with(detector, photographs, tmp_path / "out")) == 1
    first, *others = rows(tmp_path / "out")
    assert first["error"] == f"{first['image']}: TypeError: odd metadata"
    assert not any(row["error"] for row in others)
    assert len(others) == 10
    assert "Traceback" in caplog.text


def test_names_that_are_long_or_alike_have_files_of_their_own(detector, tmp_path):
    names = [
        "字" * 82 + ".png",
        "a.jpg",
        "a.jpg.png",
        "caf\u00e9.png",
        "cafe\u0301.png",
    ]
    names.append(os.fsdecode(b"\xff.png"))
    path = tmp_path / "same.png"
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(path)
    predict_with(detector, dict.fromkeys(names, path), tmp_path / "out")
    table = rows(tmp_path / "out")
    expected = [*sorted(names[:-1]), "\\udcff.png"]
    assert [row["image"] for row in table] == expected
    for folder in ("maps", "overlays"):
        assert len([*(tmp_path / "out" / folder).iterdir()]) == len(names)


def test_a_detector_without_permission_is_named(tmp_path, unreadable):
    path = unreadable(tmp_path / "d.safetensors")
    with pytest.raises(UserError, match=r"d\.safetensors: cannot be read \(Permission"):
        open_detectors(path, "cpu")


@pytest.fixture
def two_classes(make_detector, pixels):
    """Detectors of a nut and a bolt, with one network and other support images."""
    known = {"map_range": [0.01, 0.2]}
    nut = make_detector(pixels[:1], "seg", **known, threshold=0.05)
    bolt = make_detector(pixels[1:2], "seg", **known, threshold=None)
    described = bolt.described | {"class": "bolt"}
    return {"nut": nut, "bolt": bolt._replace(described=described)}


def test_images_of_several_classes_have_the_scores_of_their_detectors(
    two_classes, photographs, tmp_path
):
    names = sorted(photographs)
    assigned = {n: two_classes["bolt" if i % 3 else "nut"] for i, n in enumerate(names)}
    found = predict(assigned, photographs, tmp_path / "all", 1).rows
    assert [row.image for row in found] == names
    for name, detector in two_classes.items():
        own = [image for image in names if assigned[image] is detector]
        images = {image: photographs[image] for image in own}
        alone = predict_with(detector, images, tmp_path / name)
        assert [row for row in found if row.class_name == name] == alone
        for path in (tmp_path / name / "maps").rglob("*.tiff"):
            twin = tmp_path / "all" / path.relative_to(tmp_path / name)
            assert path.read_bytes() == twin.read_bytes()
    anomalous = sum(row.anomalous == 1 for row in found)
    assert summary(found) == (
        f"{anomalous} of 11 images are anomalous, 7 have no threshold"
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("bolt/1.png", "bolt"),
        ("nut/bolt/good/1.png", "bolt"),
        ("bolt/../nut/1.png", "nut"),
        ("caf\u00e9/1.png", "cafe\u0301"),
    ],
)
def test_the_class_of_an_image_is_its_innermost_folder_of_this_name(
    tmp_path, path, expected
):
    named = {nfc(name): nfc(name) for name in ("nut", "bolt", "cafe\u0301")}
    found = detectors_of_images(named, {"1.png": tmp_path / path})
    assert found == {"1.png": nfc(expected)}


def test_links_stay_in_the_class_that_they_lie_in(tmp_path):
    path = tmp_path / "bolt/1.png"
    for folder in ("nut", "bolt"):
        (tmp_path / folder).mkdir()
    path.symlink_to("../nut/1.png")
    found = detectors_of_images({"nut": 0, "bolt": 1}, {"1.png": path})
    assert found == {"1.png": 1}


def test_a_relative_path_has_the_class_of_the_folder_it_is_in(tmp_path, monkeypatch):
    (tmp_path / "bolt").mkdir()
    monkeypatch.chdir(tmp_path / "bolt")
    found = detectors_of_images({"nut": 0, "bolt": 1}, {"1.png": Path("1.png")})
    assert found == {"1.png": 1}


@pytest.mark.parametrize("name", ["bolt.png", "bolts/1.png", "Bolt/1.png"])
def test_an_image_of_no_class_is_named(tmp_path, name):
    path = tmp_path / name
    message = f"{path}: lies in no folder .*nut, bolt.*--class"
    with pytest.raises(UserError, match=message):
        detectors_of_images({"nut": 0, "bolt": 1}, {name: path})


def test_a_named_class_is_that_of_all_images(tmp_path):
    known, images = {"nut": 0, "bolt": 1}, {"a.png": tmp_path / "nut/a.png"}
    assert detectors_of_images(known, images, "bolt") == {"a.png": 1}
    assert detectors_of_images({"nut": 0}, {"a.png": tmp_path / "a.png"}) == {
        "a.png": 0
    }
    with pytest.raises(UserError, match=r"class: 'ring' is not there; take nut, bolt"):
        detectors_of_images(known, images, "ring")


def test_another_threshold_decides_otherwise_on_the_same_scores(
    detector, photographs, tmp_path
):
    before = predict_with(detector, photographs, tmp_path / "before")
    limit = float(np.median([row.score for row in before]))
    other = with_threshold({"nut": detector}, limit)["nut"]
    after = predict_with(other, photographs, tmp_path / "after")
    assert [row.score for row in after] == [row.score for row in before]
    assert sum(row.anomalous for row in after) == 5
    assert {row.threshold for row in after} == {np.float32(limit)}


def test_a_multiple_of_the_threshold_is_above_1_for_anomalous_images_alone():
    """Also one step of float32 above and below the threshold."""
    for threshold in np.random.default_rng(0).uniform(1e-3, 2, 1000).astype(np.float32):
        described = {"class": "nut", "threshold": float(threshold)}
        detector = Detector(None, None, None, described)
        for limit in (0, np.float32(9)):
            score = np.nextafter(threshold, np.float32(limit))
            row = module._row(detector, "a.png", score)
            assert (row.normalised > 1) == (row.anomalous == 1) == (score > threshold)


def test_every_step_has_its_time(detector, photographs, tmp_path):
    assigned = dict.fromkeys(photographs, detector)
    found = predict(assigned, photographs, tmp_path / "out", 1)
    assert [*found.seconds] == ["decode", "network", "score", "write"]
    assert min(found.seconds.values()) > 0


def test_every_overlay_is_shown_once_with_its_image(detector, photographs, tmp_path):
    calls, assigned = [], dict.fromkeys(photographs, detector)
    photographs["belt/03.jpg"].write_bytes(b"")
    out = tmp_path / "out"
    predict(assigned, photographs, out, 2, lambda *shown: calls.append(shown))
    assert sorted(name for name, *_ in calls) == sorted(
        {*photographs} - {"belt/03.jpg"}
    )
    for name, shown, drawn in calls:
        path = out / "overlays" / png_name(name)
        np.testing.assert_array_equal(drawn, np.asarray(Image.open(path)))
        assert shown.shape == drawn.shape
