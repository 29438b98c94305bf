"""Arrays of a set of images, one array for each shape among them.

With one shape the arrays have their plain names. With several, shape i has `rows.i`,
the places of its images in the set, and arrays called `NAME.i`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

ROWS = "rows"
Group = tuple[np.ndarray, Mapping]  # rows int64 [n], and arrays [n, ...] by name


def stacked(items: list[np.ndarray], name: str, empty: tuple = ()) -> dict:
    """Arrays of items, uint8 each, in one array for each shape.

    empty: shape of an item where there is none. The list is emptied on the way, so that
    no item is held twice.
    """
    rows = defaultdict(list)
    for row, item in enumerate(items):
        rows[item.shape].append(row)
    groups = []
    for shape, chosen in (rows or {empty: []}).items():
        array = np.empty((len(chosen), *shape), np.uint8)
        for place, row in enumerate(chosen):
            array[place], items[row] = items[row], None
        groups.append((np.array(chosen, int), {name: array}))
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
