"""Weights from a file, and the training of the demo's own."""

import hashlib
import importlib.util
import json
import re

import numpy as np
import open_clip
import pytest
import torch
import yaml

from fsad.backbones.clip import split_towers
from fsad.backbones.clip_vision import normalise_pixels
from fsad.backbones.compact import is_compact
from helpers import TINY, perturbed, relative_error

TEST_IMAGES = "results/cache/own/bolt/test_px32.npz"
SHAPED = {"image_size": 112, "patch_size": 8, "width": 192, "layers": 2}
MODEL = TINY | {"vision_cfg": SHAPED}
TRAINING = {
    "model": "config/backbones/demo.json",
    "seed": 0,
    "episodes": 4,
    "steps": 2,
    "batch": 2,
    "told": 0.5,
    "contrast": 10,
    "words": {"every": 2, "episodes": 3, "steps": 2, "batch": 2}
    | {"told": 0.5, "contrast": 10, "noun": 1},
    "learning_rate": 0.001,
    "muon": 2,
    "warmup": 1,
    "logit_scale": 1,
    "weights": dict.fromkeys(
        ["teacher", "likeness", "distance", "memory", "state", "place", "noun"], 1
    ),
}


@pytest.fixture
def checkpoint(project):
    """The model whose weights lie in weights.pt, as the configuration says."""
    torch.manual_seed(5)
    model = perturbed(open_clip.CLIP(**TINY)).eval()
    torch.save(model.state_dict(), project.folder / "weights.pt")
    digest = hashlib.sha256((project.folder / "weights.pt").read_bytes()).hexdigest()
    (project.folder / "weights.pt.sha256").write_text(f"{digest}  weights.pt\n")
    backbone = {"model": "tiny.json", "pretrained": "weights.pt"}
    project.configure(backbone=backbone, tasks=["cls"], shots=[1])
    return model


@torch.no_grad()
def test_a_checkpoint_file_is_a_line_of_the_configuration(project, checkpoint):
    project.snakemake()
    (features,) = project.folder.glob("results/features/*_sha256-*")
    found = np.load(features / "original/own/bolt/test.npz")["global"]
    images = np.load(project.folder / TEST_IMAGES)["images"]
    vision, _ = split_towers(checkpoint, "tiny")
    expected = checkpoint.encode_image(normalise_pixels(images, vision), True)
    assert relative_error(found, expected) < 1e-5
    tables = (project.folder / "results/tables/own_cls.md").read_text()
    assert "RANDOM" not in tables
    moved = {"model": "tiny.json", "pretrained": "moved.pt"}
    (project.folder / "weights.pt").rename(project.folder / "moved.pt")
    project.configure(backbone=moved, tasks=["cls"], shots=[1])
    assert project.planned() == {}


def test_a_checkpoint_of_another_digest_is_refused(project, checkpoint):
    weights = project.folder / "weights.pt"
    weights.write_bytes(weights.read_bytes() + b" ")
    run = project.snakemake("--dry-run", check=False)
    assert run.returncode == 1
    assert "weights.pt is not the file whose SHA-256" in run.stdout


def test_the_demo_backbone_is_trained_by_a_rule(project):
    if importlib.util.find_spec("efficientnet_lite_pytorch") is None:
        pytest.skip("the packages of envs/demo_backbone.txt are not installed")
    folder = project.folder / "config"
    (folder / "backbones").mkdir(parents=True)
    (folder / "demo_backbone.yaml").write_text(yaml.safe_dump(TRAINING))
    (folder / "backbones/demo.json").write_text(json.dumps(MODEL))
    project.configure(datasets={"own": {"layout": "folder", "root": "nowhere"}})
    project.snakemake("demo_backbone")
    weights = project.folder / "results/demo_backbone/demo.safetensors"
    assert is_compact(weights)
    log = (project.folder / "results/logs/demo_backbone.log").read_text()
    assert re.search(r"train: 100%.* 2/2", log)
