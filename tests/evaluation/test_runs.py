import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from evaluation import cached
from fsad.artifacts.files import read_npz, read_record, read_settings, write_npz
from fsad.artifacts.schema import with_defaults
from fsad.artifacts.sources import Embedding, Source
from fsad.artifacts.stages import check_record
from fsad.backbones.features import FeatureSet
from fsad.backbones.networks import open_network
from fsad.backbones.tower import save_tower
from fsad.data.groups import stacked
from fsad.data.masks import IGNORED
from fsad.errors import UserError
from fsad.evaluation import metrics, runs
from fsad.evaluation.calibration import POINT
from fsad.evaluation.detector import Detector
from fsad.evaluation.inputs import Inputs, first_rows, new_detector
from fsad.evaluation.tasks import Truth
from fsad.methods.base import Prediction, Step, Text
from fsad.methods.maps import NOMINAL, full_maps, picture_map
from fsad.methods.patches import peak_scores
from fsad.methods.registry import METHODS, method_schema
from helpers import NEEDS_GPU, relative_error

FILES = ("model.npz", "scores.npz", "history.csv", "metrics.json")
LABELS = np.array([0, 0, 1, 1], np.uint8)


# A method and its fit


class Still:
    """A detector that gives the same scores to all images, and lists its calls."""

    sigma = 0.0

    def __init__(self, scores, observed):
        self.scores, self.observed = scores, observed
        self.support, self.learned = {}, {}

    def observe(self, features):
        self.observed.append(features)
        return {"device": torch.zeros(1)}

    def predict(self, observed):
        maps = torch.zeros(len(self.scores), 2, 2)
        return Prediction(torch.tensor(self.scores), maps, {})


class Listed(NamedTuple):
    """A method whose detectors are listed, None where an epoch is not evaluated."""

    detectors: list

    def fit(self, support, key):
        for epoch, detector in enumerate(self.detectors, 1):
            yield Step(epoch, {"seed": key[0]}, detector)


WORST, HALF, BEST = [1.0, 1, 0, 0], [1.0, 0, 1, 0], [0.0, 0, 1, 1]  # AUROC 0, 50, 100


def fit(*scores, labels=LABELS):
    """Evaluations and history of detectors with these scores, and the observations."""
    observed = []
    detectors = [None if x is None else Still(x, observed) for x in scores]
    record = {"task": "cls", "options": {"resolution": 16}}
    steps, truth = Listed(detectors).fit({}, (7, 0)), Truth(labels, None)
    found = runs.evaluate(steps, record, truth, observing)
    return *found, observed


def observing(detector):
    """What a detector sees of test images of one shape."""
    return [(np.arange(4), detector.observe({"name": "test features"}))]


def test_best_is_the_first_best_and_last_the_last():
    found, *_ = fit(WORST, BEST, BEST, HALF)
    assert found["best"][:2] == (2, 100)
    assert found["last"][:2] == (4, 50)


def test_each_evaluation_keeps_its_own_detector_and_prediction():
    found, *_ = fit(BEST, HALF)
    assert found["best"].detector.scores == BEST
    assert found["best"].prediction.scores.tolist() == BEST
    assert found["last"].prediction.scores.tolist() == HALF


def test_the_history_has_a_row_an_epoch_and_auroc_on_schedule():
    _, history, _ = fit(None, HALF, None, BEST)
    assert history == [
        {"epoch": 1, "seed": 7},
        {"epoch": 2, "seed": 7, "auroc": 50},
        {"epoch": 3, "seed": 7},
        {"epoch": 4, "seed": 7, "auroc": 100},
    ]


def test_the_test_images_are_observed_once():
    *_, observed = fit(HALF, None, BEST, HALF)
    assert observed == [{"name": "test features"}]


def test_without_training_last_and_best_are_one_evaluation():
    found, history, _ = fit(HALF)
    assert found["last"] is found["best"]
    assert len(history) == 1


def test_with_one_kind_of_image_there_is_still_a_best():
    found, *_ = fit(HALF, BEST, labels=np.zeros(4, np.uint8))
    assert (found["best"].epoch, found["last"].epoch) == (1, 2)
    assert math.isnan(found["best"].auroc)


# A run from arrays


@pytest.fixture(scope="module", params=["cls", "seg"])
def task(request):
    return request.param


def truth(task, count=4):
    masks = cached.mask_set()[:count] if task == "seg" else None
    return Truth(LABELS[:count], masks)


def settings(run=cached.RUN, **changed):
    return cached.run_record(cached.planned_sources("results"), run, **changed)


def inputs(features, task, text=None):
    """What runs read, from arrays; text: towers and tokens."""
    test = features["test"]
    blocks = {n: x for n, x in test.items() if n not in ("labels", "names")}
    rows = np.arange(len(test["names"]))
    whole = slice(0, len(rows))
    known = test["labels"], test["names"], [rows], lambda: [(0, whole, blocks)]

    def support(record):
        count = len(record["support"])
        return {n: array[:count] for n, array in features["support"].items()}

    def detector(record, fitted):
        if text is None:
            return Detector(None, None, fitted, {})
        drawn = cached.image_sets()["support"]
        images = first_rows(drawn, len(record["support"]))
        tower = text[0][0].to(record["options"]["device"], "float32")
        return new_detector(open_network(tower), record, images, fitted)

    words, true = text and Text(text[0][1], text[1]), truth(task, len(rows))
    return Inputs(FeatureSet(*known), support, detector, words, true)


@pytest.fixture(scope="module")
def write(towers, tokens, features):
    """Writes a run into a folder."""

    def write(folder, task, seed=1, **changed):
        run = cached.RUN._replace(task=task, seed=seed)
        record = settings(run, **changed)
        runs.make_runs([(folder, record)], inputs(features, task, (towers, tokens)))
        return folder

    return write


def test_a_run_needs_no_test_images(tmp_path, towers, tokens, features, task):
    none = {n: array[:0] for n, array in features["test"].items()}
    known = inputs(features | {"test": none}, task, (towers, tokens))
    runs.make_runs([(tmp_path, settings(cached.RUN._replace(task=task)))], known)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    last = metrics.read_metrics(tmp_path / "metrics.json")["last"]
    values = [last[name] for name in metrics.METRICS[task]]
    assert all(map(math.isnan, values))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, task, write):
    return write(tmp_path_factory.mktemp(task) / "run", task)


def assert_same_files(first, second):
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def results(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_is_four_files(folder):
    assert {path.name for path in folder.iterdir()} == set(FILES)


def test_a_run_twice_gives_the_same_bytes(folder, tmp_path, task, write):
    assert_same_files(write(tmp_path / "again", task), folder)


def test_another_seed_gives_another_run(folder, tmp_path, task, write):
    other = write(tmp_path / "other", task, seed=2)
    ours, theirs = (read_npz(f / "model.npz") for f in (folder, other))
    assert not np.array_equal(ours["last_normal"], theirs["last_normal"])


def figures(folder):
    """The detection figures of a run."""
    for selection in metrics.SELECTIONS:
        found = results(folder)[selection]
        yield found.pop("components") | found


def assert_close_runs(folder, expected):
    for ours, other in zip(figures(folder), figures(expected), strict=True):
        assert ours == pytest.approx(other, abs=1e-6)
    ours, other = (read_npz(f / "model.npz") for f in (folder, expected))
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


def test_the_model_holds_the_learned_tensors_of_last_and_best(folder):
    model = read_npz(folder / "model.npz")
    shapes = {"normal": (2, 2, 16), "abnormal": (3, 1, 16), "prompts": (2, 24)}
    shapes |= {"logit_scale": ()}
    assert {name: array.shape for name, array in model.items()} == {
        f"{selection}_{name}": shape
        for selection in metrics.SELECTIONS
        for name, shape in shapes.items()
    }


def test_scores_hold_scores_maps_and_components(folder, task):
    scores = read_npz(folder / "scores.npz")
    images, maps = (4,), (4, 4, 4)
    component = images if task == "cls" else maps
    shapes = {"scores": images, "maps": maps}
    shapes |= {"text_probability": component, "memory_distance": component}
    assert scores.pop("names").tolist() == ["g0", "g1", "d0", "d1"]
    assert scores.pop("labels").tolist() == [0, 0, 1, 1]
    assert scores.pop("sigma") == 4
    assert {name: array.shape for name, array in scores.items()} == {
        f"{selection}_{name}": shape
        for selection in metrics.SELECTIONS
        for name, shape in shapes.items()
    }


def test_an_image_scores_by_fusion_or_by_the_maximum_of_its_full_map(folder, task):
    scores = read_npz(folder / "scores.npz")
    for selection in metrics.SELECTIONS:
        found = scores[f"{selection}_scores"]
        if task == "seg":
            full = full_maps(scores[f"{selection}_maps"], 16, sigma=4)
            assert np.array_equal(found, full.max((1, 2)))
            continue
        maps = torch.from_numpy(scores[f"{selection}_maps"])
        distance = scores[f"{selection}_memory_distance"]
        assert np.array_equal(distance, peak_scores(maps, 16).numpy())
        text = scores[f"{selection}_text_probability"]
        assert found == pytest.approx(1 / (1 / text + 1 / distance), rel=1e-6)


def area(values, task):
    """AUROC of scores, or of maps at their full size."""
    if task == "cls":
        return metrics.auroc(LABELS, values)
    return metrics.auroc(cached.mask_set(), full_maps(values, 16, sigma=4))


def test_components_are_the_aurocs_of_text_and_memory_alone(folder, task):
    scores = read_npz(folder / "scores.npz")
    for selection in metrics.SELECTIONS:
        assert results(folder)[selection]["components"] == {
            name: pytest.approx(area(scores[f"{selection}_{name}"], task), abs=1e-3)
            for name in ("text_probability", "memory_distance")
        }


def test_metrics_are_those_of_the_stored_scores(folder, task):
    scores = read_npz(folder / "scores.npz")
    for selection in metrics.SELECTIONS:
        if task == "cls":
            expected = metrics.image_metrics(LABELS, scores[f"{selection}_scores"])
        else:
            full = full_maps(scores[f"{selection}_maps"], 16, sigma=4)
            expected = metrics.pixel_metrics(cached.mask_set(), full)
        found = results(folder)[selection]
        assert {name: found[name] for name in expected} == expected
        assert found.keys() == expected.keys() | {"epoch", "components"}


def test_the_epochs_of_last_and_best_are_recorded(folder):
    assert results(folder)["last"]["epoch"] == 4
    assert results(folder)["best"]["epoch"] in (2, 4)


def test_the_threshold_and_where_it_comes_from_are_recorded(folder, task):
    found = results(folder)
    low, high = found["map_range"]
    assert 0 <= low < high
    assert found["calibrated"]["images"] == 2
    if task == "seg":
        assert found["threshold"] == pytest.approx((low + high) / 2, rel=1e-6)


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


def test_the_record_and_versions_are_stored(folder, task):
    stored = results(folder)["settings"]
    check_record(folder, stored, settings(cached.RUN._replace(task=task)))
    assert "torch" in stored["provenance"]["versions"]
    for name in ("model.npz", "scores.npz"):
        assert read_settings(folder / name) == stored


def test_without_all_files_there_are_no_metrics(tmp_path, write, monkeypatch):
    monkeypatch.setattr(runs, "_history", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "run", "cls")
    assert not (tmp_path / "run/metrics.json").exists()


def test_a_run_without_training_has_one_epoch_and_nothing_learned(
    tmp_path, features, monkeypatch
):
    module = ModuleType("still")
    module.create = lambda task, options, text: Listed([Still(HALF, [])])
    monkeypatch.setitem(sys.modules, "still", module)
    record = settings() | {"module": "still"}
    runs.make_runs([(tmp_path / "run", record)], inputs(features, "cls"))
    found = results(tmp_path / "run")
    assert found["last"] == found["best"]
    assert (found["last"]["epoch"], found["last"]["components"]) == (1, {})
    assert read_npz(tmp_path / "run/model.npz") == {}
    history = (tmp_path / "run/history.csv").read_text()
    assert history == "epoch,seed,image_auroc\n1,1,50.0\n"
    assert runs.is_finished(tmp_path / "run", record)


# Runs from cached files


CLS, SEG = (cached.RUN._replace(task=task) for task in ("cls", "seg"))


def test_a_run_from_files_gives_the_same_bytes(folder, tmp_path, task, sources):
    job = cached.run_job(tmp_path / "results", sources, cached.RUN._replace(task=task))
    runs.run_job(job)
    assert_same_files(tmp_path / job.folders[0], folder)


def test_the_bytes_of_a_run_do_not_depend_on_its_neighbours(tmp_path, sources):
    neighbours = [CLS, SEG, CLS._replace(shots=1), SEG._replace(seed=2)]
    together = cached.run_job(tmp_path / "together", sources, *neighbours)
    runs.run_job(together)
    for run, folder in zip(neighbours, together.folders, strict=True):
        alone = cached.run_job(tmp_path / "alone", sources, run)
        runs.run_job(alone)
        assert_same_files(tmp_path / folder, tmp_path / alone.folders[0])


SHAPES = [(40, 24), (32, 48), (40, 24), (32, 48)]


@pytest.fixture
def raw_job(tmp_path, sources):
    """A job at `resolution: raw`, of pictures of two sizes, and their masks."""
    masks = [np.zeros(shape, np.uint8) for shape in SHAPES]
    masks[2][8:20, 4:9] = masks[3][20:, 30:] = 1
    masks[3][:, :3] = IGNORED
    known = sources["masks"].record | {"resolution": "raw"}
    changed = sources | {"masks": Source(tmp_path / "masks_rraw.npz", known)}
    write_npz(
        changed["masks"].path, stacked([{"masks": mask} for mask in masks], {}), known
    )
    return cached.run_job(tmp_path, changed, CLS, SEG, resolution="raw"), masks


def test_a_run_at_raw_is_evaluated_at_the_size_of_each_picture(raw_job):
    job, masks = raw_job
    runs.run_job(job)
    cls, seg = map(Path, job.folders)
    scores = read_npz(seg / "scores.npz")
    assert scores["last_maps"].shape == (4, 4, 4)
    full = [
        picture_map(*pair, 4.0)
        for pair in zip(scores["last_maps"], SHAPES, strict=True)
    ]
    assert scores["last_scores"].tolist() == [one.max() for one in full]
    flat = (np.concatenate([x.ravel() for x in found]) for found in (masks, full))
    found = results(seg)["last"]
    assert found["pixel_auroc"] == metrics.pixel_auroc(*flat)
    assert (
        found["pixel_auroc"] == pd.read_csv(seg / "history.csv")["pixel_auroc"].iloc[-1]
    )
    assert 0 < found["aupro"] < 100
    memory = torch.from_numpy(read_npz(cls / "scores.npz")["last_maps"])
    peaks = peak_scores(memory, NOMINAL).numpy()
    assert np.array_equal(read_npz(cls / "scores.npz")["last_memory_distance"], peaks)


@pytest.fixture
def made(monkeypatch):
    """The folders of the runs that are made, in order."""
    folders, write_run = [], runs.write_run
    monkeypatch.setattr(
        runs, "write_run", lambda *known: folders.append(known[0]) or write_run(*known)
    )
    return folders


def test_a_finished_run_is_left_alone(tmp_path, sources, made):
    job = cached.run_job(tmp_path / "results", sources, CLS)
    runs.run_job(job)
    times = [path.stat().st_mtime_ns for path in files_of(job)]
    gone = Embedding(Source("gone", {}), Source("gone", {}))
    runs.run_job(job._replace(test=gone))  # which is not read either
    assert made == job.folders
    assert times == [path.stat().st_mtime_ns for path in files_of(job)]


def files_of(job):
    return [Path(folder, name) for folder in job.folders for name in FILES]


def test_only_the_missing_run_of_a_job_is_made(tmp_path, sources, made):
    runs.run_job(cached.run_job(tmp_path / "results", sources, CLS))
    job = cached.run_job(tmp_path / "results", sources, CLS, SEG)
    runs.run_job(job)
    assert made == job.folders


def damage(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 100] = bytes(100)  # more than a header of a zip file
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_run_is_made_again(tmp_path, sources, made, name):
    job = cached.run_job(tmp_path / "results", sources, CLS)
    runs.run_job(job)
    path = tmp_path / job.folders[0] / name
    before = path.read_bytes()
    damage(path)
    runs.run_job(job)
    assert len(made) == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", FILES)
def test_a_run_without_one_of_its_files_is_made_again(tmp_path, sources, made, name):
    job = cached.run_job(tmp_path / "results", sources, CLS)
    runs.run_job(job)
    (tmp_path / job.folders[0] / name).unlink()
    runs.run_job(job)
    assert len(made) == 2
    assert runs.is_finished(job.folders[0], job.records[0])


def test_a_run_of_other_options_or_code_is_made_again(tmp_path, sources, made):
    runs.run_job(cached.run_job(tmp_path / "results", sources, CLS))
    job = cached.run_job(tmp_path / "results", sources, CLS, epochs=2)
    runs.run_job(job)
    newer = job.records[0] | {"code": "newer"}
    runs.run_job(job._replace(records=[newer]))
    assert len(made) == 3
    assert read_record(f"{job.folders[0]}/metrics.json")["settings"]["code"] == "newer"


@pytest.mark.parametrize("kind", ["prompts", "test", "support", "masks"])
def test_files_of_another_record_are_refused(tmp_path, sources, kind):
    path, record = sources[kind]
    write_npz(path, read_npz(path), record | {"code": "old"})
    with pytest.raises(UserError, match=f"{path}: is of code old, not"):
        runs.run_job(cached.run_job(tmp_path / "results", sources, SEG))


def test_a_tower_of_other_code_is_refused(tmp_path, sources, towers):
    save_tower(sources["text"].path, towers[1], {"code": "old"})
    with pytest.raises(UserError, match=r"text\.safetensors: is of .*, not"):
        runs.run_job(cached.run_job(tmp_path / "results", sources, CLS))


START = """
import sys
from fsad.artifacts.sources import Embedding, RunJob, Source
from fsad.evaluation.runs import run_job
run_job({job})
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


def test_a_job_loads_nothing_slow_that_it_does_not_need(tmp_path, sources):
    job = cached.run_job(tmp_path / "results", sources, CLS, SEG)
    command = [sys.executable, "-c", START.format(job=job)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not SLOW & set(done.stdout.split())


# Methods without training


FREE = {  # method, options of its readout, options of the run
    "patchcore": ("patchcore", {}, {}),
    "coreset": ("patchcore", {}, {"coreset": 0.5, "neighbours": 2}),
    "anomalydino": ("anomalydino", {"rotations": 3}, {"mask": "none"}),
    "subspacead": ("subspacead", {"rotations": 2}, {}),
    "winclip": ("winclip", {}, {}),
}
DRAWS = [CLS._replace(shots=k, seed=seed) for k in (1, 3) for seed in (1, 2)]
BOTH = [run._replace(task=task) for run in DRAWS for task in ("cls", "seg")]


@pytest.fixture(params=FREE)
def free_job(request, tmp_path, towers, tokens):
    """Makes jobs of a method without training, into folders of the test."""
    method, reading, given = FREE[request.param]
    defaults = with_defaults(method_schema(method), reading)
    readout = METHODS[method].readout(defaults, 32)
    results = cached.write_cache(tmp_path / "results", towers, tokens, readout)
    sources = cached.planned_sources(results, readout)

    def make(name, *chosen):
        known = tmp_path / name, sources, *chosen
        return cached.run_job(*known, method=method, **defaults | given)

    return make


def assert_same_runs(job, other):
    for folders in zip(job.folders, other.folders, strict=True):
        assert_same_files(*map(Path, folders))


def test_both_tasks_share_one_prediction(free_job, monkeypatch):
    job = free_job("results", CLS, SEG)
    passes, observe = [], runs.observe
    monkeypatch.setattr(runs, "observe", lambda *x: passes.append(x) or observe(*x))
    runs.run_job(job)
    ((detectors, *_),) = passes
    assert len(detectors) == 1
    cls, seg = (read_npz(f"{folder}/scores.npz") for folder in job.folders)
    assert cls.keys() == seg.keys()
    assert all(np.array_equal(cls[name], seg[name]) for name in cls)
    cls, seg = (results(Path(folder)) for folder in job.folders)
    assert cls["last"] == cls["best"]
    assert cls["last"].keys() >= set(metrics.METRICS["cls"])
    assert seg["last"].keys() >= set(metrics.METRICS["seg"])


def test_both_tasks_share_one_calibration(free_job, monkeypatch):
    job, draws, calibrate = free_job("results", *BOTH), [], runs.calibrate
    monkeypatch.setattr(runs, "calibrate", lambda *x: draws.append(x) or calibrate(*x))
    runs.run_job(job)
    assert len(draws) == len(DRAWS)
    points = [
        {name: results(Path(folder))[name] for name in POINT} for folder in job.folders
    ]
    assert points[::2] == points[1::2]


def test_one_evaluation_is_measured_once(free_job, monkeypatch):
    job = free_job("results", CLS)
    measured, original = [], runs._results
    monkeypatch.setattr(runs, "_results", lambda *x: measured.append(x) or original(*x))
    runs.run_job(job)
    assert len(measured) == 1
    found = results(Path(job.folders[0]))
    assert found["last"] == found["best"]


def test_runs_without_training_are_the_same_alone_and_together(free_job):
    together = free_job("results", *BOTH)
    runs.run_job(together)
    for folder, run in zip(together.folders, BOTH, strict=True):
        alone = free_job("alone", run)
        runs.run_job(alone)
        assert_same_files(Path(folder), Path(alone.folders[0]))


def test_computed_features_give_the_bytes_of_those_in_files(free_job):
    kept = free_job("results", *BOTH)
    runs.run_job(kept)
    computed = free_job("computed", *BOTH)
    Path(computed.test.features.path).unlink()
    runs.run_job(computed._replace(stored=False))
    assert_same_runs(kept, computed)


def test_computed_features_of_a_method_that_trains_give_the_same_bytes(
    tmp_path, sources
):
    kept = cached.run_job(tmp_path / "results", sources, CLS, SEG)
    runs.run_job(kept)
    computed = cached.run_job(tmp_path / "computed", sources, CLS, SEG)
    for source in (computed.test.features, computed.support[1].features):
        Path(source.path).unlink()
    runs.run_job(computed._replace(stored=False))
    assert_same_runs(kept, computed)


def test_runs_without_training_need_no_test_images(free_job):
    """Whether features are in files or computed."""
    for name, is_kept in (("kept", True), ("computed", False)):
        job = free_job(name, CLS, SEG)
        for path, record in (*job.test, job.masks):
            none = {n: array[:0] for n, array in read_npz(path).items()}
            write_npz(path, none, record)
        runs.run_job(job._replace(stored=is_kept))
        for folder, metric in zip(job.folders, ("image_auroc", "aupro"), strict=True):
            found = metrics.read_metrics(Path(folder) / "metrics.json")
            assert math.isnan(found["last"][metric])
            assert read_npz(f"{folder}/scores.npz")["last_scores"].shape == (0,)


def test_runs_without_training_at_raw(free_job, tmp_path):
    job = free_job("results", CLS, SEG)
    masks = [np.zeros(shape, np.uint8) for shape in SHAPES]
    masks[2][8:20, 4:9] = masks[3][20:, 30:] = 1
    source = Source(
        tmp_path / "masks_rraw.npz", job.masks.record | {"resolution": "raw"}
    )
    write_npz(
        source.path, stacked([{"masks": mask} for mask in masks], {}), source.record
    )
    for record in job.records:
        record["options"]["resolution"] = "raw"
    runs.run_job(job._replace(masks=source))
    scores, found = (
        read_npz(f"{job.folders[1]}/scores.npz"),
        results(Path(job.folders[1])),
    )
    full = [
        picture_map(small, shape, float(scores["sigma"]))
        for small, shape in zip(scores["last_maps"], SHAPES, strict=True)
    ]
    flat = (np.concatenate([x.ravel() for x in arrays]) for arrays in (masks, full))
    assert found["last"]["pixel_auroc"] == metrics.pixel_auroc(*flat)


def test_only_the_missing_run_without_training_is_made(free_job, made):
    runs.run_job(free_job("results", CLS))
    job = free_job("results", CLS, SEG)
    runs.run_job(job)
    assert made == job.folders
