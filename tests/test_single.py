"""One run by hand, in this process: tiles, regions of interest and raw maps."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fsad.artifacts.files import read_npz
from fsad.artifacts.paths import Run
from fsad.errors import UserError
from fsad.evaluation.metrics import read_metrics
from fsad.planning import options
from fsad.single import run_single
from helpers import TINY, write_class

TILES = {"tiles": {"grid": [2, 2], "overlap": 0.1}, "position": "near", "whole": True}
METHODS = {
    "promptad": {"variant": "original", "epochs": 2},
    "patchcore": {"method": "patchcore", "coreset": 0.5},
    "anomalydino": {"method": "anomalydino", "rotations": 2},
    "subspacead": {"method": "subspacead", "rotations": 2},
}
EXPERIMENTS = {
    **METHODS,
    **{f"{name}_tiles": own | TILES for name, own in METHODS.items()},
}
SIDE, INSIDE = 40, 18


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A class, and the same with other pixels outside the region, where tiles lie."""
    folder = tmp_path_factory.mktemp("single")
    write_class(folder / "data", "bolt", size=SIDE)
    shutil.copytree(folder / "data", folder / "other")
    generator = np.random.default_rng(5)
    for path in (folder / "other/bolt").rglob("*.png"):
        pixels = np.array(Image.open(path))
        if "ground_truth" not in path.parts:
            outside = pixels[INSIDE:]
            outside[:] = generator.integers(0, 256, outside.shape, np.uint8)
        Image.fromarray(pixels).save(path)
    region = np.zeros((SIDE, SIDE), np.uint8)
    region[:INSIDE] = 255
    Image.fromarray(region).save(folder / "roi.png")
    (folder / "tiny.json").write_text(json.dumps(TINY))
    return folder


@pytest.fixture
def make(folder, tmp_path):
    """Makes a run, and returns its arrays and metrics."""

    def run(experiment, task, root="data", **changes):
        override = changes.pop("override", {})
        config = {
            "datasets": {"own": {"layout": "folder", "root": str(folder / root)}},
            "backbones": {
                "tiny": {"model": str(folder / "tiny.json"), "pretrained": "random"}
            },
            "experiments": EXPERIMENTS,
            "overrides": {"own": {"bolt": override}},
            "threads": 1,
            **changes,
        }
        out = tmp_path / f"{root}_{experiment}_{len([*tmp_path.iterdir()])}"
        key = Run(experiment, "own", "bolt", task, 2, 111)
        run_single(options.complete(config), key, {}, out, vis=True)
        return read_npz(out / "scores.npz"), read_metrics(out / "metrics.json")

    return run


# Both tasks of a method without training read one prediction.
RUNS = [(name, "seg") for name in EXPERIMENTS]
RUNS += [("promptad", "cls"), ("promptad_tiles", "cls")]


@pytest.mark.parametrize(("name", "task"), RUNS)
def test_what_lies_outside_a_region_changes_nothing(make, folder, name, task):
    region = {"roi": str(folder / "roi.png")}
    one, metrics = make(name, task, override=region)
    other, same_metrics = make(name, task, "other", override=region)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)
    assert metrics["last"] == same_metrics["last"]


@pytest.mark.parametrize("name", ["patchcore", "patchcore_tiles"])
def test_without_a_region_all_of_an_image_counts(make, name):
    one, other = (make(name, "seg", root)[0] for root in ("data", "other"))
    assert not np.array_equal(one["last_scores"], other["last_scores"])


def test_maps_of_tiles_are_finer(make):
    plain, _ = make("patchcore", "seg")
    tiled, _ = make("patchcore_tiles", "seg")
    assert plain["last_maps"].shape[1:] == (4, 4)
    assert tiled["last_maps"].shape[1:] == (8, 8)


@pytest.mark.parametrize("name", ["promptad_tiles", "subspacead_tiles"])
def test_tiles_are_evaluated_at_raw(make, name):
    small, metrics = make(name, "seg", resolution=SIDE)
    raw, raw_metrics = make(name, "seg", resolution="raw")
    assert raw["last_maps"].shape == small["last_maps"].shape
    assert metrics["last"].keys() == raw_metrics["last"].keys()
    assert raw_metrics["last"]["pixel_auroc"] > 50


def test_a_region_of_another_shape_is_refused_by_name(make, folder, tmp_path):
    wide = tmp_path / "wide.png"
    Image.new("L", (SIDE + 1, SIDE), 255).save(wide)
    with pytest.raises(UserError, match=r"own\.bolt\.roi: .*\.png: is 40x40"):
        make("patchcore", "cls", override={"roi": str(wide)})
