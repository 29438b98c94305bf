import shutil
from pathlib import Path

import numpy as np
import pytest

from evaluation import cached
from evaluation.cached import seen
from fsad.artifacts.files import (
    read_npz,
    read_record,
    read_settings,
    write_npz,
    write_record,
)
from fsad.backbones import readout
from fsad.errors import UserError
from fsad.evaluation.calibration import POINT, calibrate
from fsad.evaluation.detector import detect
from fsad.evaluation.restore import run_detector
from fsad.evaluation.runs import run_job
from fsad.methods.maps import full_maps

RUNS = {task: cached.RUN._replace(task=task) for task in ("cls", "seg")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, cache):
    """A results folder with finished runs, to be copied."""
    results = tmp_path_factory.mktemp("runs") / "results"
    shutil.copytree(cache, results)
    run_job(cached.run_job(results, cached.planned_sources(results), *RUNS.values()))
    return results


@pytest.fixture
def sources(tmp_path, runs):
    """The cached files of finished runs in a results folder of the test's own."""
    shutil.copytree(runs, tmp_path / "results")
    return cached.planned_sources(tmp_path / "results")


@pytest.fixture
def folders(tmp_path, sources):
    """Folders of the runs by task."""
    job = cached.run_job(tmp_path / "results", sources, *RUNS.values())
    return dict(zip(RUNS, job.folders, strict=True))


def rewrite(source, *, arrays=None, **settings):
    """Write a cached file again, with other arrays or settings."""
    path, _ = source
    known = read_npz(path), read_settings(path)
    write_npz(path, known[0] | (arrays or {}), known[1] | settings)


@pytest.mark.parametrize("task", RUNS)
def test_the_detector_of_a_run_predicts_as_the_run(folders, task):
    detector = run_detector(folders[task])
    scores, maps = detect(detector, seen(cached.image_sets()["test"]["images"]))
    stored = read_npz(f"{folders[task]}/scores.npz", "last_scores", "last_maps")
    assert scores == pytest.approx(stored["last_scores"], rel=1e-5)
    full = full_maps(stored["last_maps"], 16, sigma=4)
    assert maps == pytest.approx(full, rel=1e-5)


@pytest.mark.parametrize("task", RUNS)
def test_the_detector_is_calibrated_on_the_support_images(folders, task):
    detector = run_detector(folders[task])
    support = cached.feature_sets(detector.network.tower)["support"]
    images = cached.image_sets()["support"]["images"][:2, 0]
    first = {name: array[:2] for name, array in support.items()}
    expected = calibrate(detector, first, seen(images)).described
    for name in POINT:
        assert detector.described[name] == expected[name]


def test_a_run_of_another_version_has_no_threshold(folders):
    path = Path(folders["cls"], "metrics.json")
    found = read_record(path)
    write_record(path, {n: x for n, x in found.items() if n not in POINT})
    with pytest.raises(UserError, match=f"{path}: of a version without thresholds"):
        run_detector(folders["cls"])


def test_the_metrics_of_another_run_are_refused(folders):
    path = Path(folders["cls"], "metrics.json")
    Path(folders["seg"], "metrics.json").rename(path)
    with pytest.raises(UserError, match=f"{path}: is of task seg, not cls"):
        run_detector(folders["cls"])


def test_a_model_of_another_version_is_refused(folders):
    path = Path(folders["cls"], "model.npz")
    rewrite((path, None), code="older")
    with pytest.raises(UserError, match=f"{path}: is of code older, not"):
        run_detector(folders["cls"])


def test_the_detector_has_the_metadata_of_its_run(folders):
    described = run_detector(folders["cls"]).described
    assert described["run"] == read_settings(f"{folders['cls']}/model.npz")
    known = {name: described[name] for name in ("method", "task", "backbone")}
    assert known == {"method": "promptad", "task": "cls", "backbone": "tiny"}
    assert described["readout"] == readout.described(cached.READOUT)


def test_features_are_found_by_the_record_of_the_run(folders, sources):
    """Those of other backbones and readouts lie beside them, and are not read."""
    before = run_detector(folders["cls"]).described["threshold"]
    path = sources["support"].path
    for other in ("tiny/qq_dual", "large/original"):
        copy = path.replace("/tiny/original/", f"/{other}/")
        arrays = {name: np.zeros_like(x) for name, x in read_npz(path).items()}
        write_npz(copy, arrays, sources["support"].record)
    assert run_detector(folders["cls"]).described["threshold"] == before


@pytest.mark.parametrize("changed", [{"code": "new"}, {"made_from": "other images"}])
def test_features_made_otherwise_are_refused(folders, sources, changed):
    rewrite(sources["support"], **changed)
    with pytest.raises(
        UserError, match=r"tiny/original/own/nut/support_s1\.npz: is of"
    ):
        run_detector(folders["cls"])


@pytest.mark.parametrize("name", ["support", "support_images"])
@pytest.mark.parametrize(
    "images",
    [[["s0", "0"], ["s1", "other"]], [["s1", "1"], ["s0", "0"]], [["s0", "0"]]],
)
def test_other_support_images_are_refused(folders, sources, name, images):
    rewrite(sources[name], images=images)
    with pytest.raises(UserError, match=f"{sources[name].path}: is of support"):
        run_detector(folders["cls"])


def test_a_larger_draw_than_that_of_the_run_is_taken(folders, sources):
    """As after a later call with more shots: k shots are the first k of any draw."""
    before = run_detector(folders["cls"]).described["threshold"]
    arrays = read_npz(sources["support"].path)
    longer = {name: np.concatenate([x, x[:1]]) for name, x in arrays.items()}
    rewrite(sources["support"], arrays=longer, images=[*cached.DRAWN, ["s3", "3"]])
    assert run_detector(folders["cls"]).described["threshold"] == before


@pytest.mark.parametrize("name", ["support_images", "vision"])
def test_a_missing_file_is_named(tmp_path, folders, sources, name):
    (tmp_path / sources[name].path).unlink()
    with pytest.raises(UserError, match=sources[name].path):
        run_detector(folders["cls"])


@pytest.mark.parametrize("task", RUNS)
def test_features_that_are_not_kept_are_computed(tmp_path, folders, sources, task):
    images = cached.image_sets()["test"]["images"]
    before = run_detector(folders[task])
    (tmp_path / sources["support"].path).unlink()
    found = run_detector(folders[task])
    assert found.described == before.described
    for ours, expected in zip(
        *(detect(x, seen(images)) for x in (found, before)), strict=True
    ):
        assert np.array_equal(ours, expected)


def test_an_unfinished_run_is_refused(tmp_path, folders):
    (tmp_path / folders["cls"] / "metrics.json").unlink()
    with pytest.raises(UserError, match=f"{folders['cls']}: no finished run"):
        run_detector(folders["cls"])


def test_any_other_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: .*folder of a run"):
        run_detector(tmp_path)


def test_the_files_of_another_run_are_refused(tmp_path, folders):
    model = tmp_path / folders["cls"] / "model.npz"
    (tmp_path / folders["seg"] / "model.npz").rename(model)
    with pytest.raises(UserError, match=f"{model}: is of task seg, not cls"):
        run_detector(folders["cls"])


def test_the_results_can_be_moved(tmp_path, folders):
    before = run_detector(folders["cls"]).described["threshold"]
    moved = (tmp_path / "results").rename(tmp_path / "moved")
    folder = folders["cls"].replace(f"{tmp_path}/results", str(moved))
    assert run_detector(folder).described["threshold"] == before
