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
from fsad.backbones.clip_vision import embed_memory
from fsad.backbones.embed import normalise_pixels
from fsad.backbones.spec import check_backbone
from fsad.data.images import square
from fsad.demo.dataset import DEFECTS, render
from fsad.evaluation.metrics import auroc
from fsad.methods.patches import nearest_cosine
from fsad.methods.promptad.method import MEMORY
from helpers import REPOSITORY

BACKBONES = REPOSITORY / "config/backbones"
MODEL, WEIGHTS = BACKBONES / "demo.json", BACKBONES / "demo.safetensors"
BACKBONE = {"model": str(MODEL), "pretrained": str(WEIGHTS)}
BACKBONE |= {"library": "open_clip"}
SIZE = json.loads(MODEL.read_text())["vision_cfg"]["image_size"]


@pytest.fixture(scope="module")
def towers():
    return load_backbone(BACKBONE)


def test_the_weights_are_small_and_checked_by_their_digest():
    assert WEIGHTS.stat().st_size < 15_000_000
    assert Path(f"{WEIGHTS}.sha256").is_file()
    check_backbone(BACKBONE)


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


@torch.no_grad()
def test_defects_lie_far_from_the_memory_of_four_images(towers):
    name = "brushed_metal"
    normal = [photograph(name, "good", seed) for seed in range(10)]
    kinds = [kind for kind in DEFECTS[name] for _ in range(2)]
    defective = [photograph(name, kind, 99 + i) for i, kind in enumerate(kinds)]
    pixels = normalise_pixels(np.stack(normal + defective), towers[0])
    features = embed_memory(towers[0], pixels)
    distances = sum(memory_distances(features[name]) for name in MEMORY)
    labels = np.repeat([0, 1], [6, 6])
    assert auroc(labels, distances.numpy().max(1)) > 90


def photograph(name: str, kind: str, seed: int) -> np.ndarray:
    image, _ = render(name, kind, default_rng(seed))
    return square(image, SIZE)


def memory_distances(patches: torch.Tensor) -> torch.Tensor:
    """Distances of the patches of all but the first four images to those of these."""
    support, test = patches.flatten(1, 2).split([4, len(patches) - 4])
    return nearest_cosine(test, support.flatten(0, 1))
