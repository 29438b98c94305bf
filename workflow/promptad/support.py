"""The few good images that a detector learns from."""

import zlib
from collections.abc import Sequence

import numpy as np

from promptad.errors import UserError
from promptad.layouts import Sample


def draw_support(
    train: Sequence[Sample],
    class_name: str,
    shots: int,
    seed: int,
    names: Sequence[str] | None = None,
) -> list[Sample]:
    """Choose `shots` of the good training images.

    The draw depends on (seed, class) and the sorted listing alone, and is nested:
    a smaller set is the start of a larger one. `names` (file names, in order)
    replaces the draw. Raises UserError if there are too few or a name is unknown.
    """
    pool = list(train) if names is None else [_named(train, name) for name in names]
    if shots > len(pool):
        where = "there" if names is None else "named by `support` of its overrides"
        raise UserError(
            f"{class_name}: {shots} shots asked for, {len(pool)} support images "
            f"{where}; lower `shots` or add images"
        )
    if names is not None:
        return pool[:shots]
    generator = np.random.default_rng([seed, zlib.crc32(class_name.encode())])
    return [pool[i] for i in generator.permutation(len(pool))[:shots]]


def _named(train: Sequence[Sample], name: str) -> Sample:
    for sample in train:
        if name in (sample.path.name, sample.name):
            return sample
    raise UserError(
        f"support: {name!r} is not among the good training images of "
        f"{train[0].path.parent}; mend `support` of the class"
    )
