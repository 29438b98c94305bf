import csv
import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from fsad.methods.promptad.scores import peak_scores

from fsad.artifacts import files, provenance
from fsad.backbones import embed
from fsad.backbones.readout import VARIANTS
from fsad.backbones.transformer import save_tower
from fsad.errors import UserError
from fsad.evaluation import metrics, runs
from fsad.methods.maps import full_maps
from helpers import NEEDS_GPU, OPTIONS, relative_error

FILES = ("model.npz", "scores.npz", "history.csv", "metrics.json")


@pytest.fixture(scope="module")
def cached(towers, tokens):
    """Tokens, test and support features of random images, and masks."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (6, 32, 32, 3), np.uint8)
    masks = np.zeros((4, 16, 16), np.uint8)
    masks[2, 3:8, 4:9] = masks[3, 10:, 10:] = 1
    labels, names = np.array([0, 0, 1, 1], np.uint8), np.array(["g0", "g1", "d0", "d1"])
    arrays = {"images": images[:4], "labels": labels, "names": names}
    chosen = {"images": images[4:], "names": np.array(["s0", "s1"])}
    variant = VARIANTS["original"]
    test = embed.embed_test(towers[0], arrays, variant)
    support = embed.embed_support(towers[0], chosen, test, variant)
    return tokens, test, support, masks


@pytest.fixture(scope="module", params=["cls", "seg"])
def task(request):
    return request.param


@pytest.fixture(scope="module")
def write(towers, cached):
    """Writes a run of a task into a folder."""

    def write(folder, task, **changed):
        tokens, test, support, masks = cached
        masks = masks if task == "seg" else None
        known = towers[1], tokens, test, [support], masks
        runs.run_from_arrays([folder], [settings(task, **changed)], *known)
        return folder

    return write


@pytest.fixture(scope="module")
def folder(tmp_path_factory, task, write):
    return write(tmp_path_factory.mktemp(task) / "run", task)


def settings(task, **changed):
    where = {"dataset": "own", "class": "nut", "variant": "original"}
    draw = {"shots": 2, "seed": 1}
    return {"task": task, **where, **draw, "options": OPTIONS | changed}


def assert_same_files(first, second):
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def results(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_is_four_files(folder):
    assert {path.name for path in folder.iterdir()} == set(FILES)


def test_a_run_twice_gives_the_same_bytes(folder, tmp_path, task, write):
    assert_same_files(write(tmp_path / "again", task), folder)


def made_by(script, **changed):
    where = {"dataset": "own", "class_name": "nut"}
    return provenance.origin(f"{script}.py", **where) | changed


@pytest.fixture
def inputs(tmp_path, task, towers, cached):
    """The cached files that a run reads, as the pipeline makes them."""
    save_tower(
        tmp_path / "text.safetensors",
        towers[1],
        made_by("backbone", backbone_name=tmp_path.name, part="text"),
    )
    names = "prompts", "test", "support"
    stored = dict(zip(names, cached, strict=False))
    if task == "seg":
        stored["masks"] = {"masks": cached[3]}
    for name, arrays in stored.items():
        files.write_npz(tmp_path / f"{name}.npz", arrays, made_by(MAKERS[name]))
    files = {name: tmp_path / f"{name}.npz" for name in stored}
    files["tower"] = tmp_path / "text.safetensors"
    files["support"] = [files["support"]]
    return files


MAKERS = {
    "prompts": "tokenize_prompts",
    "test": "embed_test",
    "support": "embed_support",
    "masks": "preprocess_masks",
}


def test_a_run_from_files_gives_the_same_bytes(folder, tmp_path, task, inputs):
    runs.run_from_files([tmp_path / "again"], [settings(task)], **inputs)
    assert_same_files(tmp_path / "again", folder)


START = """
import json, sys
from fsad.evaluation import runs
folder, settings, inputs = json.loads(sys.argv[1])
runs.run_from_files([folder], [settings], **inputs)
print(*sys.modules)
"""
SLOW = {
    "torch._dynamo",
    "torchvision",
    "open_clip",
    "scipy",
    "sklearn",
    "pandas",
    "matplotlib",
    "snakemake",
}


def test_a_job_loads_nothing_slow_that_it_does_not_need(tmp_path, task, inputs):
    given = json.dumps([tmp_path / "run", settings(task), inputs], default=str)
    command = [sys.executable, "-c", START, given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not SLOW & set(done.stdout.split())


@pytest.mark.parametrize("changed", [{"code": "old"}, {"class_name": "bolt"}])
@pytest.mark.parametrize("kind", ["prompts", "test", "support"])
def test_files_of_another_origin_are_refused(tmp_path, task, inputs, kind, changed):
    path = tmp_path / f"{kind}.npz"
    made = made_by(MAKERS[kind], **changed)
    files.write_npz(path, files.read_npz(path), made)
    ((name, value),) = changed.items()
    with pytest.raises(UserError, match=f"{path}: is of {name} {value}, not"):
        runs.run_from_files([tmp_path / "a"], [settings(task)], **inputs)


def test_a_support_of_another_draw_is_refused(tmp_path, task, inputs):
    path = tmp_path / "support.npz"
    made = made_by("embed_support", shots=2, seed=5)
    files.write_npz(path, files.read_npz(path), made)
    with pytest.raises(UserError, match=f"{path}: is of seed 5, not 1"):
        runs.run_from_files([tmp_path / "a"], [settings(task)], **inputs)


def test_a_tower_of_other_code_is_refused(tmp_path, task, inputs, towers):
    save_tower(tmp_path / "text.safetensors", towers[1], {"code": "old"})
    with pytest.raises(UserError, match=r"text\.safetensors: is of code old, not"):
        runs.run_from_files([tmp_path / "a"], [settings(task)], **inputs)


def test_runs_of_one_pass_are_those_of_their_own(tmp_path, write, towers, cached):
    tokens, test, support, masks = cached
    wanted = [("cls", {"n_pro": 3}), ("seg", {"n_pro": 1}), ("cls", {"seed": 2})]
    folders = [tmp_path / f"together{i}" for i in range(len(wanted))]
    identities = [settings(task, **changed) for task, changed in wanted]
    known = towers[1], tokens, test, [support] * len(wanted), masks
    runs.run_from_arrays(folders, identities, *known)
    for folder, (task, changed) in zip(folders, wanted, strict=True):
        alone = write(tmp_path / f"{folder.name}_alone", task, **changed)
        assert_close_runs(folder, alone)


def assert_close_runs(folder, expected):
    for ours, other in zip(figures(folder), figures(expected), strict=True):
        assert ours == pytest.approx(other, abs=1e-6)
    ours, other = (files.read_npz(f / "model.npz") for f in (folder, expected))
    for name in ours:
        assert relative_error(ours[name], other[name]) < 1e-5


@NEEDS_GPU
def test_a_run_on_a_gpu_is_that_of_the_cpu(folder, tmp_path, task, write):
    gpu = write(tmp_path / "gpu", task, device="cuda")
    assert_close_runs(gpu, folder)
    histories = (pd.read_csv(f / "history.csv") for f in (gpu, folder))
    pd.testing.assert_frame_equal(*histories, rtol=1e-4)


@NEEDS_GPU
def test_a_run_twice_on_a_gpu_gives_the_same_bytes(tmp_path, task, write):
    folders = [write(tmp_path / name, task, device="cuda") for name in ("one", "two")]
    assert_same_files(*folders)


def figures(folder):
    """The detection figures of a run."""
    for selection in metrics.SELECTIONS:
        found = results(folder)[selection]
        yield found.pop("parts") | found


def test_another_seed_gives_another_run(folder, tmp_path, task, write):
    other = write(tmp_path / "other", task, seed=2)
    ours, theirs = (files.read_npz(f / "model.npz") for f in (folder, other))
    assert not np.array_equal(ours["last_normal"], theirs["last_normal"])


def test_the_model_holds_contexts_and_prompts_of_last_and_best(folder):
    model = files.read_npz(folder / "model.npz")
    shapes = {"normal": (2, 2, 16), "abnormal": (3, 1, 16), "prompts": (2, 24)}
    assert {name: array.shape for name, array in model.items()} == {
        f"{selection}_{name}": shape
        for selection in ("last", "best")
        for name, shape in shapes.items()
    }


def test_scores_hold_the_predictions(folder, task, cached):
    scores = files.read_npz(folder / "scores.npz")
    shape = {"cls": (4,), "seg": (4, 4, 4)}[task]
    assert scores["names"].tolist() == ["g0", "g1", "d0", "d1"]
    assert scores["labels"].tolist() == [0, 0, 1, 1]
    for name in ("last", "last_textual", "best", "best_textual"):
        assert scores[name].shape == shape


def test_scores_hold_the_visual_maps(folder, cached):
    visual = files.read_npz(folder / "scores.npz", "visual")["visual"]
    assert np.array_equal(visual, cached[2]["visual"])


def test_parts_are_the_aurocs_of_text_and_memory_alone(folder, task, cached):
    scores = files.read_npz(folder / "scores.npz")
    for selection in metrics.SELECTIONS:
        parts = {"textual": scores[f"{selection}_textual"], "visual": scores["visual"]}
        if task == "cls":
            parts["visual"] = full_peaks(scores["visual"])
            expected = {n: metrics.auroc(scores["labels"], p) for n, p in parts.items()}
        else:
            maps = {name: full_maps(part, 16) for name, part in parts.items()}
            expected = {n: metrics.auroc(cached[3], m) for n, m in maps.items()}
        assert results(folder)[selection]["parts"] == expected


def full_peaks(visual):
    return peak_scores(torch.from_numpy(visual), 16).numpy()


def test_metrics_are_those_of_the_stored_scores(folder, task, cached):
    scores = files.read_npz(folder / "scores.npz")
    for selection in metrics.SELECTIONS:
        if task == "cls":
            expected = metrics.image_metrics(scores["labels"], scores[selection])
        else:
            maps = full_maps(scores[selection], 16)
            expected = metrics.pixel_metrics(cached[3], maps)
        found = results(folder)[selection]
        assert {name: found[name] for name in expected} == expected
        assert found.keys() == expected.keys() | {"epoch", "parts"}


def test_the_epochs_of_last_and_best_are_told(folder):
    assert results(folder)["last"]["epoch"] == 4
    assert results(folder)["best"]["epoch"] in (2, 4)


def test_history_has_a_row_for_every_epoch(folder, task):
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    auroc = metrics.METRICS[task][0]
    losses = ["cross_entropy", "triplet", "match", "total"]
    assert list(rows[0]) == ["epoch", "lr", *losses, auroc]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row[auroc] != "" for row in rows] == [False, True, False, True]
    assert all(math.isfinite(float(row[name])) for row in rows for name in losses)


def test_the_last_auroc_of_the_history_is_the_reported_one(folder, task):
    last = (folder / "history.csv").read_text().splitlines()[-1].split(",")[-1]
    expected = results(folder)["last"][metrics.METRICS[task][0]]
    assert float(last) == pytest.approx(expected, abs=1e-3)


def test_settings_and_versions_are_stored(folder, task):
    stored = results(folder)["settings"]
    assert settings(task).items() <= stored.items()
    assert "torch" in stored["provenance"]["versions"]
    for name in ("model.npz", "scores.npz"):
        text = files.read_npz(folder / name, "settings")["settings"]
        assert json.loads(str(text)) == stored


def test_without_all_files_there_are_no_metrics(tmp_path, write, monkeypatch):
    monkeypatch.setattr(runs, "_history", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "run", "cls")
    assert not (tmp_path / "run/metrics.json").exists()
