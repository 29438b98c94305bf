"""Copies of support images, made of raw pixels before resizing."""

from typing import NamedTuple


class Augment(NamedTuple):
    """Copies of a support image.

    kind: `none`, `rotations` (`count` equal steps of 360 degrees, 0 first) or
    `random_rotations` (the image itself and `count` copies).
    """

    kind: str
    count: int

    @property
    def name(self) -> str:
        """Part of the names of files; empty without copies."""
        return "" if self.kind == "none" else f"_{self.kind}{self.count}"


NONE = Augment("none", 0)
