"""Time and memory of calls, and of two ways of doing the same."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

sys.path.append(str(Path(__file__).parents[1]))
from stress.memory import growth, resident

T = TypeVar("T")


def seconds(work: Callable, repeat: int) -> float:
    """Median wall time of `work`, after one call that does not count."""
    work()
    return statistics.median(timed(work) for _ in range(repeat))


def timed(work: Callable) -> float:
    """Wall time of one call, and of what it leaves to the GPU."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def against(ours: float, other: float) -> dict:
    """Both times and how many times faster ours is."""
    return {"ours_seconds": ours, "plain_seconds": other, "ratio": other / ours}


def compared(
    ours: Callable, plain: Callable, repeat: int, same: Callable | None = None
) -> dict:
    """Median wall times of both ways, called in turn so that other load slows both, and
    the peak memory of the process in a call before these.

    same: raises where the results of both are not the same.
    """
    (found, our_peak), (expected, plain_peak) = peak_mb(ours), peak_mb(plain)
    if same is not None:
        same(found, expected)
    times = [(timed(ours), timed(plain)) for _ in range(repeat)]
    peaks = {"ours_peak_mb": our_peak, "plain_peak_mb": plain_peak}
    return against(*map(statistics.median, zip(*times, strict=True))) | peaks


def peak_mb(work: Callable[[], T]) -> tuple[T, float]:
    """Result of a call, and the peak memory of this process in it, in MB."""
    before = resident()
    result, grown = growth(work)
    return result, (before + grown) / 2**20
