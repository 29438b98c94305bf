import cv2
import numpy as np
import pytest
import torch

from evaluation.cached import seen
from fsad.backbones.features import embed_draw
from fsad.backbones.networks import open_network
from fsad.backbones.readout import Readout
from fsad.data.augment import Augment
from fsad.data.views import View
from fsad.evaluation.calibration import calibrate, operating_point, views
from fsad.evaluation.detector import Detector, detect
from fsad.methods import subspacead, winclip
from helpers import OPTIONS

WINDOWS = {"scales": [2], "norm": True}


@pytest.fixture(scope="module")
def good():
    """Six images of one kind, uint8 [6, 32, 32, 3]."""
    generator = np.random.default_rng(3)
    base = generator.integers(60, 200, (32, 32, 3)).astype(float)
    noisy = base + generator.normal(0, 12, (6, 32, 32, 3))
    return noisy.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def calibrated(make_detector):
    """Makes a detector calibrated on its support images."""

    def make(images, task):
        detector = make_detector(images, task)
        known = {"images": images[:, None]}
        support = embed_draw(detector.network, known, detector.readout)
        return calibrate(detector, support, seen(images))

    return make


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_the_threshold_is_the_highest_score_with_the_image_left_out(
    make_detector, calibrated, good, task
):
    expected = [
        detect(make_detector(np.delete(good[:4], i, 0), task), seen(good[i : i + 1]))[0]
        for i in range(4)
    ]
    found = calibrated(good[:4], task).described
    assert found["threshold"] == pytest.approx(np.max(expected), rel=1e-5)


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_a_single_image_is_held_against_views_of_itself(
    make_detector, calibrated, good, task
):
    found = calibrated(good[:1], task).described
    expected = detect(make_detector(good[:1], task), seen(views(good[0])))[0]
    assert found["threshold"] == pytest.approx(expected.max(), rel=1e-5)
    own = detect(make_detector(good[:1], task), seen(good[:1]))[0]
    assert own.max() < found["threshold"]


@pytest.mark.parametrize("shots", [1, 3])
def test_the_range_of_maps_has_the_highest_in_its_middle(calibrated, good, shots):
    found = calibrated(good[:shots], "seg").described
    low, high = found["map_range"]
    assert 0 <= low < found["threshold"]
    assert (low + high) / 2 == pytest.approx(found["threshold"], rel=1e-5)


@pytest.mark.parametrize("shots", [1, 3])
def test_it_is_told_where_the_threshold_comes_from(calibrated, good, shots):
    found = calibrated(good[:shots], "cls").described["calibrated"]
    unknown = {"false_alarms": None, "confidence": None}
    assert found == {"from": "support", "images": shots, **unknown}


def test_the_middle_of_the_colours_has_the_rank_of_the_threshold():
    extents = [(0.1, 5.0), (0.2, 3.0), (0.6, 4.0)]
    found = operating_point(np.array([7.0, 9.0, 8.0]), extents, rank=2)
    assert found == {"threshold": 8.0, "map_range": [0.2, pytest.approx(7.8)]}


def test_the_detector_keeps_the_whole_memory(make_detector, calibrated, good):
    before, after = make_detector(good[:3], "cls"), calibrated(good[:3], "cls")
    for name, bank in before.fitted.support.items():
        assert torch.equal(after.fitted.support[name], bank)


def test_a_blot_is_above_the_threshold(calibrated, good):
    found = calibrated(good[:4], "seg")
    defective = good[4:5].copy()
    defective[:, 8:20, 8:20] = 255
    assert detect(found, seen(defective))[0] > found.described["threshold"]


def test_good_images_exceed_the_threshold_no_more_often_than_promised(calibrated):
    """One in k + 1 at most, here 1 in 3, over many draws of k + 1 images."""
    generator = np.random.default_rng(0)
    above = 0
    for _ in range(60):
        images = generator.integers(90, 130, (3, 32, 32, 3)).astype(np.uint8)
        found = calibrated(images[:2], "seg")
        above += detect(found, seen(images[2:]))[0][0] > found.described["threshold"]
    assert 0 < above <= 60 / 3 + 2 * np.sqrt(60 * (1 / 3) * (2 / 3))


def test_a_detector_without_training_is_fitted_to_the_others(towers, good):
    """Its threshold is that of the formulas, with each image left out."""
    fields = {"blocks": "last", "norm": True, "moments": True}
    readout = Readout("m", "tokens", View("square", 32), Augment(), fields)
    network = open_network(towers[0])
    options = OPTIONS | {"explained_variance": 0.9}

    def fitted(images):
        support = embed_draw(network, {"images": images[:, None]}, readout)
        (step,) = subspacead.create("cls", options, None).fit(support, (1, 2))
        known = {"task": "cls", "options": options}
        known |= {"run": {"seed": 1, "class": "nut", "made_from": {}}}
        known["run"]["module"] = "fsad.methods.subspacead"
        return Detector(network, readout, step.detector, known), support

    detector, support = fitted(good[:4])
    found = calibrate(detector, support, seen(good[:4]))
    expected = [
        detect(fitted(np.delete(good[:4], i, 0))[0], seen(good[i : i + 1]))[0]
        for i in range(4)
    ]
    assert found.described["threshold"] == pytest.approx(np.max(expected), rel=1e-5)
    assert found.fitted is detector.fitted


def test_a_detector_of_words_keeps_them_with_other_support_images(towers, good):
    """There is no text tower to read them again."""
    readout = Readout("w", "windows", View("square", 32), Augment(), WINDOWS)
    network, options = open_network(towers[0]), OPTIONS | {"scales": [2]}
    learned = {"directions": torch.randn(2, 24)}

    def fitted(images):
        support = embed_draw(network, {"images": images[:, None]}, readout)
        restored = winclip.restore("cls", options, support, learned)
        run = {"module": "fsad.methods.winclip", "made_from": {"text": "tiny's"}}
        known = {"task": "cls", "options": options, "run": run}
        return Detector(network, readout, restored, known), support

    found = calibrate(*fitted(good[:3]), seen(good[:3]))
    expected = [
        detect(fitted(np.delete(good[:3], i, 0))[0], seen(good[i : i + 1]))[0]
        for i in range(3)
    ]
    assert found.described["threshold"] == pytest.approx(np.max(expected), rel=1e-5)


def test_without_support_images_there_is_no_threshold(make_detector, good):
    detector = make_detector(good[:1], "seg")
    found = calibrate(detector, {}, []).described
    assert found["calibrated"]["images"] == 0
    assert (found["threshold"], found["map_range"]) == (None, [0.0, 1.0])


def test_views_differ_a_little_from_the_image(good):
    smooth = cv2.GaussianBlur(good[0], (0, 0), 3)
    found = views(smooth)
    assert found.shape == (8, 32, 32, 3)
    assert found.dtype == np.uint8
    change = np.abs(found.astype(float) - smooth).mean((1, 2, 3))
    assert (change > 0.2).all()
    assert (change < 25).all()
