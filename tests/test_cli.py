"""The command line, as far as it does not train (that is tests/workflow)."""

import json
import sys
from unicodedata import normalize

import numpy as np
import pytest
import yaml
from PIL import Image

from fsad import cli
from fsad.data.layouts import GOOD
from fsad.demo import dataset, large
from helpers import write_class


def run(monkeypatch, *arguments):
    """Call `fsad` with arguments."""
    monkeypatch.setattr(sys, "argv", ["fsad", *map(str, arguments)])
    cli.main()


def noise(name, kind, rng):
    """An image and a mask in the place of those that are rendered."""
    image = rng.integers(0, 256, (8, 8, 3), np.uint8)
    return image, np.full((8, 8), 255 * (kind != GOOD), np.uint8)


@pytest.fixture
def small_demo(monkeypatch):
    """One small image of a kind instead of many; lists the seeds of calls."""
    calls, generate = [], dataset.generate

    def small(root, seed, good):
        calls.append((seed, good))
        generate(root, seed, train=1, good=1, defect=1)

    monkeypatch.setattr(dataset, "generate", small)
    monkeypatch.setattr(dataset, "render", noise)
    return calls


def test_demo_data_is_generated_once_for_a_seed(monkeypatch, tmp_path, small_demo):
    image = tmp_path / "data" / dataset.CLASSES[0] / "train/good/000.png"
    for _ in range(2):
        run(monkeypatch, "demo-data", tmp_path / "data")
    assert small_demo == [(0, 16)]
    assert {
        path.name for path in (tmp_path / "data").iterdir() if path.is_dir()
    } == set(dataset.CLASSES)
    assert (tmp_path / "data/prompts.yaml").is_file()
    first = image.read_bytes()
    run(monkeypatch, "demo-data", tmp_path / "data", "--seed", 1)
    assert small_demo == [(0, 16), (1, 16)]
    assert image.read_bytes() != first


def test_more_good_images_are_generated_on_demand(monkeypatch, tmp_path, small_demo):
    run(monkeypatch, "demo-data", tmp_path / "data")
    run(monkeypatch, "demo-data", tmp_path / "data", "--good", 3)
    assert small_demo == [(0, 16), (0, 3)]
    assert json.loads((tmp_path / "data/made_by.json").read_text())["good"] == 3


def test_the_number_of_large_images_is_fixed(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "demo-data", tmp_path / "data", "--large", "--good", 3)
    assert "error: --good: not with --large" in capsys.readouterr().err


def test_large_images_are_generated_on_demand(monkeypatch, tmp_path):
    monkeypatch.setattr(large, "render", noise)
    run(monkeypatch, "demo-data", "--large", tmp_path / "data")
    prompts = yaml.safe_load((tmp_path / "data/prompts.yaml").read_text())
    assert set(prompts) == set(large.EXTENTS)
    for name in large.EXTENTS:
        assert len([*tmp_path.glob(f"data/{name}/train/good/*.png")]) == 8
        assert len([*tmp_path.glob(f"data/{name}/test/good/*.png")]) == 8
        assert len([*tmp_path.glob(f"data/{name}/ground_truth/*/*.png")]) == 16


def test_a_folder_of_somebody_else_is_left_alone(monkeypatch, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        run(monkeypatch, "demo-data", tmp_path)
    assert f"error: {tmp_path}: exists and is no demo data" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("value", ["0", "-3", "two"])
def test_numbers_are_at_least_one(monkeypatch, capsys, value):
    place = ["--dataset", "d", "--class", "c", "--out", "o"]
    with pytest.raises(SystemExit):
        run(monkeypatch, "train", "cls", *place, "--epochs", value)
    assert f"'{value}' is not a number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e-60", "1e60", "much"])
def test_a_threshold_is_a_finite_number_above_0(monkeypatch, capsys, value):
    place = ["--run", "r", "--out", "o", "images"]
    with pytest.raises(SystemExit):
        run(monkeypatch, "predict", *place, f"--threshold={value}")
    message = f"--threshold: '{value}' is not a finite number above 0"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["5%", "0.05", "5 %", "5e-2"])
def test_a_share_is_a_percentage_or_a_fraction(text):
    assert cli._share(text) == 0.05


@pytest.mark.parametrize("value", ["5", "0%", "100%", "nan", "5%%", "", "-1%", "half"])
def test_any_other_share_is_refused_by_the_name_of_its_option(
    monkeypatch, capsys, value
):
    known = ["d.safetensors", "good", "--out", "o.safetensors"]
    with pytest.raises(SystemExit):
        run(monkeypatch, "calibrate", *known, f"--false-alarms={value}")
    message = f"argument --false-alarms: {value!r} is not a share between 0 and 1"
    assert message in capsys.readouterr().err


def test_a_class_may_be_named_in_another_unicode_form(monkeypatch, tmp_path):
    write_class(tmp_path / "parts", "ä")
    config, runs = tmp_path / "config.yaml", []
    source = {"layout": "folder", "root": str(tmp_path / "parts")}
    config.write_text(yaml.safe_dump({"datasets": {"own": source}}))
    monkeypatch.setattr("fsad.single.run_single", lambda _, run, *__: runs.append(run))
    monkeypatch.setattr(cli, "read_metrics", lambda _: {"last": {"image_auroc": 0}})
    place = ["--config", config, "--dataset", "own", "--out", tmp_path / "out"]
    run(monkeypatch, "train", "cls", *place, "--class", normalize("NFD", "ä"))
    assert [run.class_name for run in runs] == ["ä"]


def test_checked_data_gives_its_configuration(monkeypatch, tmp_path, capsys):
    write_class(tmp_path / "parts", "nut")
    run(monkeypatch, "check-data", tmp_path / "parts")
    output = capsys.readouterr()
    options = {"parts": {"layout": "folder", "root": str(tmp_path / "parts")}}
    assert yaml.safe_load(output.out)["datasets"] == options
    assert "nut: 4 good to learn from" in output.err


def test_wrong_data_is_told_and_ends_in_an_error(monkeypatch, tmp_path, capsys):
    folder = write_class(tmp_path / "parts", "nut")
    (folder / "test/good/000.png").write_bytes(b"")
    with pytest.raises(SystemExit, match="1"):
        run(monkeypatch, "check-data", tmp_path / "parts")
    output = capsys.readouterr()
    assert "problem: " in output.err
    assert output.err.endswith("parts: problems: 1\n")
    assert "datasets:" in output.out


def test_checked_data_may_be_larger_on_demand(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    folder = write_class(tmp_path / "parts", "nut", defects=())
    Image.new("RGB", (1001, 1000)).save(folder / "test/good/000.png")
    with pytest.raises(SystemExit, match="1"):
        run(monkeypatch, "check-data", tmp_path / "parts", "--max-megapixels", 1)
    problem = f"{folder}/test/good/000.png: has 1001000 pixels; raise `max_megapixels`"
    assert f"problem: {problem}" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="1"):
        run(monkeypatch, "check-data", tmp_path / "parts", "--max-megapixels", 2)
    assert "000.png: is nearly black" in capsys.readouterr().err
