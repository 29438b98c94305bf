import numpy as np
import pytest
from PIL import Image

from fsad.data.images import load_masks
from fsad.data.layouts import Sample
from fsad.data.region import check_region, read_region, without_outside
from fsad.errors import UserError

LEFT = np.zeros((6, 8), bool)
LEFT[:, :4] = True


def saved(path, array):
    Image.fromarray(array).save(path)
    return path


def test_white_is_looked_at(tmp_path):
    region = read_region(saved(tmp_path / "roi.png", LEFT.astype(np.uint8) * 255))
    assert np.array_equal(region, LEFT)


def test_a_region_that_covers_nothing_is_refused_by_name(tmp_path):
    path = saved(tmp_path / "roi.png", np.zeros((6, 8), np.uint8))
    with pytest.raises(UserError, match=r"roi\.png: the region .* covers nothing"):
        read_region(path)


def test_an_image_of_another_shape_is_refused_by_name():
    check_region(LEFT, "a.png", (6, 8))
    with pytest.raises(UserError, match=r"a\.png: is 9x6 pixels, .* 8x6"):
        check_region(LEFT, "a.png", (6, 9))


def test_what_lies_outside_cannot_be_told():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    other = image.copy()
    other[:, 4:] = 7
    assert np.array_equal(without_outside(image, LEFT), without_outside(other, LEFT))
    assert np.array_equal(without_outside(image, LEFT)[:, :4], image[:, :4])


@pytest.mark.parametrize("resolution", [16, "raw"])
def test_pixels_outside_do_not_count(tmp_path, resolution):
    image = saved(tmp_path / "a.png", np.zeros((6, 8), np.uint8))
    defect = np.zeros((6, 8), np.uint8)
    defect[0] = 255
    mask = saved(tmp_path / "m.png", defect)
    samples = [Sample("bad", image, 1, mask), Sample("good", image, 0, None)]
    bad, good = load_masks(samples, resolution, 1, LEFT)["masks"]
    middle = bad.shape[1] // 2
    assert set(bad[:, :middle].ravel()) == {0, 1}
    assert (bad[:, middle:] == 255).all()
    assert set(good[:, :middle].ravel()) == {0}


def test_a_defect_outside_is_told_and_all_of_them_are_an_error(tmp_path, caplog):
    image = saved(tmp_path / "a.png", np.zeros((6, 8), np.uint8))
    masks = {"in": LEFT, "out": ~LEFT}
    samples = [
        Sample(n, image, 1, saved(tmp_path / f"{n}.png", m.astype(np.uint8) * 255))
        for n, m in masks.items()
    ]
    load_masks(samples, 8, 1, LEFT)
    (line,) = [x for x in caplog.messages if "roi" in x]
    assert "out.png" in line
    with pytest.raises(UserError, match=r"out\.png: .*`roi`.* widen `roi`"):
        load_masks(samples[1:], 8, 1, LEFT)
