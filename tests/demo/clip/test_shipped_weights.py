"""The weights in config/backbones: whole, loadable, and able to find defects."""

import json
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.random import default_rng

from fsad import cli
from fsad.backbones.clip import load_backbone
from fsad.backbones.embed import embed_images
from fsad.backbones.readout import VARIANTS
from fsad.backbones.spec import check_backbone
from fsad.data.images import square
from fsad.demo.dataset import DEFECTS, render
from fsad.evaluation.metrics import auroc
from fsad.methods.patches import nearest_cosine
from fsad.methods.promptad.method import MEMORY
from helpers import REPOSITORY

BACKBONES = REPOSITORY / "config/backbones"
MODEL, WEIGHTS = BACKBONES / "demo.json", BACKBONES / "demo.safetensors"
SIZE = json.loads(MODEL.read_text())["vision_cfg"]["image_size"]


@pytest.fixture(scope="module")
def towers():
    return load_backbone({"model": str(MODEL), "pretrained": str(WEIGHTS)})


def test_the_weights_are_small_and_checked_by_their_digest():
    assert WEIGHTS.stat().st_size < 15_000_000
    assert Path(f"{WEIGHTS}.sha256").is_file()
    check_backbone({"model": str(MODEL), "pretrained": str(WEIGHTS)})


@torch.no_grad()
def test_the_expanded_weights_are_an_ordinary_checkpoint(towers, monkeypatch, tmp_path):
    whole = tmp_path / "whole.safetensors"
    monkeypatch.setattr(sys, "argv", ["fsad", "expand", str(WEIGHTS), str(whole)])
    cli.main()
    open_clip.add_model_config(MODEL)
    clip = open_clip.create_model(
        "demo", pretrained=str(whole), weights_only=True
    ).eval()
    assert torch.equal(clip.visual.proj, towers[0].weights["proj"])
    table = towers[1].weights["token_embedding.weight"]
    assert torch.equal(clip.token_embedding.weight, table)


def test_defects_lie_far_from_the_memory_of_four_images(towers):
    name = "brushed_metal"
    normal = [photograph(name, "good", seed) for seed in range(10)]
    kinds = [kind for kind in DEFECTS[name] for _ in range(2)]
    defective = [photograph(name, kind, 99 + i) for i, kind in enumerate(kinds)]
    features = embed_images(
        towers[0], np.stack(normal + defective), VARIANTS["original"]
    )
    distances = sum(memory_distances(features[name]) for name in MEMORY)
    labels = np.repeat([0, 1], [6, 6])
    assert auroc(labels, distances.numpy().max(1)) > 90


def photograph(name: str, kind: str, seed: int) -> np.ndarray:
    image, _ = render(name, kind, default_rng(seed))
    return square(image, SIZE)


def memory_distances(patches: np.ndarray) -> torch.Tensor:
    """Distances of the patches of all but the first four images to those of these."""
    patches = torch.from_numpy(patches).flatten(1, 2)
    support, test = patches.split([4, len(patches) - 4])
    return nearest_cosine(test, support.flatten(0, 1))
