"""Large images: as the demo's, with defects of an extent in one window of them."""

import cv2
import numpy as np
import pytest
from numpy.random import default_rng

from fsad.data.layouts import GOOD
from fsad.demo import large
from fsad.demo.drawing import VISIBLE
from fsad.demo.large import EXTENTS, KINDS, WINDOW, extent, render
from fsad.demo.parts import fabric

SIDE = 320


@pytest.fixture(autouse=True)
def small_canvas(monkeypatch):
    monkeypatch.setattr(large, "SIDE", SIDE)


@pytest.mark.parametrize("name", EXTENTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_mask_has_its_extent_and_exactly_the_changed_pixels(name, kind, seed):
    good, blank = render(name, GOOD, default_rng(seed))
    image, mask = render(name, kind, default_rng(seed))
    smallest, largest = EXTENTS[name]
    change = cv2.absdiff(image, good).max(-1)
    assert image.shape == (SIDE, SIDE, 3)
    assert image.dtype == mask.dtype == np.uint8
    assert not blank.any()
    assert set(np.unique(mask)) == {0, 255}
    assert smallest <= extent(mask) <= largest
    assert (change[mask == 0] == 0).all()
    assert (change[mask == 255] >= VISIBLE).all()
    assert change[mask == 255].mean() > 20  # clearly visible


def test_defects_lie_anywhere():
    masks = [render("woven_fabric_fine", "hole", default_rng(s))[1] for s in range(12)]
    rows, columns = np.nonzero(np.any(masks, axis=0))
    assert np.ptp(rows) > WINDOW / 2
    assert np.ptp(columns) > WINDOW / 2


def test_a_defect_is_exposed_as_in_the_whole_image():
    rng = np.random.default_rng(0)
    scene = rng.uniform(size=(SIDE, SIDE, 3)).astype(np.float32)
    exposure = large.draw_exposure((SIDE, SIDE), rng, np.float32)
    window = slice(40, 40 + WINDOW), slice(90, 90 + WINDOW)
    part = large.expose(scene[window], exposure.within(window))
    whole = large.expose(scene, exposure)[window]
    assert cv2.absdiff(part, whole)[8:-8, 8:-8].max() <= 1


def test_an_extent_is_the_longest_side():
    mask = np.zeros((9, 9), np.uint8)
    assert extent(mask) == 0
    mask[2:4, 1] = mask[3, 1:6] = 255
    assert extent(mask) == 5


def test_there_are_threads_for_a_large_image():
    plane = np.float32(np.meshgrid(np.arange(-1024, 1024), [0]))
    scene = fabric(plane * 1.2, default_rng(0))  # turned, and from farther away
    assert scene.shape == (1, 2048, 3)
    assert np.isfinite(scene).all()
