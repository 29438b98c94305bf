"""Metrics in bounded memory against those of all pixels at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fsad.data.masks import IGNORED
from fsad.evaluation import metrics, streaming

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
KINDS = {
    "all": [0, 1, IGNORED],
    "no ignored": [0, 1],
    "no defects": [0, IGNORED],
    "defects alone": [1],
}
SCORES = {
    "ties": st.sampled_from([0.0, -0.0, 0.25, 0.5]),
    "signed": st.floats(-1, 1, width=32),
    "any": st.floats(0, width=32),
}


@st.composite
def cases(draw):
    """Masks and maps of up to four pictures of any shapes."""
    shapes = draw(st.lists(SHAPES, max_size=4))
    kinds = st.sampled_from(KINDS[draw(st.sampled_from(list(KINDS)))])
    scores = SCORES[draw(st.sampled_from(list(SCORES)))]
    masks = [draw(arrays(np.uint8, shape, elements=kinds)) for shape in shapes]
    return masks, [draw(arrays(np.float32, s, elements=scores)) for s in shapes]


def padded(pictures, value):
    """Pictures in one array of the largest height and width."""
    found = np.full((len(pictures), 6, 6), value, pictures[0].dtype)
    for place, picture in zip(found, pictures, strict=True):
        place[: picture.shape[0], : picture.shape[1]] = picture
    return found


def plain(function, masks, maps, **options):
    """A function of `metrics`, of all pixels at once."""
    masks = masks or [np.full((1, 1), IGNORED, np.uint8)]
    maps = maps or [np.zeros((1, 1), np.float32)]
    return function(padded(masks, IGNORED), padded(maps, 0), **options)


@given(cases(), st.sampled_from([1, 2, 5, 40]), st.sampled_from([0.05, 0.3, 1.0]))
def test_all_metrics_are_those_of_all_pixels_at_once(case, block, limit):
    pictures = streaming.Pictures(case[0], case[1].__getitem__)
    found = streaming.pixel_metrics(pictures, limit, block)
    expected = plain(metrics.pixel_metrics, *case, fpr_limit=limit)
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


@given(cases(), st.sampled_from([1, 2, 5, 40]))
def test_the_auroc_is_exactly_that_of_all_pixels_at_once(case, block):
    pictures = streaming.Pictures(case[0], case[1].__getitem__)
    found = streaming.pixel_auroc(pictures, block)
    expected = plain(metrics.pixel_auroc, *case)
    assert found == expected or np.isnan([found, expected]).all()


def many_pixels(levels=10**6):
    """Pictures of two shapes with defects of a few percent, and scores."""
    generator = np.random.default_rng(levels)
    masks = [np.zeros(shape, np.uint8) for shape in [(90, 70), (40, 50), (64, 64)]]
    for mask in masks[:2]:
        mask[5:20, 10:30] = mask[25:30, :4] = 1
        mask[26, :] = IGNORED  # cuts a region in two
    drawn = [generator.gamma(2, 0.1, m.shape) + 0.2 * (m == 1) for m in masks]
    return masks, [(np.rint(x * levels) / levels).astype(np.float32) for x in drawn]


@pytest.mark.parametrize("levels", [10, 1000, 10**6])
@pytest.mark.parametrize("block", [7, 100, 2000, streaming.BLOCK])
def test_the_size_of_a_block_does_not_matter(levels, block):
    masks, maps = many_pixels(levels)
    pictures = streaming.Pictures(masks, maps.__getitem__)
    whole = streaming.pixel_metrics(pictures)
    found = streaming.pixel_metrics(pictures, block=block)
    assert found == pytest.approx(whole, abs=1e-9)
    assert found["pixel_auroc"] == streaming.pixel_auroc(pictures, block)


def test_scores_of_all_sizes_are_counted(monkeypatch):
    """Cells that good pixels are counted in are few and wide here."""
    masks, maps = many_pixels()
    pictures = streaming.Pictures(masks, maps.__getitem__)
    whole = streaming.pixel_metrics(pictures)
    for bits in (1, 5, 31):
        monkeypatch.setattr(streaming, "CELL_BITS", min(bits, 22))
        assert streaming.pixel_metrics(pictures) == whole


def test_a_range_of_scores_holds_a_block_of_defects_or_one_tie():
    scores = np.array([9, 7, 7, 7, 5, 4, 2, 2], np.float32)[None]
    masks = [np.ones((1, 8), np.uint8), np.zeros((1, 1), np.uint8)]
    maps = [scores, np.full((1, 1), 6, np.float32)]
    pictures = streaming.Pictures(masks, maps.__getitem__)
    known = lambda index: 1, np.array([1, 8]), 2
    steps = [*streaming.thresholds(pictures, *known)]
    counts = [np.diff(step.defects).tolist() for step in steps]
    assert counts == [[1], [3], [1, 1], [2]]
    assert [step.good[1:].tolist() for step in steps] == [[0], [0], [1, 1], [1]]


def test_nan_scores_are_refused():
    masks = [np.array([[0, 1]], np.uint8)]
    for values in ([np.nan, 0], [0, np.nan]):
        maps = [np.array([values], np.float32)]
        pictures = streaming.Pictures(masks, maps.__getitem__)
        for metric in (streaming.pixel_auroc, streaming.pixel_metrics):
            with pytest.raises(ValueError, match="nan"):
                metric(pictures)
