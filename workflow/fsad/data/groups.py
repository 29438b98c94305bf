"""Arrays of a set of images, one array for each shape among them.

With one shape the arrays have their plain names. With several, shape i has `rows.i`,
the places of its images in the set, and arrays called `NAME.i`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

ROWS = "rows"
Group = tuple[np.ndarray, Mapping]  # rows int64 [n], and arrays [n, ...] by name


def stacked(items: list[dict], empty: Mapping[str, tuple]) -> dict:
    """Arrays of items in one array for each shape.

    items: arrays uint8 by name; those of one shape have the same shapes of all names.
    empty: shapes by name where there is no item. The list is emptied on the way, so
    that no item is held twice.
    """
    rows = defaultdict(list)
    for row, item in enumerate(items):
        rows[tuple((name, array.shape) for name, array in item.items())].append(row)
    groups = []
    for shapes, chosen in (rows or {tuple(empty.items()): []}).items():
        arrays = {n: np.empty((len(chosen), *shape), np.uint8) for n, shape in shapes}
        for place, row in enumerate(chosen):
            item, items[row] = items[row], None
            for name, array in arrays.items():
                array[place] = item[name]
        groups.append((np.array(chosen, int), arrays))
    return joined(groups)


def joined(groups: Sequence[Group]) -> dict[str, np.ndarray]:
    """Arrays of all groups by name; see the module."""
    if len(groups) == 1:
        return dict(groups[0][1])
    found = {f"{ROWS}.{index}": rows for index, (rows, _) in enumerate(groups)}
    for index, (_, arrays) in enumerate(groups):
        found |= {f"{name}.{index}": array for name, array in arrays.items()}
    return found


def split(arrays: Mapping, names: Sequence[str]) -> list[Group]:
    """The groups of `joined` with the arrays of these names."""
    if f"{ROWS}.0" not in arrays:
        own = {name: arrays[name] for name in names}
        return [(np.arange(len(next(iter(own.values())))), own)]
    count = sum(name.startswith(f"{ROWS}.") for name in arrays)
    return [
        (arrays[f"{ROWS}.{i}"], {name: arrays[f"{name}.{i}"] for name in names})
        for i in range(count)
    ]


def in_order(arrays: Mapping, name: str) -> list[np.ndarray]:
    """The items of a set by their rows."""
    found = {}
    for rows, own in split(arrays, [name]):
        found |= dict(zip(rows.tolist(), own[name], strict=True))
    return [found[row] for row in sorted(found)]
