"""Devices: checks, and CUDA graphs."""

import re
from collections.abc import Callable
from typing import TypeVar

import torch

from fsad.errors import UserError

T = TypeVar("T")


def check_device(device: str) -> None:
    """Raise UserError for an invalid device or a GPU that torch does not see."""
    if not re.fullmatch("cpu|cuda(:[0-9]+)?", device):
        raise UserError(f"device: {device!r} is neither cpu nor cuda or cuda:N")
    name, _, index = device.partition(":")
    if name == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device: {device} asked for, torch sees {torch.cuda.device_count()} GPUs "
            "here; correct `device`, or see README on GPU builds of torch"
        )


def captured(work: Callable[[], T], device: torch.device) -> Callable[[], T]:
    """Capture `work` as one CUDA graph on a GPU; on a CPU return `work` itself.

    A replay costs one launch instead of thousands. Each replay reads its inputs again
    and overwrites the same outputs. `work` must not wait for the GPU or change its
    inputs.
    """
    if device.type != "cuda":
        return work
    # By default a stream belongs to the first device.
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()  # warm-up, in which libraries choose their kernels
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = work()

    def replay() -> T:
        with torch.cuda.device(device):
            graph.replay()
        return outputs

    return replay
