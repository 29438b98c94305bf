"""Features and detectors of the tiny CLIP; only these fixtures import torch."""

import shutil

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

    from fsad.backbones.embed import embed_images
    from fsad.backbones.readout import VARIANTS
    from fsad.evaluation.detector import Detector
    from fsad.methods.promptad.method import restore

    prompts = torch.randn(2, 24, generator=torch.Generator().manual_seed(0))
    learned = {"prompts": F.normalize(prompts, dim=-1)}
    learned["logit_scale"] = torch.tensor(4.6, dtype=torch.float64)
    variant = VARIANTS["original"]

    def make(images, task, **described):
        support = embed_images(towers[0], images, variant)
        fitted = restore(task, OPTIONS, support, learned)
        described |= {"method": "promptad", "task": task, "options": OPTIONS}
        described |= {"variant": variant._asdict(), "shapes": [[20, 50]]}
        return Detector(towers[0], variant, fitted, described)

    return make
