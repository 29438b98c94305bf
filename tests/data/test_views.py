import numpy as np
import pytest
from PIL import Image

from fsad.data.images import square
from fsad.data.views import View, resized, view_shape


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (16, 90), (8, 8), (20, 20)])
def test_squares_are_those_of_all_methods(shape):
    image = noise(*shape)
    assert np.array_equal(resized(image, View("square", 20)), square(image, 20))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((40, 60), (20, 30)),
        ((61, 40), (30, 20)),
        ((10, 13), (20, 26)),
        ((9, 9), (20,) * 2),
    ],
)
def test_the_shorter_edge_has_the_size_and_the_longer_is_rounded_down(shape, expected):
    for kind in ("area", "bicubic"):
        view = View("edge", 20, kind)
        assert resized(noise(*shape), view).shape == (*expected, 3)
        assert view_shape(shape, view) == expected


def test_an_edge_that_shrinks_to_half_is_averaged():
    image = noise(40, 60)
    means = image.reshape(20, 2, 30, 2, 3).mean((1, 3))
    assert np.abs(resized(image, View("edge", 20)) - means).max() <= 0.5


@pytest.mark.parametrize("fit", ["square", "edge"])
def test_bicubic_is_that_of_pillow(fit):
    image = noise(45, 60)
    view = View(fit, 30, "bicubic")
    size = (30, 30) if fit == "square" else (40, 30)
    expected = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    assert np.array_equal(resized(image, view), expected)
    assert not np.array_equal(resized(image, view), resized(image, View(fit, 30)))


def test_an_image_of_the_size_of_a_view_stays_as_it_is():
    image = noise(20, 33)
    for kind in ("area", "bicubic"):
        assert np.array_equal(resized(image, View("edge", 20, kind)), image)
