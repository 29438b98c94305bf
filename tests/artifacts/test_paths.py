import re
from pathlib import Path

import pytest

from fsad.artifacts.paths import (
    TREE,
    Run,
    fill,
    is_artefact,
    parse_run,
    results_tree,
    run_path,
)
from fsad.errors import UserError

RUNS = [
    Run("original", "own", "metal_nut", "cls", 1, 111),
    Run("a.b-c", "my data", "k1", "seg", 16, 0),
    Run("runs", "runs", "runs", "runs", 4, 7),
]
OF_RUNS = [name for name, path in TREE._asdict().items() if path.startswith(TREE.run)]


@pytest.mark.parametrize("run", RUNS)
def test_a_run_is_found_by_its_folder(tmp_path, run):
    folder = run_path(results_tree(tmp_path).run, run)
    results, found = parse_run(folder)
    assert (results, found) == (tmp_path, run)
    assert run_path(results_tree(results).run, found) == folder


@pytest.mark.parametrize("name", OF_RUNS)
def test_every_path_of_a_run_leads_to_its_key_and_back(name):
    below = getattr(TREE, name)[len(TREE.run) :]  # in the folder of the run
    path = run_path(getattr(results_tree("/results"), name), RUNS[0])
    results, run = parse_run(path.removesuffix(below))
    assert (results, run) == (Path("/results"), RUNS[0])
    assert run_path(getattr(results_tree(results), name), run) == path


def test_the_files_of_a_run_have_names_of_their_own():
    files = {"run", "metrics", "history", "scores", "model", "panels", "panels_record"}
    assert set(OF_RUNS) == files
    assert len({getattr(TREE, name) for name in OF_RUNS}) == len(OF_RUNS)


def test_a_relative_folder_is_found(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder = run_path(results_tree("out").run, RUNS[0])
    assert parse_run(folder) == (tmp_path / "out", RUNS[0])


@pytest.mark.parametrize(
    "folder",
    [
        "/results/runs/original/own/nut/k1/s111",
        "/results/runs/original/own/nut/k1/s111/cls/vis",
        "/results/runs/original/own/nut/1/111/cls",
        "/results/runs/original/own/nut/kx/s111/cls",
        "/results/original/own/nut/k1/s111/cls",
    ],
)
def test_another_folder_is_refused(folder):
    with pytest.raises(UserError, match=f"^{folder}: no folder of a run"):
        parse_run(folder)


def test_all_patterns_lie_below_the_results():
    for pattern, path in zip(TREE, results_tree("out"), strict=True):
        assert path == f"out/{pattern}"


def test_some_keys_are_filled_and_others_stay():
    path = fill(TREE.support_images, class_name="nut", seed=1)
    assert path == "cache/{dataset}/nut/support_s1_{view}.npz"
    assert not re.search("[{}]", fill(path, dataset="own", view="px32"))


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("out/features/ViT/vision.safetensors", True),
        ("out/runs/original/own/nut/k1/s111/cls/metrics.json", True),
        ("digests.json", True),
        ("metrics.json", False),
        ("out/vision.safetensors", False),
        ("out/tables", False),
    ],
)
def test_files_that_jobs_make_are_known_by_their_paths(path, made):
    assert is_artefact(path) == made
