import numpy as np
import pytest

from fsad.data.groups import in_order, joined, split, stacked

SMALL, WIDE = (2, 3), (2, 5)


def items(*shapes):
    """An array of each shape, with a value of its own."""
    arrays = (np.full(shape, index, np.uint8) for index, shape in enumerate(shapes))
    return [{"images": array} for array in arrays]


def test_items_of_one_shape_are_one_array():
    found = stacked(items(SMALL, SMALL), {})
    assert found.keys() == {"images"}
    assert found["images"].dtype == np.uint8
    assert np.array_equal(found["images"], [x["images"] for x in items(SMALL, SMALL)])


def test_without_items_there_is_an_empty_array():
    assert stacked([], {"images": SMALL})["images"].shape == (0, 2, 3)


def test_items_of_several_shapes_are_an_array_of_each():
    found = stacked(items(WIDE, SMALL, WIDE), {})
    assert found.keys() == {"rows.0", "rows.1", "images.0", "images.1"}
    assert found["rows.0"].tolist() == [0, 2]
    assert found["images.0"].shape == (2, *WIDE)
    assert found["rows.1"].tolist() == [1]
    assert found["images.1"].shape == (1, *SMALL)


def test_the_list_is_emptied_so_that_nothing_is_held_twice():
    given = items(WIDE, SMALL)
    stacked(given, {})
    assert given == [None, None]


@pytest.mark.parametrize(
    "shapes", [[], [SMALL], [SMALL] * 3, [WIDE, SMALL, WIDE, SMALL, (1, 1)]]
)
def test_items_come_back_in_order(shapes):
    found = stacked(items(*shapes), {"images": SMALL}) | {"labels": np.zeros(3)}
    for one, other in zip(in_order(found, "images"), items(*shapes), strict=True):
        assert np.array_equal(one, other["images"])


def test_groups_are_split_as_they_were_joined():
    groups = [
        (np.array(rows), {"x": np.array(rows) * 10, "y": np.array(rows) * 100})
        for rows in ([0, 3], [1], [2, 4])
    ]
    for count in (1, 3):
        found = split(joined(groups[:count]) | {"labels": np.zeros(5)}, ["x", "y"])
        assert len(found) == count
        for (rows, arrays), (_, expected) in zip(found, groups, strict=False):
            assert arrays.keys() == {"x", "y"}
            assert len(rows) == len(arrays["x"])
            assert np.array_equal(arrays["y"], expected["y"])
    assert [rows.tolist() for rows, _ in found] == [[0, 3], [1], [2, 4]]
