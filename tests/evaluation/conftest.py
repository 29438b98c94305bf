"""Features and detectors of the tiny CLIP; only these fixtures import torch."""

import shutil

import numpy as np
import pytest

from helpers import OPTIONS


@pytest.fixture(scope="session")
def features(towers):
    """Features of the test images and of the largest draw."""
    from evaluation.cached import feature_sets

    return feature_sets(towers[0])


@pytest.fixture(scope="session")
def cache(tmp_path_factory, towers, tokens):
    """A results folder with the cached files of a class, to be copied."""
    from evaluation.cached import write_cache

    return write_cache(tmp_path_factory.mktemp("cache"), towers, tokens)


@pytest.fixture
def sources(tmp_path, cache):
    """The cached files of a class, by name, in a results folder of the test's own."""
    from evaluation.cached import planned_sources

    shutil.copytree(cache, tmp_path / "results")
    return planned_sources(tmp_path / "results")


@pytest.fixture(scope="session")
def make_detector(towers):
    """Makes a detector with given support images, and random prompts."""
    import torch
    import torch.nn.functional as F

    from evaluation.cached import READOUT
    from fsad.backbones.features import embed_draw
    from fsad.backbones.networks import open_network
    from fsad.backbones.readout import described
    from fsad.evaluation.detector import Detector
    from fsad.methods.promptad.method import restore

    prompts = torch.randn(2, 24, generator=torch.Generator().manual_seed(0))
    learned = {"prompts": F.normalize(prompts, dim=-1)}
    learned["logit_scale"] = torch.tensor(4.6, dtype=torch.float64)
    network = open_network(towers[0])

    def make(images, task, **known):
        shapes = np.array([image.shape[:2] for image in images])
        drawn = {"images": images[:, None], "shapes": shapes}
        support = embed_draw(network, drawn, READOUT)
        own = {name: tensor.clone() for name, tensor in learned.items()}
        fitted = restore(task, OPTIONS, support, own)
        described_as = {"method": "promptad", "task": task, "options": OPTIONS}
        described_as |= {"readout": described(READOUT), "class": "nut", "images": []}
        run = {"seed": 1, "class": "nut", "made_from": {"text": "tiny's"}}
        run |= {"module": "fsad.methods.promptad.method"}
        described_as |= {"run": run, "backbone": "tiny"}
        shape = np.array([20, 50])
        support = [{"images": image, "shape": shape} for image in images]
        return Detector(network, READOUT, fitted, described_as | known, support)

    return make
