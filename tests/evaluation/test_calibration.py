import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fsad.backbones.clip_vision import embed_images
from fsad.backbones.readout import VARIANTS
from fsad.evaluation.calibration import calibrate, views
from fsad.evaluation.detector import Detector, detect

VARIANT = VARIANTS["original"]


@pytest.fixture(scope="module")
def good():
    """Six images of one kind, uint8 [6, 32, 32, 3]."""
    generator = np.random.default_rng(3)
    base = generator.integers(60, 200, (32, 32, 3)).astype(float)
    noisy = base + generator.normal(0, 12, (6, 32, 32, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def support_features(towers, images):
    features = embed_images(towers[0], images, VARIANT)
    return {name: torch.from_numpy(array) for name, array in features.items()}


def detector(towers, images, task) -> Detector:
    """A detector with the given support images, not calibrated."""
    prompts = torch.randn(2, 24, generator=torch.Generator().manual_seed(0))
    features = support_features(towers, images)
    options = {"task": task, "variant": VARIANT._asdict()}
    options |= {"temperature": 4.6, "resolution": 16}
    memory = {name: features[name] for name in ("mid1", "mid2")}
    return Detector(towers[0], F.normalize(prompts, dim=-1), memory, options)


def calibrated(towers, images, task):
    features = support_features(towers, images)
    return calibrate(detector(towers, images, task), features, images)


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_the_threshold_is_the_highest_score_with_the_image_left_out(towers, good, task):
    expected = [
        detect(detector(towers, np.delete(good[:4], i, 0), task), good[i : i + 1])[0]
        for i in range(4)
    ]
    found = calibrated(towers, good[:4], task).options
    assert found["threshold"] == pytest.approx(np.max(expected), rel=1e-5)


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_a_single_image_is_held_against_views_of_itself(towers, good, task):
    found = calibrated(towers, good[:1], task).options
    expected = detect(detector(towers, good[:1], task), views(good[0]))[0]
    assert found["threshold"] == pytest.approx(expected.max(), rel=1e-5)
    own = detect(detector(towers, good[:1], task), good[:1])[0]
    assert own.max() < found["threshold"]


@pytest.mark.parametrize("shots", [1, 3])
def test_the_range_of_maps_has_the_highest_in_its_middle(towers, good, shots):
    low, high = calibrated(towers, good[:shots], "seg").options["map_range"]
    threshold = calibrated(towers, good[:shots], "seg").options["threshold"]
    assert 0 <= low < threshold
    assert (low + high) / 2 == pytest.approx(threshold, rel=1e-5)


def test_the_detector_keeps_the_whole_memory(towers, good):
    before = detector(towers, good[:3], "cls")
    after = calibrate(before, support_features(towers, good[:3]), good[:3])
    for name, bank in before.memory.items():
        assert torch.equal(after.memory[name], bank)


def test_a_blot_is_above_the_threshold(towers, good):
    found = calibrated(towers, good[:4], "seg")
    marred = good[4:5].copy()
    marred[:, 8:20, 8:20] = 255
    assert detect(found, marred)[0] > found.options["threshold"]


def test_good_images_exceed_the_threshold_no_more_often_than_promised(towers):
    """One in k + 1 at most, here 1 in 3, over many draws of k + 1 images."""
    generator = np.random.default_rng(0)
    above = 0
    for _ in range(60):
        images = generator.integers(90, 130, (3, 32, 32, 3)).astype(np.uint8)
        found = calibrated(towers, images[:2], "seg")
        above += detect(found, images[2:])[0][0] > found.options["threshold"]
    assert 0 < above <= 60 / 3 + 2 * np.sqrt(60 * (1 / 3) * (2 / 3))


def test_views_differ_a_little_from_the_image(good):
    smooth = cv2.GaussianBlur(good[0], (0, 0), 3)
    found = views(smooth)
    assert found.shape == (8, 32, 32, 3)
    assert found.dtype == np.uint8
    change = np.abs(found.astype(float) - smooth).mean((1, 2, 3))
    assert (change > 0.2).all()
    assert (change < 25).all()
