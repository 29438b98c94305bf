import csv
import os

import numpy as np
import pytest
from PIL import Image

from fsad.artifacts.files import read_record
from fsad.data.images import read_image
from fsad.errors import UserError
from fsad.evaluation import predict as module
from fsad.evaluation.detector import detect, save_detectors, view_of
from fsad.evaluation.predict import open_detectors, predict, predict_entry


@pytest.fixture(scope="module")
def detector(make_detector, pixels):
    """A calibrated seg detector of the tiny CLIP."""
    described = {"threshold": 0.05, "map_range": [0.01, 0.2]}
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


def rows(out):
    with open(out / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_image_has_its_score_map_and_overlay(detector, photographs, tmp_path):
    counts = predict(detector, photographs, tmp_path / "out", 2)
    table = rows(tmp_path / "out")
    assert [row["image"] for row in table] == sorted(photographs)
    assert counts == (sum(int(row["anomalous"]) for row in table), 0)
    for row in table:
        image = view_of(detector, read_image(photographs[row["image"]]))
        (value,), (heat,) = detect(detector, np.stack([image]))
        assert float(row["score"]) == pytest.approx(value, rel=1e-5)
        assert row["threshold"] == "0.05"
        assert row["anomalous"] == str(int(value > np.float32(0.05)))
        path = tmp_path / "out/maps" / f"{row['image']}.tiff"
        assert np.asarray(Image.open(path)) == pytest.approx(heat, rel=1e-5)


def test_without_a_threshold_nothing_is_called_anomalous(
    make_detector, pixels, photographs, tmp_path
):
    """As at zero shots."""
    known = {"threshold": None, "map_range": [0.0, 1.0]}
    detector = make_detector(pixels[:1], "seg", **known)
    counts = predict(detector, photographs, tmp_path / "out", 1)
    assert counts == (None, 0)
    found = {(row["threshold"], row["anomalous"]) for row in rows(tmp_path / "out")}
    assert found == {("", "")}


def test_overlays_have_the_proportions_of_the_image(detector, photographs, tmp_path):
    predict(detector, photographs, tmp_path / "out", 1)
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
    counts = predict(detector, photographs, tmp_path / "out", 2)
    table = {row["image"]: row for row in rows(tmp_path / "out")}
    assert counts.failed == len(broken)
    for name, row in table.items():
        assert (row["score"] == "") == (name in broken) == (row["error"] != "")
    assert str(tmp_path / "belt/gone.png") in table["belt/gone.png"]["error"]


def test_a_batch_of_broken_images_stops_nothing(detector, photographs, tmp_path):
    for path in list(photographs.values())[:8]:
        path.write_bytes(b"")
    assert predict(detector, photographs, tmp_path / "out", 1).failed == 8
    assert sum(row["score"] != "" for row in rows(tmp_path / "out")) == 3


def test_doubtful_images_are_one_warning_a_kind(detector, tmp_path, caplog):
    """Nearly black, of one colour, and of another aspect than the support images."""
    arrays = {"a.png": np.zeros((20, 50, 3)), "b.png": np.full((20, 50, 3), 200)}
    arrays["c.png"] = np.random.default_rng(1).integers(0, 256, (50, 20, 3))
    for name, array in arrays.items():
        Image.fromarray(array.astype(np.uint8)).save(tmp_path / name)
    predict(detector, {name: tmp_path / name for name in arrays}, tmp_path / "out", 1)
    said = [message.removeprefix(f"{tmp_path}/")[:14] for message in caplog.messages]
    assert said == ["a.png: is near", "b.png: is of o", "c.png: is 20x5"]


def test_the_same_images_give_the_same_bytes(detector, photographs, tmp_path):
    for threads in (1, 3):
        predict(detector, photographs, tmp_path / str(threads), threads)
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
    assert predict(detector, photographs, tmp_path / "out", 1).failed == 1
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
    predict(detector, dict.fromkeys(names, path), tmp_path / "out", 1)
    table = rows(tmp_path / "out")
    expected = [*sorted(names[:-1]), "\\udcff.png"]
    assert [row["image"] for row in table] == expected
    for folder in ("maps", "overlays"):
        assert len([*(tmp_path / "out" / folder).iterdir()]) == len(names)


def test_a_detector_without_permission_is_named(tmp_path, unreadable):
    path = unreadable(tmp_path / "d.safetensors")
    with pytest.raises(UserError, match=r"d\.safetensors: cannot be read \(Permission"):
        open_detectors(path, "cpu")
