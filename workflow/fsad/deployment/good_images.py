"""Folders of good images, for a detector that has learned from others."""

from collections.abc import Mapping
from pathlib import Path

from fsad.artifacts.digests import file_digests
from fsad.data.layouts import GOOD, MEANS_GOOD, find_images
from fsad.errors import UserError
from fsad.evaluation.detector import Detector


def find_good(folder: str | Path) -> dict[str, Path]:
    """Image files of a folder by name; UserError if only some lie in `good`."""
    images = find_images([folder])
    other = [path for path in images.values() if not _is_in_good(path, Path(folder))]
    if 0 < len(other) < len(images):
        raise UserError(
            f"{folder}: holds images of folders named {GOOD} and others ({other[0]}); "
            "name the folder of the good images"
        )
    return images


def _is_in_good(path: Path, folder: Path) -> bool:
    below = path.relative_to(folder.absolute()).parts[:-1]
    return any(part.casefold() in MEANS_GOOD for part in below)


def counted(
    images: Mapping[str, Path], detector: Detector
) -> tuple[dict[str, Path], dict[Path, str], list[str]]:
    """Images that count, digests of all, and a line for each that does not count."""
    digests, counted, left_out = file_digests(images.values()), {}, []
    support = {digest: name for name, digest in detector.described["images"]}
    first = {}
    for name, path in images.items():
        digest = digests[path]
        if digest in support:
            left_out.append(f"{path}: left out, is support image {support[digest]}")
        elif digest in first:
            left_out.append(f"{path}: left out, is the same file as {first[digest]}")
        else:
            first[digest], counted[name] = path, path
    return counted, digests, left_out
