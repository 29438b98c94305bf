"""Detection metrics against scikit-learn and against slow references."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
)

from fsad.data.masks import IGNORED
from fsad.evaluation import metrics

SCORES = {
    "ties": (np.float32, st.integers(0, 4)),
    "signed ties": (np.float64, st.integers(-3, 3)),
    "float32": (np.float32, st.floats(0, 1, width=32)),
    "signed float32": (np.float32, st.floats(-1, 1, width=32)),
    "float64": (np.float64, st.floats(0, 1)),
    "signed float64": (np.float64, st.floats(-1e3, 1e3)),
    "integers": (np.int64, st.integers(-3, 3)),
}


@st.composite
def cases(draw):
    """Labels of both kinds, and scores of one of many sorts."""
    size = draw(st.integers(2, 30))
    labels = draw(arrays(np.uint8, size, elements=st.integers(0, 1)))
    labels[:2] = 0, 1
    dtype, elements = SCORES[draw(st.sampled_from(list(SCORES)))]
    return labels, draw(arrays(dtype, size, elements=elements))


def best_f1(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))


@given(cases())
def test_auroc_is_that_of_scikit_learn(case):
    expected = roc_auc_score(*case)
    assert metrics.auroc(*case) / 100 == pytest.approx(expected, abs=1e-9)


@given(cases())
def test_average_precision_and_f1_are_those_of_scikit_learn(case):
    _, average, f1 = metrics.image_metrics(*case).values()
    assert average / 100 == pytest.approx(average_precision_score(*case), abs=1e-9)
    assert f1 / 100 == pytest.approx(best_f1(*case), abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shift", [0, -0.5])
def test_many_pixels(dtype, shift):
    generator = np.random.default_rng(0)
    masks = (generator.random((2, 60, 60)) > 0.9).astype(np.uint8)
    maps = generator.random(masks.shape).round(3).astype(dtype) + dtype(shift)
    found = metrics.pixel_metrics(masks, maps + masks * dtype(0.1))
    flat = masks.ravel(), (maps + masks * dtype(0.1)).ravel()
    assert found["pixel_auroc"] == pytest.approx(100 * roc_auc_score(*flat), abs=1e-7)
    expected = 100 * average_precision_score(*flat)
    assert found["pixel_aupr"] == pytest.approx(expected, abs=1e-7)
    assert found["pixel_f1max"] == pytest.approx(100 * best_f1(*flat), abs=1e-7)


@pytest.mark.parametrize(
    ("scores", "value"),
    [([0, 1], 100), ([1, 0], 0), ([1, 1], 50), ([0.0, -0.0], 50), ([0, np.inf], 100)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_auroc_of_two(scores, value, dtype):
    assert metrics.auroc(np.array([0, 1]), np.array(scores, dtype)) == value


def test_any_label_above_zero_is_a_defect():
    labels, scores = np.array([0, 255, 0, 3]), np.array([0.1, 0.9, 0.4, 0.3])
    expected = metrics.image_metrics((labels > 0).astype(np.uint8), scores)
    assert metrics.image_metrics(labels, scores) == expected


def test_inputs_are_left_alone():
    labels, scores = np.array([1, 0, 1]), np.array([0.3, 0.2, -0.0], np.float32)
    metrics.image_metrics(labels, scores)
    assert labels.tolist() == [1, 0, 1]
    assert scores.view(np.uint32)[2] == 1 << 31


@pytest.mark.parametrize("kind", [0, 1])
def test_auroc_of_one_kind_alone_is_undefined(kind):
    assert np.isnan(metrics.auroc(np.full(3, kind), np.arange(3.0)))


def test_precision_without_defects_is_undefined():
    found = metrics.image_metrics(np.zeros(3), np.arange(3.0))
    assert np.isnan(list(found.values())).all()


def test_metrics_of_defects_alone_are_undefined():
    found = metrics.image_metrics(np.ones(3), np.arange(3.0))
    assert np.isnan([*found.values()]).all()


@pytest.mark.parametrize("kind", [0, 1])
def test_aupro_of_one_kind_alone_is_undefined(kind):
    masks = np.full((1, 3, 3), kind, np.uint8)
    assert np.isnan(aupro(masks, np.zeros((1, 3, 3))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "metric", [metrics.auroc, metrics.image_metrics, metrics.pixel_metrics]
)
def test_nan_scores_are_refused(metric, dtype):
    labels = np.array([[[0, 1], [0, 1]]], np.uint8)
    scores = np.array([[[0, 1], [np.nan, 0]]], dtype)
    with pytest.raises(ValueError, match="nan"):
        metric(labels, scores)


def aupro(masks, maps, limit=0.3):
    return metrics.pixel_metrics(masks, maps, limit)["aupro"]


def slow_aupro(masks, maps, limit):
    """Mean overlap of the regions at every threshold, then trapezoids up to `limit`."""
    regions, good, points = [], masks == 0, [(0, 0)]
    for image, mask in enumerate(masks):
        labelled, count = label(mask, np.ones((3, 3)))
        regions += [(image, labelled == number) for number in range(1, count + 1)]
    for threshold in sorted(set(maps.ravel()), reverse=True):
        hot = maps >= threshold
        overlap = np.mean([hot[image][region].mean() for image, region in regions])
        points.append((hot[good].mean(), overlap))
    area = 0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > limit > x0:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2 if x1 <= limit else 0
    return 100 * area / limit


@st.composite
def map_cases(draw):
    shape = 2, draw(st.integers(3, 6)), draw(st.integers(3, 6))
    masks = draw(arrays(np.uint8, shape, elements=st.integers(0, 1)))
    masks[0, 0, :2] = 0, 1
    dtype, elements = SCORES[draw(st.sampled_from(list(SCORES)))]
    return masks, draw(arrays(dtype, shape, elements=elements))


@given(map_cases(), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_is_that_of_the_slow_reference(case, limit):
    expected = slow_aupro(*case, limit)
    assert aupro(*case, limit) == pytest.approx(expected, abs=1e-9)


def two_regions():
    masks = np.zeros((1, 8, 8), np.uint8)
    masks[0, :4, :4] = 1  # 16 pixels
    masks[0, 6, 6] = 1  # 1 pixel
    return masks


def test_a_perfect_map_has_full_aupro():
    masks = two_regions()
    assert aupro(masks, masks.astype(float)) == pytest.approx(100)


def test_regions_count_the_same_whatever_their_area():
    masks = two_regions()
    maps = masks * 1.0
    maps[0, 6, 6] = -1  # the small one comes last of all
    assert aupro(masks, maps) == pytest.approx(50)


def test_pixels_that_touch_at_a_corner_are_one_region():
    regions = metrics.label_regions(np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 0]]]))
    assert regions.tolist() == [[[1, 0, 0], [0, 1, 0], [0, 0, 0]]]


def test_regions_are_numbered_on_through_the_images():
    masks = np.array([[[1, 0, 1]], [[0, 0, 0]], [[2, 0, 1]]], np.uint8)
    assert metrics.label_regions(masks).tolist() == [
        [[1, 0, 2]],
        [[0] * 3],
        [[3, 0, 4]],
    ]


def test_a_region_is_numbered_by_what_counts_of_it():
    masks = np.array([[[1, IGNORED, 1], [IGNORED, IGNORED, 0]]], np.uint8)
    assert metrics.label_regions(masks).tolist() == [[[1, 0, 2], [0, 0, 0]]]


@given(map_cases())
def test_pixels_that_do_not_count_are_left_out(case):
    """As if they had no place in the maps: those of the last rows and images."""
    masks, maps = case
    more = np.concatenate([np.pad(masks, ((0, 0), (0, 2), (0, 1))) for _ in range(2)])
    more[:, masks.shape[1] :] = more[..., masks.shape[2] :] = IGNORED
    more[len(masks) :] = IGNORED
    noise = np.random.default_rng(0).integers(-5, 5, more.shape).astype(maps.dtype)
    noise[: len(masks), : masks.shape[1], : masks.shape[2]] = maps
    assert metrics.pixel_metrics(more, noise) == metrics.pixel_metrics(masks, maps)
    assert metrics.pixel_auroc(more, noise) == metrics.auroc(masks, maps)


def test_without_pixels_that_count_every_metric_is_undefined():
    masks = np.full((1, 4, 4), IGNORED, np.uint8)
    found = metrics.pixel_metrics(masks, np.zeros((1, 4, 4), np.float32))
    assert np.isnan([*found.values()]).all()


@pytest.mark.parametrize(
    ("metric", "task"), [(metrics.image_metrics, "cls"), (metrics.pixel_metrics, "seg")]
)
def test_metrics_are_named_as_tables_expect(metric, task):
    masks = two_regions()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metric(masks, masks.astype(np.float32))
    assert tuple(found) == metrics.METRICS[task]
    assert list(found.values()) == [pytest.approx(100)] * len(found)


def test_without_images_every_metric_is_undefined():
    nothing = metrics.image_metrics(np.empty(0), np.empty(0))
    pixels = metrics.pixel_metrics(np.empty((0, 4, 4)), np.empty((0, 4, 4)))
    assert np.isnan([*nothing.values(), *pixels.values()]).all()
