"""Faults of files, each told once for all files that share it."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from fsad.errors import UserError

DARK = 64  # of 255: an image without a brighter value is nearly black
FLAT = 4  # an image whose values differ by less shows nothing
ASPECT = 0.1  # part by which width / height may differ from a training image

Fault = tuple[Path, str]  # a file and what is wrong with it


class FileError(UserError):
    """A file that cannot be used: `path`, and `reason` with the remedy."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def grouped(faults: Iterable[Fault]) -> list[str]:
    """One line for each kind of fault, with its first file and their number.

    Reasons that differ in digits, or in text in brackets, are of the same kind.
    """
    kinds = {}
    for path, reason in faults:
        kind = re.sub(r"(?s)\(.*\)|\d+", "", reason)
        kinds.setdefault(kind, []).append((path, reason))
    return [_line(found) for found in kinds.values()]


def _line(found: list[Fault]) -> str:
    path, reason = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{path}{more}: {reason}"


def image_faults(image: np.ndarray) -> list[str]:
    """Reasons to doubt an image, uint8 [H, W, 3]: it is nearly black or flat."""
    highest = int(image.max())
    if highest < DARK:
        return [
            f"is nearly black (brightest value {highest} of 255); save it with the "
            "range of its type, or remove it"
        ]
    if highest - int(image.min()) >= FLAT and np.ptp(image, (0, 1)).max() >= FLAT:
        return []
    return ["is of one colour; save the picture again, or remove it"]


def depth_faults(depths: Mapping[Path, int]) -> list[Fault]:
    """Faults of 16-bit images of which some use fewer bits than the others.

    depths: the bits in use of each, 0 for images of 8 bits.
    """
    deepest = max(depths.values(), default=0)
    reason = (
        f"uses {{}} of its 16 bits, others of its class {deepest}, and is read as "
        "brighter than they are; save all with 8 bits on one scale"
    )
    return [(p, reason.format(n)) for p, n in depths.items() if 0 < n < deepest]


def twin_faults(learned: Mapping[Path, str], test: Mapping[Path, str]) -> list[Fault]:
    """Faults of images with the pixels of an earlier one; values are digests."""
    first = {}
    for path, digest in learned.items():
        first.setdefault(digest, path)
    faults = [
        (path, f"the same image as (another, {first[digest]}); remove one of them")
        for path, digest in learned.items()
        if first[digest] != path
    ]
    return faults + list(_test_twins(first, test))


def _test_twins(first: dict[str, Path], test: Mapping[Path, str]) -> Iterable[Fault]:
    trained = set(first)
    for path, digest in test.items():
        other = first.setdefault(digest, path)
        if digest in trained:
            reason = f"the same image as (one to learn from, {other}); test images "
            yield path, f"{reason}must not be training images, remove one of them"
        elif other != path:
            reason = f"the same image as (another to test, {other})"
            yield path, f"{reason}; it counts twice, remove one of them"


def aspect_faults(
    learned: Iterable[tuple[int, int]], test: Mapping[Path, tuple[int, int]]
) -> list[Fault]:
    """Faults of images of another aspect; shapes are heights and widths."""
    known = {width / height for height, width in learned}
    return [
        (
            path,
            f"is {width}x{height} pixels, of another aspect than all images to learn "
            "from, and is squashed otherwise; crop it to their aspect",
        )
        for path, (height, width) in test.items()
        if known and min(abs(width / height / k - 1) for k in known) > ASPECT
    ]


def pixel_digest(image: np.ndarray) -> str:
    """Digest of pixels."""
    return hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).hexdigest()
