import numpy as np
import pytest
import torch

from fsad.backbones import embed
from fsad.backbones.clip_vision import embed_images
from fsad.backbones.readout import VARIANTS
from fsad.backbones.transformer import placed
from fsad.methods.promptad import scores
from helpers import NEEDS_GPU, relative_error

VARIANT = VARIANTS["original"]


@pytest.fixture(scope="module")
def images(pixels):
    labels, names = np.array([0, 1, 1], np.uint8), np.array(["a", "b", "c"])
    return {"images": pixels, "labels": labels, "names": names}


@pytest.fixture(scope="module")
def embedded(towers, images):
    return embed.embed_test(towers[0], images, VARIANT)


def embed_support(towers, images, embedded):
    support = {"images": images, "names": np.array(["s"] * len(images))}
    return embed.embed_support(towers[0], support, embedded, VARIANT)


def test_test_features_carry_labels_and_names(towers, images, embedded):
    expected = embed_images(towers[0], images["images"], VARIANT)
    assert embedded.keys() == expected.keys() | {"labels", "names"}
    assert embedded["labels"].tolist() == [0, 1, 1]
    assert embedded["names"].tolist() == ["a", "b", "c"]
    assert all(np.array_equal(embedded[name], e) for name, e in expected.items())


def test_support_features_carry_the_visual_maps(towers, pixels, embedded):
    support = embed_support(towers, pixels[::-1, ::-1].copy(), embedded)
    test, memory = (
        {name: torch.from_numpy(arrays[name]) for name in ("mid1", "mid2")}
        for arrays in (embedded, support)
    )
    assert support["visual"].dtype == np.float32
    assert relative_error(support["visual"], scores.visual_maps(test, memory)) < 1e-6
    assert support["names"].tolist() == ["s", "s", "s"]


@NEEDS_GPU
def test_a_gpu_fills_the_features_of_all_batches(towers, images):
    gpu = placed(towers[0], "cuda", "float32")
    batches, whole = (embed_images(gpu, images["images"], VARIANT, n) for n in (1, 3))
    for name, together in whole.items():
        assert relative_error(batches[name], together) < 1e-5


@NEEDS_GPU
def test_features_of_a_gpu_are_those_of_the_cpu(towers, pixels, images, embedded):
    gpu = [placed(tower, "cuda", "float32") for tower in towers]
    test = embed.embed_test(gpu[0], images, VARIANT)
    support, expected = (embed_support(t, pixels[:1], test) for t in (gpu, towers))
    for name in ("global", "patch", "mid1", "mid2"):
        assert relative_error(test[name], embedded[name]) < 1e-5
        assert relative_error(support[name], expected[name]) < 1e-5
    assert relative_error(support["visual"], expected["visual"]) < 1e-5


def test_more_support_never_adds_distance(towers, pixels, embedded):
    flipped = pixels[:, ::-1].copy()
    one, two = (embed_support(towers, flipped[:k], embedded)["visual"] for k in (1, 2))
    assert (two <= one + 1e-6).all()
    assert (two < one - 1e-6).any()


def test_support_images_are_at_no_distance_from_themselves(towers, pixels, embedded):
    near = embed_support(towers, pixels[:1], embedded)["visual"]
    assert abs(near[0]).max() < 1e-6
    assert near[1:].min() > 1e-4
