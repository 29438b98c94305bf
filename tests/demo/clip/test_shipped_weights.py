"""The weights in config/backbones: whole, loadable, and of use."""

import json
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from fsad import cli
from fsad.backbones.clip import load_backbone
from fsad.backbones.clip_vision import embed_images
from fsad.backbones.readout import VARIANTS
from fsad.backbones.spec import check_backbone
from fsad.data import images
from fsad.data.layouts import list_class
from fsad.demo import dataset
from fsad.evaluation import metrics
from fsad.methods.promptad import scores
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
def test_expanded_they_are_an_ordinary_checkpoint(towers, monkeypatch, tmp_path):
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


@pytest.mark.parametrize("name", ["woven_fabric", "brushed_metal"])
def test_defects_lie_far_from_the_memory_of_four_images(towers, tmp_path, name):
    dataset.generate(tmp_path, train=4, good=8, defect=3)
    files = list_class("folder", tmp_path, name)
    test, support = (images.load_images(s, SIZE, 1) for s in (files.test, files.train))
    features = [embedded(towers[0], part["images"]) for part in (test, support)]
    maps = scores.visual_maps(*features).numpy()
    assert metrics.auroc(test["labels"], maps.max((1, 2))) > 90


def embedded(tower, pixels: np.ndarray) -> dict[str, torch.Tensor]:
    features = embed_images(tower, pixels, VARIANTS["original"])
    return {name: torch.from_numpy(array) for name, array in features.items()}
