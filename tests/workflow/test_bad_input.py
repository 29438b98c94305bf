"""A user's mistake ends in one clear line and leaves nothing to be trusted."""

import csv

import numpy as np
import pytest
from PIL import Image

from helpers import write_class

IMAGE = "data/bolt/test/hole/001.png"
MASK = "data/bolt/ground_truth/hole/001_mask.png"
TEST_CACHE = "results/cache/own/bolt/test_px32.npz"
MASK_CACHE = "results/cache/own/bolt/masks_r32.npz"
OPEN_CLIP = {"model": "ViT-B-16-plus-240", "pretrained": "laion400m_e32"}

WRONG_CONFIGS = {
    "unknown option": ({"epoch": 3}, "config: epoch: unknown option; did you mean 'ep"),
    "wrong type": ({"epochs": "many"}, "config: epochs: 'many' is not of type"),
    "out of range": ({"eval_every": 0}, "config: eval_every: 0 is less than"),
    "unknown nested option": (
        {"datasets": {"own": {"layout": "folder", "rood": "data"}}},
        "config: datasets.own.rood: unknown option; did you mean 'root'?",
    ),
    "missing option": (
        {"datasets": {"own": {"layout": "folder"}}},
        "config: datasets.own.root: must be given",
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
    "too many shots": ({"shots": [9]}, "bolt: 9 shots asked for, 4 support images"),
    "unknown support image": (
        {"overrides": {"own": {"bolt": {"support": ["9.png", "8.png"]}}}},
        "support: '9.png' is not among the good training images",
    ),
    "state without a place": ({"states": ["broken"]}, "states: 'broken' must hold {}"),
    "unknown backbone": (
        {"backbone": {"model": "ViT-B-61", "pretrained": "random"}},
        "backbone.model: 'ViT-B-61' is neither an open_clip model nor a .json file; "
        "close to it: ViT-B-16",
    ),
    "missing checkpoint": (
        {"backbone": {"model": "tiny.json", "pretrained": "weights/none.pt"}},
        "backbone.pretrained: no checkpoint file weights/none.pt",
    ),
}


@pytest.mark.parametrize("case", WRONG_CONFIGS)
def test_configuration_fails_while_planning(project, case):
    changes, message = WRONG_CONFIGS[case]
    project.configure(**changes)
    run = project.snakemake("--dry-run", check=False)
    assert run.returncode == 1
    assert message in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert not (project.folder / "results").exists()


def test_no_good_training_image_fails_while_planning(project):
    for image in (project.folder / "data/bolt/train/good").iterdir():
        image.rename(image.with_suffix(".txt"))
    run = project.snakemake("--dry-run", check=False)
    assert run.returncode == 1
    assert "data/bolt/train/good: no good training image" in run.stdout


def truncate(path):
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def shrink(path):
    """Replace a mask by one of another size."""
    Image.fromarray(np.full((20, 40), 255, np.uint8)).save(path)


WRONG_FILES = {
    "truncated image": (IMAGE, truncate, TEST_CACHE, f"{IMAGE}: cannot be read"),
    "empty image": (
        IMAGE,
        lambda path: path.write_bytes(b""),
        TEST_CACHE,
        f"{IMAGE}: cannot be read as an image",
    ),
    "missing mask": (
        MASK,
        lambda path: path.unlink(),
        MASK_CACHE,
        f"{IMAGE}: defect image without a mask",
    ),
    "mask of another size": (
        MASK,
        shrink,
        MASK_CACHE,
        f"{MASK}: mask is 40x20 pixels, its image 40x40",
    ),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_bad_file_fails_its_job(project, case):
    culprit, spoil, target, message = WRONG_FILES[case]
    spoil(project.folder / culprit)
    run = project.snakemake(target, check=False)
    assert run.returncode == 1
    assert f"error: {message}" in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert not list((project.folder / target).parent.glob("*.npz"))


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (OPEN_CLIP, "are not on this machine and could not be downloaded"),
        (OPEN_CLIP | {"pretrained": "laion"}, "neither a checkpoint file nor a tag"),
    ],
    ids=["no weights and no network", "unknown tag"],
)
def test_missing_weights_fail_the_backbone(project, backbone, message):
    project.configure(backbone=backbone)
    name = f"{backbone['model']}_{backbone['pretrained']}"
    run = project.snakemake(f"results/features/{name}/text.safetensors", check=False)
    assert run.returncode == 1
    assert "error: backbone.pretrained: " in run.stdout + run.stderr
    assert message in run.stdout + run.stderr
    assert not list((project.folder / "results").rglob("*.safetensors"))


def tables_of(project):
    """The content of every table, by name."""
    folder = project.folder / "results/tables"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_failed_class_is_named_in_the_tables_until_it_is_mended(project):
    write_class(project.folder / "data", "pin")
    project.configure(tasks=["cls"], shots=[1])
    image = project.folder / IMAGE
    sound = image.read_bytes()
    truncate(image)
    run = project.snakemake(check=False)
    assert run.returncode == 1
    done = (project.folder / "results/runs").rglob("metrics.json")
    assert {path.parts[-5] for path in done} == {"metal_nut", "pin"}
    assert_failed(tables_of(project))

    image.write_bytes(sound)
    project.snakemake()
    mended = tables_of(project)
    assert b"failed" not in mended["own_cls.md"]
    assert "Nothing to be done" in project.snakemake().stderr

    truncate(image)  # its run of before is there still, and must not be shown
    assert project.snakemake(check=False).returncode == 1
    assert_failed(tables_of(project))
    image.write_bytes(sound)
    project.snakemake()
    assert tables_of(project) == mended


def assert_failed(tables):
    """The tables say that bolt failed, and why, and have numbers of the others."""
    page = tables["own_cls.md"].decode()
    assert "1 runs failed, and are in no mean: 1 of own/bolt. Why is told in " in page
    assert "results/logs/preprocess_test/own/bolt.log" in page
    rows = list(csv.DictReader(tables["own_cls.csv"].decode().splitlines()))
    assert {row["k1"] for row in rows if row["class"] == "bolt"} == {"failed"}
    others = {row["k1"] for row in rows if row["class"] != "bolt"}
    assert all(0 <= float(value) <= 100 for value in others)
    assert b",bolt," not in tables["metrics.csv"]


WRONG_ARGUMENTS = {
    "unknown data set": (
        ["--dataset", "visa"],
        "--dataset: 'visa' is not in the",
    ),
    "unknown experiment": (
        ["--experiment", "x"],
        "--experiment: 'x' is not in the con",
    ),
    "unknown class": (["--class", "nut"], "data/nut: no such class folder"),
    "too many shots": (["--shots", "50"], "bolt: 50 shots asked for"),
    "missing config": (["--config", "no.yaml"], "no.yaml: cannot be read"),
    "unknown device": (["--device", "tpu"], "config: device: 'tpu' does not"),
    "missing GPU": (["--device", "cuda:63"], "device: cuda:63 asked for, torch sees"),
    "missing root": (["--root", "nowhere"], "nowhere: no such data folder"),
    "file as folder": (["--out", "config.yaml"], "--out: config.yaml is a file; name"),
}


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_training_by_hand_names_the_wrong_argument(project, case):
    wrong, message = WRONG_ARGUMENTS[case]
    right = ["--dataset", "own", "--class", "bolt", "--config", "config.yaml"]
    run = project.fsad("train", "cls", *right, "--out", "out", *wrong, check=False)
    assert run.returncode != 0
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (project.folder / "out").exists()


def test_training_by_hand_never_overwrites_a_run(project):
    (project.folder / "out").mkdir()
    (project.folder / "out/metrics.json").write_text("{}")
    place = ["--dataset", "own", "--class", "bolt", "--config", "config.yaml"]
    run = project.fsad("train", "cls", *place, "--out", "out", check=False)
    assert run.returncode == 1
    assert "error: --out: out holds a run already" in run.stderr
