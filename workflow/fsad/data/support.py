"""Support sets: the few good training images that a method is fitted to."""

import zlib
from collections.abc import Sequence

import numpy as np

from fsad.artifacts.names import nfc
from fsad.data.layouts import Sample
from fsad.errors import UserError


def draw_support(
    train: Sequence[Sample],
    class_name: str,
    shots: int,
    seed: int,
    names: Sequence[str] | None = None,
) -> list[Sample]:
    """Choose `shots` of the good training images.

    The draw depends only on seed, class and the sorted listing, and is nested: a
    smaller set is the start of a larger one. `names` (file names, in order) replace
    the draw. Raises UserError if there are too few images or a name is unknown.
    """
    pool = list(train) if names is None else named_support(train, names)
    if shots > len(pool):
        where = "there" if names is None else "named by `support` of its overrides"
        raise UserError(
            f"{class_name}: {shots} shots asked for, {len(pool)} support images "
            f"{where}; lower `shots` or add images"
        )
    if names is not None:
        return pool[:shots]
    generator = np.random.default_rng([seed, zlib.crc32(nfc(class_name).encode())])
    return [pool[i] for i in generator.permutation(len(pool))[:shots]]


def named_support(train: Sequence[Sample], names: Sequence[str]) -> list[Sample]:
    """Training images with these names (FILE or good/FILE), in order.

    Names may be of another Unicode form. Raises UserError for an unknown name.
    """
    by_name = {s.path.name: s for s in train} | {s.name: s for s in train}
    known = {nfc(name): sample for name, sample in by_name.items()} | by_name
    chosen = [known.get(name) or known.get(nfc(name)) for name in names]
    if None in chosen:
        raise UserError(
            f"support: {names[chosen.index(None)]!r} is not among the good training "
            f"images of {train[0].path.parent}; correct `support` of the class"
        )
    return chosen
