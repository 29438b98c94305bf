"""Tiles: an image cut into equal parts, each of which a backbone sees by itself.

Rows of tiles and columns of tiles are cut apart, so that a tile is a row by a column.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np

from fsad.data.views import View, resampled, resized, view_shape

SQUAREST = 1.25  # most that the sides of a tile of `auto_grid` differ by
LEAST_TILES = 2
INSIDE = "inside"
SEEN = "images", "whole", INSIDE, f"whole_{INSIDE}"  # of `pictures`, `insides`
MIDDLE = 127  # between black and white


def cut(image: np.ndarray, view: View) -> np.ndarray:
    """The tiles of an image uint8 [H, W, 3] in a view, uint8 [R, C, h, w, 3]."""
    rows, columns = spans(image.shape[:2], view)
    if view.grid is not None:
        shape = tiled_shape(image.shape[:2], view)
        image = resampled(image, shape, view.filter)
    parts = [[image[a:b, c:d] for c, d in columns.tolist()] for a, b in rows.tolist()]
    return np.array([[resized(part, view) for part in row] for row in parts])


def pictures(image: np.ndarray, view: View) -> dict[str, np.ndarray]:
    """What a backbone sees of an image uint8 [H, W, 3], uint8 arrays by name.

    `images`: the resized image [h, w, 3], or its tiles [R, C, h, w, 3]. `whole`: the
    resized image, where a view with tiles has it too.
    """
    if not view.is_tiled:
        return {"images": resized(image, view)}
    whole = {"whole": resized(image, view)} if view.whole else {}
    return {"images": cut(image, view), **whole}


def insides(white: np.ndarray, view: View) -> dict[str, np.ndarray]:
    """Which pixels of `pictures` lie in a region of interest, uint8, 0 or 1.

    white: the region, see `region.as_image`. Returns `inside`, of `images`, and
    `whole_inside`, of `whole` where the view has it.
    """
    names = {"images": INSIDE, "whole": f"whole_{INSIDE}"}
    marked = {names[n]: x[..., 0] > MIDDLE for n, x in pictures(white, view).items()}
    return {name: inside.astype(np.uint8) for name, inside in marked.items()}


def tiled_shape(shape: Sequence[int], view: View) -> tuple[int, int]:
    """Height and width to which an image of this shape is resized before it is cut.

    Tiles by size are cut from the image as it is. The tiles of a grid then have the
    size of the view.
    """
    if view.grid is None:
        height, width = shape
        return height, width
    lengths = _tile_shape(shape, view)
    height, width = (
        round(length * _factor(count, view))
        for length, count in zip(lengths, view.grid, strict=True)
    )
    return height, width


def _tile_shape(shape: Sequence[int], view: View) -> tuple[int, int]:
    """Height and width of a tile, where it is cut."""
    if view.grid is None:
        height, width = (min(side, view.tile) for side in shape)
        return height, width
    pairs = zip(shape, view.grid, strict=True)
    lengths = (ceil(round(side / _factor(count, view), 6)) for side, count in pairs)
    return view_shape(tuple(lengths), view)


def _factor(count: int, view: View) -> float:
    """Length of a side with this many tiles, in lengths of a tile."""
    return 1 + (count - 1) * (1 - view.overlap)


def spans(shape: Sequence[int], view: View) -> tuple[np.ndarray, np.ndarray]:
    """First pixel and end of the rows [R, 2] and columns [C, 2] of tiles, int64.

    shape: height and width of the image. Pixels are those of `tiled_shape`. All tiles
    of an image are equally large, and none is larger than the image.
    """
    sides, lengths = tiled_shape(shape, view), _tile_shape(shape, view)
    counts = view.grid or (None, None)
    keys = zip(sides, lengths, counts, strict=True)
    rows, columns = (_spans(*key, view.overlap) for key in keys)
    return rows, columns


def _spans(side: int, length: int, count: int | None, overlap: float) -> np.ndarray:
    """Spans [n, 2] of tiles of a length along a side; count: None for as many as it
    takes."""
    if count is None:
        count = 1 + ceil(round((side - length) / (length * (1 - overlap)), 6))
    starts = np.linspace(0, side - length, count).round().astype(int)
    return np.stack([starts, starts + length], 1)


def shares(shapes: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Spans of the tiles of images as shares of their sides, float32.

    shapes: heights and widths [N, 2] of images with as many tiles each. Returns those
    of rows [N, R, 2] and of columns [N, C, 2].
    """
    like = spans(shapes[0] if len(shapes) else (view.size, view.size), view)
    rows, columns = (np.empty((len(shapes), *x.shape), np.float32) for x in like)
    for row, shape in enumerate(shapes.tolist()):
        height, width = tiled_shape(shape, view)
        of_rows, of_columns = spans(shape, view)
        rows[row], columns[row] = of_rows / height, of_columns / width
    return rows, columns


def auto_grid(shape: Sequence[int], size: int, most: int) -> tuple[int, int] | None:
    """Rows and columns of nearly square tiles for an image, or None for none.

    The grid with the most tiles, of these the squarest. shape: height and width of the
    image. size: side in pixels below which a tile is not cut. most: tiles of an image.
    """
    height, width = shape
    found = []
    for rows in range(1, most + 1):
        for columns in range(1, most // rows + 1):
            sides = sorted([height / rows, width / columns])
            ratio, count = sides[1] / sides[0], rows * columns
            if sides[0] >= size and ratio <= SQUAREST and count >= LEAST_TILES:
                found.append((-count, ratio, (rows, columns)))
    return min(found)[-1] if found else None
