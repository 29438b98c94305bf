"""The plan, without a Snakemake process: what wrong input is refused, and records."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fsad.artifacts.files import write_record, write_text
from fsad.artifacts.paths import PREDICTED, Run, fill, parse_run, run_path
from fsad.errors import UserError
from fsad.planning.checks import make_plan
from fsad.planning.counts import passes, tiles
from fsad.planning.disk import feature_sizes, keeps_features, run_files, unmade
from fsad.planning.pages import page_names, report_record, table_names, unmade_pages
from fsad.planning.predictions import (
    prediction_record,
    run_of,
    unmade_prediction,
)
from helpers import TINY, write_class

TINY_RANDOM = {"model": "tiny.json", "pretrained": "random"}
IMAGE = "data/bolt/test/hole/001.png"
RUN_FILES = "model.npz", "scores.npz", "history.csv"


@pytest.fixture
def micro(tmp_path, monkeypatch):
    """Changes of a configuration of two classes in this folder, to its plan."""
    for name in ("bolt", "metal_nut"):
        write_class(tmp_path / "data", name, size=8)
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    monkeypatch.chdir(tmp_path)
    config = {
        "datasets": {"own": {"layout": "folder", "root": "data"}},
        "backbones": {"tiny": TINY_RANDOM},
        "shots": [1, 2],
    }
    return lambda **changes: make_plan(config | changes)


RESNET = {"library": "timm", "model": "resnet18.a1_in1k", "image_size": 64}
WRONG = {
    "wrong type": (
        {"epochs": "many"},
        "config: epochs: must be a whole number, not 'many'",
    ),
    "out of range": (
        {"eval_every": 0},
        "config: eval_every: must be at least 1, not 0",
    ),
    "unknown nested option": (
        {"datasets": {"own": {"layout": "folder", "rood": "data"}}},
        "config: datasets.own.rood: unknown option; did you mean 'root'",
    ),
    "missing option": (
        {"datasets": {"own": {"layout": "folder"}}},
        "config: datasets.own.root: must be given",
    ),
    "unknown method": (
        {"experiments": {"mine": {"method": "prompted"}}},
        "config: experiments.mine.method: 'prompted' is unknown; take promptad",
    ),
    "option of no method": (
        {"experiments": {"mine": {"variant": "original", "lr": 1}}},
        "config: experiments.mine.lr: unknown option",
    ),
    "unknown variant": (
        {"experiments": {"mine": {"variant": "qq"}}},
        "config: experiments.mine.variant: 'qq' is unknown; take original",
    ),
    "missing data folder": (
        {"datasets": {"own": {"layout": "folder", "root": "nowhere"}}},
        "nowhere: no such data folder",
    ),
    "missing class folder": (
        {"datasets": {"own": {"layout": "folder", "root": "data", "classes": ["nut"]}}},
        "data/nut: no such class folder; data holds bolt, metal_nut",
    ),
    "class of an override": (
        {"overrides": {"own": {"nut": {"epochs": 1}}}},
        "config: overrides.own.nut: no such class there",
    ),
    "zero shots of no method": (
        {"shots": [0]},
        "config: shots: 0 alone, and no method of `experiments` works without support",
    ),
    "too many shots": ({"shots": [9]}, "bolt: 9 shots asked for, 4 support images"),
    "unknown support image": (
        {"overrides": {"own": {"bolt": {"support": ["9.png", "8.png"]}}}},
        "support: '9.png' is not among the good training images",
    ),
    "state without a place": ({"states": ["broken"]}, "states: 'broken' must hold {}"),
    "unknown prompts": (
        {"datasets": {"own": {"layout": "folder", "root": "data", "prompts": "x"}}},
        "datasets.own.prompts: x: no such file, nor a shipped name",
    ),
    "unknown backbone": (
        {"backbones": {"big": {"model": "ViT-B-61", "pretrained": "random"}}},
        "backbones.big: model: 'ViT-B-61' is neither an open_clip model nor a .json",
    ),
    "missing checkpoint": (
        {"backbones": {"own": TINY_RANDOM | {"pretrained": "weights/none.pt"}}},
        "backbones.own: pretrained: no checkpoint file weights/none.pt",
    ),
    "backbone of former versions": (
        {"backbone": {"model": "tiny.json", "pretrained": "random"}},
        "config: backbone: each has a name now; write `backbones:` and in the next "
        "line `  clip: {model: tiny.json, pretrained: random}`",
    ),
    "several backbones without a choice": (
        {"backbones": {"clip": {}, "cnn": RESNET}},
        "config: experiments.original.backbone: must be given, one of clip, cnn",
    ),
    "backbone that is not there": (
        {"experiments": {"mine": {"variant": "original", "backbone": "cnn"}}},
        "config: experiments.mine.backbone: 'cnn' is unknown; take tiny",
    ),
    "backbone of no name": (
        {"experiments": {"mine": {"variant": "original", "backbone": ""}}},
        "config: experiments.mine.backbone: '' is unknown; take tiny",
    ),
    "no number for a method": (
        {"experiments": {"mine": {"method": "patchcore", "coreset": float("nan")}}},
        "config: experiments.mine.coreset: must be a number, not nan",
    ),
    "no whole number for a method": (
        {"experiments": {"mine": {"method": "patchcore", "neighbours": 1.0}}},
        "config: experiments.mine.neighbours: must be a whole number, not 1.0",
    ),
    "backbone without a text tower": (
        {"backbones": {"cnn": RESNET}},
        "config: experiments.original.backbone: cnn has no text tower, which promptad "
        "reads; take one of library open_clip",
    ),
    "timm without a model": (
        {"backbones": {"cnn": {"library": "timm", "image_size": 64}}},
        "backbones.cnn: model: must be given for timm",
    ),
    "timm without a size": (
        {"backbones": {"cnn": {n: x for n, x in RESNET.items() if n != "image_size"}}},
        "backbones.cnn: image_size: must be given for timm",
    ),
    "timm without a tag": (
        {
            "backbones": {"cnn": RESNET | {"model": "resnet18"}},
            "experiments": {"mine": {"method": "patchcore"}},
        },
        "backbones.cnn: model: 'resnet18' is not MODEL.TAG of timm",
    ),
    "unknown library": (
        {"backbones": {"cnn": RESNET | {"library": "torchvision"}}},
        "config: backbones.cnn.library: must be 'open_clip' or 'timm', not 'torchv",
    ),
    "wrong keep_features": (
        {"keep_features": "never"},
        "config: keep_features: must be 'auto', true or false, not 'never'",
    ),
    "tiles of another form": (
        {"experiments": {"mine": {"method": "patchcore", "tiles": {"grid": [2]}}}},
        "config: experiments.mine.tiles: must be none, auto, {grid: [ROWS, COLUMNS]}",
    ),
    "option of another method": (
        {"experiments": {"mine": {"method": "patchcore", "rotations": 4}}},
        "config: experiments.mine.rotations: unknown option; known are fit, tiles,",
    ),
    "option of a method out of range": (
        {"experiments": {"mine": {"method": "patchcore", "coreset": 0}}},
        "config: experiments.mine.coreset: must be above 0, not 0",
    ),
    "gpus without their device": ({"gpus": [0]}, "config: gpus: needs `device: cuda`"),
    "prediction of no images": (
        {"predict": {"line": {"run": "original/own/bolt/k1/s111/seg", "images": "x"}}},
        "config: predict.line.images: x: no such file or folder",
    ),
    "prediction of no run": (
        {"predict": {"line": {"run": "original/own/bolt/k3/s111/seg", "images": "x"}}},
        "predict.line.run: no such run in this configuration",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_option_is_named(micro, case):
    changes, message = WRONG[case]
    with pytest.raises(UserError) as error:
        micro(**changes)
    assert message in str(error.value)


def test_a_class_without_good_training_images_is_named(micro, tmp_path):
    for image in (tmp_path / "data/bolt/train/good").iterdir():
        image.rename(image.with_suffix(".txt"))
    with pytest.raises(UserError, match="data/bolt/train/good: no good training image"):
        micro()


def test_without_any_masks_seg_alone_is_refused(micro, tmp_path):
    for mask in tmp_path.rglob("ground_truth/*/*.png"):
        mask.unlink()
    assert {run.task for run in micro().runs} == {"cls"}
    with pytest.raises(UserError, match="seg alone, and no class has masks"):
        micro(tasks=["seg"])


def test_good_training_images_are_all_that_training_needs(micro, tmp_path):
    for folder in ("test", "ground_truth"):
        shutil.rmtree(tmp_path / "data/bolt" / folder)
    tasks = {run.task for run in micro().runs if run.class_name == "bolt"}
    assert tasks == {"cls", "seg"}


def test_defective_test_images_alone_are_planned(micro, tmp_path):
    shutil.rmtree(tmp_path / "data/bolt/test/good")
    runs = [run for run in micro(tasks=["seg"]).runs if run.class_name == "bolt"]
    assert [run.shots for run in runs] == [1, 2]


def test_runs_are_every_combination(micro):
    plan = micro(seeds=[1, 2])
    assert len(plan.runs) == len(set(plan.runs)) == 2 * 2 * 2 * 2
    run = Run("original", "own", "bolt", "seg", 2, 1)
    assert plan.planned_run(run) == run
    with pytest.raises(UserError, match="k3/s1/seg: no run of this configuration"):
        plan.planned_run(run._replace(shots=3))
    assert len(plan.class_runs("original", ("own", "bolt"))) == 8


def test_zero_shots_are_one_run_of_the_methods_that_can(micro, capsys):
    experiments = {"words": {"method": "winclip"}, "memory": {"method": "patchcore"}}
    scheme = {"shots": [0, 2], "seeds": [7, 8], "tasks": ["cls"]}
    plan = micro(experiments=experiments, **scheme)
    draws = {
        name: [run[4:] for run in plan.class_runs(name, ("own", "bolt"))]
        for name in experiments
    }
    assert draws == {"words": [(0, 7), (2, 7), (2, 8)], "memory": [(2, 7), (2, 8)]}
    assert len(plan.runs) == 2 * 5
    note = "memory: patchcore needs support images, 0 of `shots` is skipped\n"
    assert capsys.readouterr().err.count(note) == 1
    zero = Run("words", "own", "bolt", "cls", 0, 7)
    assert plan.run(zero)["support"] == []
    assert parse_run(run_path(plan.tree.run, zero))[1] == zero


def test_windows_take_the_time_of_more_passes_but_not_their_memory(micro):
    experiments = {"words": {"method": "winclip"}, "memory": {"method": "patchcore"}}
    plan = micro(experiments=experiments)
    place = ("own", "bolt")
    assert [tiles(plan, name, place) for name in experiments] == [1, 1]
    assert [passes(plan, name, place) for name in experiments] == [12, 1]


def test_zero_shots_alone_still_cache_a_support_image(micro):
    plan = micro(experiments={"words": {"method": "winclip"}}, shots=[0])
    assert {run.shots for run in plan.runs} == {0}
    assert len(plan.support(("own", "bolt"), 111)) == 1


@pytest.mark.parametrize(
    ("choice", "device", "alone"),
    [
        ("auto", "cpu", True),
        ("auto", "cuda", False),
        ("one", "cuda", True),
        ("all", "cpu", False),
    ],
)
def test_runs_per_job(micro, choice, device, alone):
    plan = micro(runs_per_job=choice, device=device)
    assert plan.one_run_per_job("original") is alone


def test_a_job_reads_masks_where_a_run_of_it_needs_any(micro):
    plan = micro()
    cls, seg = (Run("original", "own", "bolt", task, 1, 111) for task in ("cls", "seg"))
    assert plan.run_job([cls]).masks is None
    job = plan.run_job([cls, seg])
    assert job.masks.path == "results/cache/own/bolt/masks_r256.npz"
    assert [record["task"] for record in job.records] == ["cls", "seg"]
    read = {job.masks.path, job.test.features.path, job.text.path}
    assert set(run_files(plan, [cls, seg])) >= read


MEMORY = {"method": "patchcore"}
PLACE = ("own", "bolt")


@pytest.mark.parametrize(
    ("choice", "image_size", "kept"),
    [("auto", 32, True), ("auto", 2048, False), (True, 2048, True), (False, 32, False)],
)
def test_features_are_kept_by_choice_or_up_to_a_size(micro, choice, image_size, kept):
    """Patches of 8 pixels: 4 x 4 of 1024 numbers, or 256 x 256, in float16."""
    backbone = RESNET | {"model": "resnet18", "pretrained": "random"}
    backbones = {"cnn": backbone | {"image_size": image_size}}
    plan = micro(
        backbones=backbones, experiments={"memory": MEMORY}, keep_features=choice
    )
    assert keeps_features(plan, "memory", PLACE) is kept
    assert bool(feature_sizes(plan)) is kept
    runs = plan.class_runs("memory", PLACE)
    job = plan.run_job(runs)
    read = {job.test.features.path, *(x.features.path for x in job.support.values())}
    expected = read if kept else {job.test.images.path}
    expected |= {job.masks.path, plan.vision("memory").path}
    expected |= {x.images.path for x in job.support.values()}  # to calibrate
    assert set(run_files(plan, runs)) == expected


def test_experiments_of_one_backbone_and_readout_share_their_features(micro):
    tuned = {
        "a": MEMORY,
        "b": MEMORY | {"neighbours": 3},
        "c": MEMORY | {"layers": ["blocks.1"]},
    }
    plan = micro(experiments=tuned)
    paths = {name: plan.features(name, PLACE).path for name in "abc"}
    assert paths["a"] == paths["b"] != paths["c"]
    assert len(plan.readers(PLACE)) == 2
    assert plan.support_features("a", PLACE, 111) == plan.support_features(
        "b", PLACE, 111
    )


def test_features_of_two_backbones_lie_apart(micro):
    other = TINY_RANDOM | {"random_seed": 1}
    experiments = {name: MEMORY | {"backbone": name} for name in ("tiny", "other")}
    plan = micro(
        backbones={"tiny": TINY_RANDOM, "other": other}, experiments=experiments
    )
    first, second = (plan.features(name, PLACE) for name in experiments)
    assert first.path != second.path
    assert first.record["made_from"] != second.record["made_from"]
    assert plan.images(PLACE, plan.views()[0]).path.endswith(
        "cache/own/bolt/test_px32.npz"
    )
    assert len(plan.views()) == len(plan.support_views()) == 1
    assert plan.towers("tiny").keys() == {"vision", "text"}


def test_a_network_of_timm_has_no_text_tower(micro):
    plan = micro(backbones={"cnn": RESNET}, experiments={"memory": MEMORY})
    assert plan.towers("cnn").keys() == {"vision"}
    run = plan.class_runs("memory", PLACE)
    assert (plan.run_job(run).text, plan.run_job(run).prompts) == (None, None)


def test_each_view_and_kind_of_copies_has_its_own_cache(micro):
    plan = micro(
        experiments={
            "square": MEMORY,
            "edge": MEMORY | {"fit": "edge"},
            "turned": {"method": "anomalydino", "rotations": 4},
            "random": {"method": "subspacead", "rotations": 4},
        }
    )
    assert [view.name for view in plan.views()] == ["px32", "edge32"]
    names = ["px32", "edge32", "px32_rotations4", "px32_random_rotations4"]
    found = [f"{view.name}{augment.name}" for view, augment in plan.support_views()]
    assert found == names
    paths = [source.path for source in plan.all_support_images(PLACE)]
    folder = "results/cache/own/bolt"
    assert paths == [f"{folder}/support_s111_{name}.npz" for name in names]
    edge = plan.run_job(plan.class_runs("edge", PLACE)).test
    assert edge.images.path == f"{folder}/test_edge32.npz"
    assert "_edge/" in edge.features.path


def test_features_that_do_not_fit_the_disk_are_refused(micro, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        UserError, match=r"results: features need .* `keep_features: false`"
    ):
        micro()
    micro(keep_features=False)


def test_a_record_follows_what_the_run_depends_on(micro, tmp_path):
    run = Run("original", "own", "bolt", "cls", 1, 111)
    before = micro().run(run)
    assert micro().run(run) == before
    changed = {
        "option": {"epochs": 3},
        "words": {"states": ["broken {}"]},
        "precision": {"precision": "bfloat16"},
        "weights": {"backbones": {"tiny": TINY_RANDOM | {"random_seed": 1}}},
        "view": {"experiments": {"original": {"variant": "original", "fit": "edge"}}},
    }
    for name, change in changed.items():
        assert micro(**change).run(run) != before, name
    same = {"results": "elsewhere", "threads": 7, "vis": True, "shots": [1, 2, 4]}
    same |= {"keep_features": False, "backbones": {"renamed": TINY_RANDOM}}
    assert micro(**same).run(run) == before
    image = tmp_path / IMAGE
    image.write_bytes(image.read_bytes() + b" ")
    assert micro().run(run) != before


def test_support_images_of_few_shots_are_the_first_of_many(micro):
    place, seed = ("own", "bolt"), 111
    few, many = (micro(shots=shots).support(place, seed) for shots in ([1], [4]))
    assert many[:1] == few
    assert len(many) == 4


def test_nothing_is_there_as_planned_before_it_is_made(micro):
    plan = micro()
    assert not any(map(plan.has_run, plan.runs))
    images = plan.all_images(PLACE)
    assert unmade(images) == [path for path, _ in images] != []
    assert unmade_pages(plan)


def test_outputs_are_asked_for_beside_their_record(micro):
    """A record alone does not show that what it describes is there."""
    run = "original/own/bolt/k1/s111/cls"
    plan = micro(predict={"new": {"run": run, "images": "data/bolt/test"}})
    key = run_of(plan, "new")
    folder, tree = Path(run_path(plan.tree.run, key)), plan.tree
    prediction = Path(fill(tree.prediction, prediction="new"))
    made = [
        (
            tree.report_record,
            report_record(plan),
            [f"{p}.html" for p in page_names(plan)],
        ),
        (prediction / "record.json", prediction_record(plan, "new"), PREDICTED),
        (folder / "metrics.json", {"settings": plan.run(key)}, RUN_FILES),
    ]

    def state():
        found = unmade_pages(plan), unmade_prediction(plan, "new")
        found = [bool(paths) for paths in (*found, plan.unmade_runs([key]))]
        plan._kept.clear()
        return found

    assert state() == [True] * 3
    for path, planned, _ in made:
        write_record(path, planned)
    assert state() == [True] * 3
    for path, _, names in made:
        for name in names:
            write_text(Path(path).parent / name, "")
    assert state() == [False] * 3


def test_pages_and_tables_are_those_of_the_runs(micro):
    plan = micro(
        experiments={"a": {"variant": "original"}, "b": {"variant": "qq_dual"}}
    )
    of_all = ["own_methods", "components", "comparison"]
    assert table_names(plan) == ["own_cls", "own_seg", *of_all]
    kinds = "history", "examples", "scores"
    expected = {f"own/{name}/{kind}" for name in "ab" for kind in kinds}
    expected |= {"own/overview", "own/methods", "times", "settings"}
    assert set(page_names(plan)) == expected
    one = micro()
    assert not {"own_methods", "comparison"} & {*table_names(one)}
    assert "own/methods" not in page_names(one)


def test_planning_imports_no_torch():
    modules = "planning.plan", "backbones.spec", "backbones.readout", "methods.registry"
    imports = "; ".join(f"import fsad.{name}" for name in modules)
    code = f"import sys; {imports}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr


TILED = MEMORY | {"tiles": {"grid": [1, 2]}, "whole": True, "position": "near"}


def test_tiles_have_caches_of_their_own_beside_those_of_whole_images(micro):
    plan = micro(experiments={"plain": MEMORY, "tiled": TILED})
    view = plan.readout("tiled", PLACE).view
    path = plan.images(PLACE, view).path
    assert path.endswith("cache/own/bolt/test_px32_tiles1x2_whole.npz")
    assert plan.tiled_file(PLACE, path) == plan.images(PLACE, view)
    assert [view.name for view in plan.views()] == ["px32"]
    assert tiles(plan, "tiled", PLACE) == 3
    sizes = feature_sizes(plan)
    plain, tiled = (sizes[plan.features(n, PLACE).path] for n in ("plain", "tiled"))
    assert tiled == 3 * plain


def test_a_class_has_its_own_tiles_in_place_of_those_of_the_experiments(micro):
    own = {"tiles": {"size": 16}, "position": "any"}
    overrides = {"own": {"bolt": own, "metal_nut": {"tiles": "none"}}}
    plan = micro(experiments={"tiled": TILED}, overrides=overrides)
    bolt, nut = (plan.readout("tiled", ("own", n)) for n in ("bolt", "metal_nut"))
    assert (bolt.view.tile, bolt.view.grid, bolt.view.whole) == (16, None, True)
    assert not nut.view.is_tiled
    runs = {run.class_name: plan.run(run)["options"] for run in plan.runs}
    chosen = {n: (x["position"], x["whole"]) for n, x in runs.items()}
    assert chosen == {"bolt": ("any", True), "metal_nut": ("any", False)}


def test_automatic_tiles_follow_the_images_of_a_class(micro, tmp_path):
    shutil.rmtree(tmp_path / "data/bolt")
    write_class(tmp_path / "data", "bolt", size=64)
    tiled = MEMORY | {"tiles": "auto"}
    plan = micro(experiments={"tiled": tiled})
    assert plan.readout("tiled", PLACE).view.grid == (2, 2)
    assert not plan.readout("tiled", ("own", "metal_nut")).view.is_tiled
    plan = micro(experiments={"tiled": tiled | {"max_tiles": 3}})
    assert not plan.readout("tiled", PLACE).view.is_tiled


def test_planning_tells_what_tiles_cost(micro, capsys):
    micro(experiments={"plain": MEMORY, "tiled": TILED})
    printed = capsys.readouterr().err
    assert "own/bolt: tiled: tiles 1x2 and whole, 3 passes of the backbone" in printed
    assert "plain: tiles" not in printed


def _region(path, size, white):
    from PIL import Image

    region = Image.new("L", size, 0)
    region.paste(255, (0, 0, white, white))
    region.save(path)


def test_a_region_is_part_of_what_follows_from_it(micro, tmp_path):
    def records(white):
        _region(tmp_path / "roi.png", (8, 8), white)
        plan = micro(overrides={"own": {"bolt": {"roi": "roi.png"}}})
        (run,) = (x for x in plan.runs if x[2:] == ("bolt", "seg", 2, 111))
        made = plan.run_job([run])
        return [made.test.images, made.test.features, made.masks, plan.run(run)]

    one, same, other = records(4), records(4), records(5)
    assert one == same
    assert all(a != b for a, b in zip(one, other, strict=True))


WRONG_REGIONS = {
    "missing": (lambda path: None, "No such file"),
    "empty": (lambda path: _region(path, (8, 8), 0), "covers nothing"),
    "of another shape": (lambda path: _region(path, (9, 8), 4), "is 8x8 pixels"),
}


@pytest.mark.parametrize("kind", WRONG_REGIONS)
def test_a_wrong_region_is_named(micro, tmp_path, kind):
    write, reason = WRONG_REGIONS[kind]
    write(tmp_path / "roi.png")
    with pytest.raises(UserError, match=rf"overrides\.own\.bolt\.roi: .*{reason}"):
        micro(overrides={"own": {"bolt": {"roi": "roi.png"}}})
