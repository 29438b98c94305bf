"""Views: how images become the input of a network."""

from typing import NamedTuple


class View(NamedTuple):
    """Geometry of a network's input.

    fit: `square` squashes to size x size pixels; `edge` gives the shorter edge `size`
    pixels and keeps the aspect. filter: `area` (averaged over areas where an axis
    shrinks, cubic where it grows) or `bicubic` (Pillow's).
    """

    fit: str
    size: int
    filter: str = "area"

    @property
    def name(self) -> str:
        """Part of the names of files."""
        side = "px" if self.fit == "square" else self.fit
        filter_name = "" if self.filter == "area" else f"_{self.filter}"
        return f"{side}{self.size}{filter_name}"
