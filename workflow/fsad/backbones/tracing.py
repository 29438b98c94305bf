"""Loops over images, which have no place in a graph for any number of images."""

from collections.abc import Sequence

import torch
from torch import Tensor


def in_blocks(values: Tensor, size: int) -> Sequence[Tensor]:
    """Parts of values along the first axis, `size` long; one of all while traced."""
    return [values] if torch.compiler.is_exporting() else values.split(size)
