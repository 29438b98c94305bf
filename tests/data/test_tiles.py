import numpy as np
import pytest

from fsad.data.tiles import (
    auto_grid,
    cut,
    insides,
    pictures,
    shares,
    spans,
    tiled_shape,
)
from fsad.data.views import View, resized

GRID = View("square", 8, grid=(2, 3))
SHAPES = [(40, 60), (41, 59), (7, 5), (1, 1)]
VIEWS = {
    "grid": GRID,
    "one row": View("square", 8, grid=(1, 4)),
    "overlapping grid": View("square", 8, grid=(3, 2), overlap=0.25),
    "size": View("square", 8, tile=16),
    "overlapping size": View("square", 8, tile=16, overlap=0.5),
    "larger than the image": View("square", 8, tile=100),
}


def image(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", VIEWS)
def test_tiles_cover_an_image_and_are_equally_large(name, shape):
    view = VIEWS[name]
    sides = tiled_shape(shape, view)
    for found, side in zip(spans(shape, view), sides, strict=True):
        assert (found[0, 0], found[-1, 1]) == (0, side)
        assert len({end - start for start, end in found.tolist()}) == 1
        assert (found[1:, 0] <= found[:-1, 1]).all()


def test_tiles_by_size_have_it_and_overlap_by_as_much_as_asked():
    rows, columns = spans((40, 16), View("square", 8, tile=16, overlap=0.25))
    assert rows.tolist() == [[0, 16], [12, 28], [24, 40]]
    assert columns.tolist() == [[0, 16]]


def test_tiles_of_a_grid_overlap_by_a_share_of_their_side():
    view = View("square", 8, grid=(3, 1), overlap=0.25)
    rows, columns = spans((100, 10), view)
    assert tiled_shape((100, 10), view) == (20, 8)
    assert rows.tolist() == [[0, 8], [6, 14], [12, 20]]
    assert columns.tolist() == [[0, 8]]


@pytest.mark.parametrize("view", [GRID, View("square", 8, tile=20)])
def test_a_tile_is_the_resized_part_of_the_image(view):
    picture = image()
    tiles = cut(picture, view)
    assert tiles.shape == (2, 3, 8, 8, 3)
    expected = resized(picture[20:, 20:40], View("square", 8))
    assert np.array_equal(tiles[1, 1], expected)


def test_tiles_of_a_grid_keep_the_proportions_of_the_image_where_asked():
    view = View("edge", 8, grid=(1, 3))
    assert tiled_shape((40, 60), view) == (16, 24)
    assert cut(image(), view).shape == (1, 3, 16, 8, 3)


def test_a_grid_cuts_an_image_whose_sides_it_does_not_divide():
    """The image is resized as a whole, so that no tile has other pixels."""
    picture = image(41, 59)
    large = resized(picture, View("square", 16))
    tiles = cut(picture, View("square", 8, grid=(2, 2)))
    assert np.array_equal(tiles[1, 0], large[8:, :8])


def test_the_whole_image_is_seen_beside_its_tiles():
    seen = pictures(image(), GRID._replace(whole=True))
    assert seen.keys() == {"images", "whole"}
    assert np.array_equal(seen["whole"], resized(image(), View("square", 8)))


def test_places_of_tiles_are_shares_of_each_image():
    view = View("square", 8, grid=(1, 3))
    rows, columns = shares(np.array([[10, 30], [10, 31]]), view)
    assert rows.tolist() == [[[0, 1]], [[0, 1]]]
    assert columns[0] == pytest.approx(np.array([[0, 1], [1, 2], [2, 3]]) / 3)
    assert columns[1] == pytest.approx(columns[0])
    assert [len(x) for x in shares(np.empty((0, 2), int), view)] == [0, 0]


@pytest.mark.parametrize(
    ("shape", "size", "most", "grid"),
    [
        ((384, 384), 144, 8, (2, 2)),
        ((460, 1130), 144, 8, (2, 4)),
        ((1256, 500), 144, 8, (3, 1)),
        ((2048, 2048), 240, 64, (8, 8)),
        ((256, 256), 144, 8, None),  # a tile would be enlarged
        ((300, 500), 240, 8, (1, 2)),
        ((500, 700), 240, 2, None),  # two tiles would be far from square
    ],
)
def test_automatic_tiles_are_as_many_as_are_nearly_square(shape, size, most, grid):
    assert auto_grid(shape, size, most) == grid


def test_a_region_is_cut_as_the_image_is():
    white = np.zeros((40, 60, 3), np.uint8)
    white[:20, :20] = 255
    seen = insides(white, GRID._replace(whole=True))
    assert seen["inside"].shape == (2, 3, 8, 8)
    assert seen["inside"].mean((2, 3)).tolist() == [[1, 0, 0], [0, 0, 0]]
    assert seen["whole_inside"].shape == (8, 8)
    assert 0 < seen["whole_inside"].mean() < 0.3


def test_names_of_views_differ_by_their_tiles():
    views = [View("square", 8), *VIEWS.values(), GRID._replace(whole=True)]
    assert len({view.name for view in views}) == len(views)
    assert GRID.of_whole() == View("square", 8)
