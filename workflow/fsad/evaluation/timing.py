"""Wall-clock time of the steps of a prediction."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


@contextmanager
def timed(seconds: Counter[str], step: str) -> Iterator[None]:
    """Add the wall-clock time of a block, in seconds, to that of its step."""
    start = perf_counter()
    yield
    seconds[step] += perf_counter() - start


def speed(count: int, seconds: Counter[str]) -> str:
    """Images a second and milliseconds an image, with those of each step.

    The rate is that of `decode`, `network` and `score`; `write` stands apart.
    """
    each = {step: 1000 * seconds[step] / count for step in seconds}
    written = each.pop("write", 0)
    total = sum(each.values())
    steps = ", ".join(f"{n} {x:.1f}" for n, x in each.items())
    rate = f"{1000 / total:.1f} a second, {total:.1f} ms an image ({steps})"
    return f"{count} images, {rate}; write {written:.1f}"
