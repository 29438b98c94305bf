"""Tiles: an image cut into equal parts, each of which a backbone sees by itself.

Rows of tiles and columns of tiles are cut apart, so that a tile is a row by a column.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np

from fsad.data.views import View, resized

SQUAREST = 1.25  # most that the sides of a tile of `auto_grid` differ by
LEAST_TILES = 2
INSIDE = "inside"
SEEN = "images", "whole", INSIDE, f"whole_{INSIDE}"  # of `pictures`, `insides`
MIDDLE = 127  # between black and white


def cut(image: np.ndarray, view: View) -> np.ndarray:
    """The tiles of an image uint8 [H, W, 3] in a view, uint8 [R, C, h, w, 3]."""
    rows, columns = spans(image.shape[:2], view)
    return np.stack(
        [
            np.stack([resized(image[a:b, c:d], view) for c, d in columns.tolist()])
            for a, b in rows.tolist()
        ]
    )


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


def spans(shape: Sequence[int], view: View) -> tuple[np.ndarray, np.ndarray]:
    """First pixel and end of the rows [R, 2] and columns [C, 2] of tiles, int64.

    shape: height and width of the image. All tiles of an image are equally large, and
    none is larger than the image.
    """
    counts = view.grid or (None, None)
    rows, columns = (_spans(s, c, view) for s, c in zip(shape, counts, strict=True))
    return rows, columns


def _spans(side: int, count: int | None, view: View) -> np.ndarray:
    """Spans [n, 2] along a side of this many pixels; count: None for tiles by size."""
    kept = 1 - view.overlap
    if count is None:
        length = min(side, view.tile)
        count = 1 + ceil(round((side - length) / (length * kept), 6))
    else:
        length = ceil(round(side / (1 + (count - 1) * kept), 6))
    starts = np.linspace(0, side - length, count).round().astype(int)
    return np.stack([starts, starts + length], 1)


def shares(shapes: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Spans of the tiles of images as shares of their sides, float32.

    shapes: heights and widths [N, 2] of images with as many tiles each. Returns those
    of rows [N, R, 2] and of columns [N, C, 2].
    """
    like = spans(shapes[0] if len(shapes) else (view.size, view.size), view)
    rows, columns = (np.empty((len(shapes), *x.shape), np.float32) for x in like)
    for row, (height, width) in enumerate(shapes.tolist()):
        of_rows, of_columns = spans((height, width), view)
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
