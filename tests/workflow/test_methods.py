"""Methods without training, side by side on several backbones, end to end."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fsad.artifacts.files import read_npz
from project import Project

RUN = "runs/{name}/own/bolt/k2/s111/{task}"
FILES = "model.npz", "scores.npz", "history.csv", "metrics.json"
TINY = {"model": "tiny.json", "pretrained": "random"}
RESNET = {"library": "timm", "model": "resnet18", "pretrained": "random"}
BACKBONES = {"tiny": TINY, "resnet": RESNET | {"image_size": 32}}
EXPERIMENTS = {
    "patchcore": {"method": "patchcore", "backbone": "resnet", "coreset": 0.5},
    "anomalydino": {"method": "anomalydino", "backbone": "tiny", "rotations": 2},
    "tiles": {"method": "anomalydino", "backbone": "tiny", "rotations": 2},
    "edge": {"method": "subspacead", "backbone": "tiny", "rotations": 2},
}
EXPERIMENTS["winclip"] = {"method": "winclip", "backbone": "tiny"}
EXPERIMENTS["edge"]["fit"] = "edge"
EXPERIMENTS["tiles"] |= {"tiles": {"size": 25, "overlap": 0.2}, "whole": True}
EXPERIMENTS["tiles"] |= {"position": "near"}
OPTIONS = {"backbones": BACKBONES, "experiments": EXPERIMENTS, "shots": [0, 2]}
OPTIONS |= {"datasets": {"own": {"layout": "folder", "root": "data"}}}


@pytest.fixture(scope="module")
def free(tmp_path_factory):
    """A finished project of one class; one of its test images is wider."""
    project = Project(tmp_path_factory.mktemp("free")).write()
    shutil.rmtree(project.folder / "data/metal_nut")
    from PIL import Image

    path = project.folder / "data/bolt/test/good/001.png"
    Image.open(path).resize((60, 40)).save(path)
    project.configure(**OPTIONS)
    project.snakemake()
    return project


COMPUTED = "tiles", "winclip"


def assert_same_run(first, second):
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_tables_name_method_and_backbone(free):
    table = pd.read_csv(free.folder / "results/tables/metrics.csv")
    found = table[["experiment", "method"]].drop_duplicates().to_numpy().tolist()
    assert sorted(found) == [
        ["anomalydino", "anomalydino"],
        ["edge", "subspacead"],
        ["patchcore", "patchcore"],
        ["tiles", "anomalydino"],
        ["winclip", "winclip"],
    ]
    backbones = dict(table[["experiment", "backbone"]].to_numpy())
    assert backbones["patchcore"] == "resnet18_random0_px32"
    assert backbones["edge"] == backbones["anomalydino"] != backbones["patchcore"]


def test_images_of_several_shapes_are_scored_in_their_order(free):
    cached = read_npz(free.folder / "results/cache/own/bolt/test_edge32.npz")
    assert cached["images.0"].shape[1:3] != cached["images.1"].shape[1:3]
    scores = read_npz(
        free.folder / "results" / RUN.format(name="edge", task="seg") / ("scores.npz")
    )
    assert scores["names"].tolist() == cached["names"].tolist()
    assert scores["last_maps"].shape == (7, 32, 32)


def test_wider_images_have_more_tiles(free):
    folder = free.folder / "results/cache/own/bolt"
    cached = read_npz(folder / "test_px32_tiles25o0.2_whole.npz")
    assert cached["images.0"].shape == (6, 2, 2, 32, 32, 3)
    assert cached["images.1"].shape == (1, 2, 3, 32, 32, 3)
    assert cached["whole.1"].shape == (1, 32, 32, 3)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_run_by_hand_gives_the_bytes_of_the_pipeline(free, tmp_path, name):
    task = "cls" if name == "patchcore" else "seg"
    place = ["--experiment", name, "--dataset", "own", "--class", "bolt"]
    given = [*place, "--shots", "2", "--config", free.config, "--out", tmp_path / "out"]
    free.fsad("train", task, *given)
    made = free.folder / "results" / RUN.format(name=name, task=task)
    assert_same_run(tmp_path / "out", made)


def test_features_that_are_not_kept_give_the_same_runs_and_nothing_else(free):
    """Of tiles, and of a method that reads words; tests/evaluation has all methods."""
    runs = [RUN.format(name=n, task=t) for n in COMPUTED for t in ("cls", "seg")]
    targets = [f"other/{run}/metrics.json" for run in runs]
    options = "--config", "keep_features=false", "results=other"
    free.snakemake(*targets, *options)
    other = free.folder / "other"
    for run in runs:
        assert_same_run(other / run, free.folder / "results" / run)
    towers = {path.name for path in (other / "features").rglob("*.*")}
    assert towers == {"vision.safetensors", "text.safetensors"}
    again = free.snakemake(*targets, *options)
    assert "Nothing to be done" in again.stderr
    predict(free, Path("other") / runs[0], "computed")
    predict(free, Path("results") / runs[0], "kept")
    assert_same_files(free.folder / "computed", free.folder / "kept")


def predict(project, run, out):
    project.fsad("predict", "--run", run, "data/bolt/test", "--out", out)


def assert_same_files(first, second):
    """Both folders hold the same files, and the same bytes in each."""
    found = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (first, second)
    ]
    assert found[0] == found[1]
    assert found[0]


ZERO = RUN.replace("k2", "k0")


def test_zero_shots_are_one_row_of_the_methods_that_can(free):
    table = pd.read_csv(free.folder / "results/tables/metrics.csv")
    zero = table[table["shots"] == 0]
    assert set(zero["experiment"]) == {"winclip"}
    assert set(table["experiment"]) == {*EXPERIMENTS}
    wide = (free.folder / "results/tables/own_cls.md").read_text()
    rows = [line for line in wide.splitlines() if line.startswith("| winclip")]
    assert rows
    assert "±" not in "".join(rows)


def test_every_experiment_has_jobs_for_its_shots_and_tasks(tmp_path):
    """Also where a class has no masks, and where there are zero shots alone."""
    project = Project(tmp_path).write()
    shutil.rmtree(tmp_path / "data/bolt/ground_truth")
    experiments = {name: EXPERIMENTS[name] for name in ("winclip", "patchcore")}
    few_and_zero = OPTIONS | {"experiments": experiments, "vis": True}
    project.configure(**few_and_zero)
    kinds = ["", "_few", "_cls", "_few_cls"]
    rules = {
        f"{rule}{kind}" for rule in ("train_class", "draw_panels") for kind in kinds
    }
    planned = project.planned()
    assert {name: planned.get(name) for name in rules} == dict.fromkeys(rules, 1)
    project.configure(**few_and_zero | {"shots": [0]})
    planned = project.planned()
    found = {name: planned[name] for name in rules if name in planned}
    zero = {name for name in rules if "few" not in name}
    assert found == dict.fromkeys(zero, 1)


def test_zero_shots_by_hand_give_the_bytes_of_the_pipeline(free, tmp_path):
    given = ["--experiment", "winclip", "--dataset", "own", "--class", "bolt"]
    given += ["--shots", "0", "--config", free.config, "--out", tmp_path / "out"]
    free.fsad("train", "cls", *given)
    made = free.folder / "results" / ZERO.format(name="winclip", task="cls")
    assert_same_run(tmp_path / "out", made)


def test_zero_shots_predict_scores_without_a_threshold(free, tmp_path):
    run = Path("results") / ZERO.format(name="winclip", task="seg")
    predict(free, run, tmp_path / "kept")
    free.fsad("export", "--run", run, "--out", tmp_path / "zero.safetensors")
    predict(free, tmp_path / "zero.safetensors", tmp_path / "exported")
    assert_same_files(tmp_path / "kept", tmp_path / "exported")
    table = pd.read_csv(tmp_path / "kept/scores.csv", index_col="image")
    empty = ["threshold", "normalised", "anomalous"]
    assert table[empty].isna().all(axis=None)
    scores = read_npz(free.folder / run / "scores.npz")
    expected = dict(zip(scores["names"], scores["last_scores"], strict=True))
    assert table["score"].to_dict() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["edge", "tiles", "winclip"])
def test_both_tasks_predict_the_same_in_place_and_exported(free, tmp_path, name):
    """On the images of the run with its scores, those of several shapes too."""
    folders = []
    for task in ("cls", "seg"):
        run = Path("results") / RUN.format(name=name, task=task)
        predict(free, run, tmp_path / task)
        free.fsad("export", "--run", run, "--out", tmp_path / f"{task}.safetensors")
        predict(free, tmp_path / f"{task}.safetensors", tmp_path / f"{task}_exported")
        folders += [tmp_path / task, tmp_path / f"{task}_exported"]
    for folder in folders[1:]:
        assert_same_files(folders[0], folder)
    table = pd.read_csv(folders[0] / "scores.csv", index_col="image")
    run = read_npz(
        free.folder / "results" / RUN.format(name=name, task="cls") / ("scores.npz")
    )
    expected = dict(zip(run["names"], run["last_scores"], strict=True))
    assert table["score"].to_dict() == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(table["threshold"]).all()
