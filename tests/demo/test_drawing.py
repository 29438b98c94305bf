import numpy as np
import pytest

from fsad.demo.drawing import VISIBLE, blend, coverage, rotate, shift, visible_change


def test_a_mask_has_visible_changes_without_specks():
    before = np.full((12, 12, 3), 100, np.uint8)
    after = before.copy()
    after[2:6, 2:6, 1] += VISIBLE
    after[8:, 8:] += VISIBLE - 1  # invisible
    after[1, 10] = 255  # a speck
    image, mask = visible_change(before, after)
    expected = np.zeros((12, 12), np.uint8)
    expected[2:6, 2:6] = 255
    assert (mask == expected).all()
    assert (image == np.where(mask[..., None], after, before)).all()


def test_planes_are_shifted_and_rotated():
    plane = np.float32(np.mgrid[0:3, 0:4][::-1])
    assert shift(plane, 1, 2)[:, 2, 1] == pytest.approx([0, 0])
    assert rotate(plane, np.pi / 2)[:, 0, 2] == pytest.approx([0, -2], abs=1e-6)


def test_a_shape_covers_what_it_lies_on():
    scene, disc = np.zeros((1, 3, 3)), coverage(np.array([[-2.0, 0.0, 2.0]]))
    assert (disc == [[1, 0.5, 0]]).all()
    assert blend(scene, disc, (1, 0, 0))[0, :, 0] == pytest.approx([1, 0.5, 0])
