import os
from math import comb

import numpy as np
import pytest
from PIL import Image

from fsad.artifacts.content import file_digest
from fsad.data.images import read_image
from fsad.deployment.thresholds import (
    Bound,
    calibrate_on_good,
    find_good,
    images_needed,
    summary,
    threshold_rank,
)
from fsad.errors import UserError
from fsad.evaluation.detector import detect, view_of
from fsad.evaluation.detector_files import load_detectors, save_detectors

MEDIAN = Bound(0.5, 0.9)  # takes four images


@pytest.fixture
def good(tmp_path):
    """A folder of eight images of one kind, uint8 [20, 50, 3]."""
    generator = np.random.default_rng(5)
    base = generator.integers(60, 200, (20, 50, 3)).astype(float)
    for index in range(8):
        noisy = base + generator.normal(0, 12, base.shape)
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        path = tmp_path / "good" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
    return tmp_path / "good"


@pytest.fixture
def detector(make_detector, pixels):
    known = {"threshold": None, "map_range": [0.0, 1.0], "calibrated": {}}
    return make_detector(pixels[:1], "seg", **known)


def scores_and_maps(detector, folder):
    images = [read_image(path) for path in sorted(folder.iterdir())]
    return detect(detector, [view_of(detector, image) for image in images])


@pytest.mark.parametrize("bound", [Bound(0.1, 0.95), Bound(0.3, 0.5), MEDIAN])
@pytest.mark.parametrize("count", [1, 4, 28, 29, 56])
def test_the_rank_is_the_largest_with_the_confidence(count, bound):
    share = bound.false_alarms
    chances = [
        comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)
    ]
    at_least = {j: sum(chances[j:]) for j in range(1, count + 1)}
    allowed = [j for j, chance in at_least.items() if chance >= bound.confidence]
    assert threshold_rank(count, bound) == max(allowed, default=0)


@pytest.mark.parametrize(("share", "needed"), [(0.01, 299), (0.05, 59), (0.1, 29)])
def test_so_many_images_are_needed(share, needed):
    bound = Bound(share, 0.95)
    assert images_needed(bound) == needed
    assert threshold_rank(needed, bound) == 1
    assert threshold_rank(needed - 1, bound) == 0


def test_the_bound_holds_with_its_confidence():
    """With uniform scores the rate of false alarms is 1 - threshold."""
    bound, draws = Bound(0.1, 0.8), np.random.default_rng(0).random((4000, 50))
    rank = threshold_rank(50, bound)
    rates = 1 - np.sort(draws)[:, -rank]
    assert np.mean(rates <= 0.1) == pytest.approx(0.89, abs=0.02)
    assert np.mean(1 - np.sort(draws)[:, -rank - 1] <= 0.1) < 0.8


def test_the_threshold_is_the_score_of_its_rank(detector, good):
    found = calibrate_on_good(detector, good, MEDIAN)
    scores, _ = scores_and_maps(detector, good)
    assert found.rank == threshold_rank(8, MEDIAN) == 2
    described = found.detector.described
    assert described["threshold"] == pytest.approx(sorted(scores)[-2], rel=1e-5)
    assert (found.scores > described["threshold"]).sum() == 1
    source = {"from": "good images", "images": 8}
    source |= {"false_alarms": 0.5, "confidence": 0.9}
    assert described["calibrated"] == source


def test_the_threshold_is_the_middle_of_the_colours_where_it_is_a_value_of_maps(
    detector, good
):
    described = calibrate_on_good(detector, good, MEDIAN).detector.described
    _, maps = scores_and_maps(detector, good)
    low, high = described["map_range"]
    assert (low + high) / 2 == pytest.approx(described["threshold"], rel=1e-5)
    assert low == pytest.approx(np.median(np.median(maps, (1, 2))), rel=1e-5)


def test_too_few_images_are_an_error_with_the_number_needed(detector, good):
    wanted = f"{good}: 8 good images are too few .* 5 % .* 95 % .* takes 59; add"
    with pytest.raises(UserError, match=wanted):
        calibrate_on_good(detector, good, Bound(0.05, 0.95))


def test_support_images_and_copies_do_not_count(detector, good):
    os.link(good / "3.png", good / "9.png")
    digest = file_digest(good / "1.png")
    described = detector.described | {"images": [["good/000.png", digest]]}
    found = calibrate_on_good(detector._replace(described=described), good, MEDIAN)
    assert found.left_out == [
        f"{good}/1.png: left out, is support image good/000.png",
        f"{good}/9.png: left out, is the same file as {good}/3.png",
    ]
    assert len(found.scores) == 7


def test_an_image_that_cannot_be_read_is_an_error_that_names_it(detector, good):
    (good / "2.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=f"{good}/2.png: cannot be read"):
        calibrate_on_good(detector, good, MEDIAN)


def test_an_image_of_another_size_than_the_region_is_named(detector, good):
    narrow = detector._replace(region=np.ones((9, 9), bool))
    with pytest.raises(UserError, match=f"{good}/0.png: the image: is 50x20 pixels"):
        calibrate_on_good(narrow, good, MEDIAN)


def test_a_folder_of_good_and_defective_images_is_refused(good):
    other = good.parent / "hole/0.png"
    other.parent.mkdir()
    os.link(good / "0.png", other)
    with pytest.raises(UserError, match=f"folders named good and others .{other}.;"):
        find_good(good.parent)
    assert [*find_good(good)] == [f"{index}.png" for index in range(8)]


def test_the_summary_has_threshold_numbers_and_bound(detector, good):
    found = calibrate_on_good(detector, good, MEDIAN)
    score, bound = summary(found, MEDIAN)
    value = found.detector.described["threshold"]
    assert score == (
        f"threshold {value:.6g}: of 8 good images the score of rank 2 from the "
        "highest, 1 above it"
    )
    assert bound.endswith("at most 50 % are above it, with 90 % confidence")


def test_a_calibrated_detector_is_kept_in_a_file(detector, good, tmp_path):
    found = calibrate_on_good(detector, good, MEDIAN).detector
    save_detectors(tmp_path / "d.safetensors", [found])
    loaded = load_detectors(tmp_path / "d.safetensors")["nut"]
    assert loaded.described == found.described
