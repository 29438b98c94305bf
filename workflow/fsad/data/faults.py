"""Faults of files, reported in one line for all files that share one."""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fsad.errors import UserError

DARK = 64  # of 255: an image without a brighter value is nearly black
FLAT = 4  # an image whose values differ by less shows nothing
ASPECT = 0.1  # part by which width / height may differ from a training image
OTHER_ASPECT = (
    "is {}x{} pixels, of another aspect than all images to learn from, and is squashed "
    "otherwise; crop it to theirs"
)

Fault = tuple[Path, str]  # a file and what is wrong with it
Shape = tuple[int, int]  # height and width


class Look(NamedTuple):
    """Shape of an image, bits in use of its 16, and digest of the network's pixels."""

    shape: Shape
    depth: int
    digest: str


Looks = Mapping[Path, Look]


class FileError(UserError):
    """A file that cannot be used: `path`, and `reason` with the remedy."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def short_name(path: Path) -> str:
    """Name of a file within its class, the same wherever the class lies."""
    return f"{path.parent.name}/{path.name}"


def grouped(faults: Iterable[Fault], named: Callable[[Path], str] = str) -> list[str]:
    """One line for each kind of fault, with its first file and their number.

    Reasons that differ in digits, or in text in brackets, are of the same kind.
    """
    kinds = {}
    for path, reason in faults:
        kind = re.sub(r"(?s)\(.*\)|\d+", "", reason)
        kinds.setdefault(kind, []).append((named(path), reason))
    return [_line(found) for found in kinds.values()]


def _line(found: list[tuple[str, str]]) -> str:
    name, reason = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{name}{more}: {reason}"


def image_faults(image: np.ndarray) -> list[str]:
    """Reasons to doubt an image, uint8 [H, W, 3]: it is nearly black or flat."""
    highest = int(image.max())
    if highest < DARK:
        why = f"is nearly black (brightest value {highest} of 255); save it with the "
        return [f"{why}range of its type, or remove it"]
    # Rows first, over whole vectors: far faster than both axes at once.
    if np.ptp(np.stack([image.min(0), image.max(0)]), (0, 1)).max() < FLAT:
        return ["is of one colour; save the picture again, or remove it"]
    return []


def twin_faults(looks: Looks) -> list[Fault]:
    """Faults of images that equal another of their set."""
    first, found = {}, []
    for path, look in looks.items():
        other = first.setdefault(look.digest, path)
        if other != path:
            why = f"the same image as another ({short_name(other)}); remove one"
            found.append((path, why))
    return found


def comparison_faults(learned: Looks, test: Looks) -> list[Fault]:
    """Faults that a comparison of images to learn from with test images shows."""
    known = {look.digest: path for path, look in learned.items()}
    twins = []
    for path, look in test.items():
        if look.digest in known:
            other = short_name(known[look.digest])
            why = f"the same image as one to learn from ({other}); remove one"
            twins.append((path, why))
    depths = _depth_faults({**learned, **test})
    shapes = {look.shape for look in learned.values()}
    aspects = ((path, aspect_fault(look.shape, shapes)) for path, look in test.items())
    return [*depths, *twins, *((path, why) for path, why in aspects if why)]


def _depth_faults(looks: Looks) -> Iterator[Fault]:
    deepest = max((look.depth for look in looks.values()), default=0)
    for path, look in looks.items():
        if 0 < look.depth < deepest:
            why = f"uses {look.depth} of its 16 bits, others {deepest}, and is read as "
            yield (
                path,
                f"{why}brighter than they are; save all with 8 bits on one scale",
            )


def aspect_fault(shape: Shape, learned: Collection[Shape]) -> str | None:
    """Reason to doubt an image whose aspect is none of those learned from."""
    height, width = shape
    known = (w / h for h, w in learned)
    if not learned or min(abs(width / height / k - 1) for k in known) <= ASPECT:
        return None
    return OTHER_ASPECT.format(width, height)


def pixel_digest(image: np.ndarray) -> str:
    """Digest of an image's pixels."""
    return hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).hexdigest()
