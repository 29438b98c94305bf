"""Weights from a file."""

import hashlib
import shutil

import numpy as np
import open_clip
import pytest
import torch

from fsad.backbones.clip import split_towers
from fsad.backbones.embed import normalise_pixels
from helpers import TINY, perturbed, relative_error

TEST_IMAGES = "results/cache/own/bolt/test_px32.npz"


@pytest.fixture
def checkpoint(project):
    """The model whose weights lie in weights.pt, as the configuration says."""
    shutil.rmtree(project.folder / "data/metal_nut")
    torch.manual_seed(5)
    model = perturbed(open_clip.CLIP(**TINY)).eval()
    torch.save(model.state_dict(), project.folder / "weights.pt")
    digest = hashlib.sha256((project.folder / "weights.pt").read_bytes()).hexdigest()
    (project.folder / "weights.pt.sha256").write_text(f"{digest}  weights.pt\n")
    backbone = {"model": "tiny.json", "pretrained": "weights.pt"}
    project.configure(backbones={"own": backbone}, tasks=["cls"], shots=[1])
    return model


@torch.no_grad()
def test_a_checkpoint_file_is_a_line_of_the_configuration(project, checkpoint):
    project.snakemake("--until", "embed")
    (features,) = project.folder.glob("results/features/*_sha256-*")
    found = np.load(features / "original/own/bolt/test.npz")["global"]
    images = np.load(project.folder / TEST_IMAGES)["images"]
    vision, _ = split_towers(checkpoint, "tiny")
    expected = checkpoint.encode_image(normalise_pixels(images, vision), True)
    assert relative_error(found, expected) < 1e-5
    moved = {"model": "tiny.json", "pretrained": "moved.pt"}
    (project.folder / "weights.pt").rename(project.folder / "moved.pt")
    project.configure(backbones={"own": moved}, tasks=["cls"], shots=[1])
    assert project.planned("--until", "embed") == {"total": 0}


def test_a_checkpoint_of_another_digest_is_refused(project, checkpoint):
    weights = project.folder / "weights.pt"
    weights.write_bytes(weights.read_bytes() + b" ")
    run = project.snakemake("--dry-run", check=False)
    assert run.returncode == 1
    assert (
        "backbones.own: pretrained: weights.pt is not the file whose SHA-256"
        in run.stdout
    )
