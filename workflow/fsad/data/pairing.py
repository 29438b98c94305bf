"""Which files are masks of which images, judged by their names."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from fsad.artifacts.names import nfc
from fsad.data.walk import IMAGE, Found, read_start

MASK_NAME = re.compile(r"(.+)[_.-](?:mask|gt|label|seg)(?:[_-]?\d+)?", re.IGNORECASE)
POLYGONS, ARRAY = ".json", ".npy"  # endings of masks that are no images

Named = tuple[str, Found]  # a file, and the name that may be that of its image


def pair(
    files: list[Found], truth: Iterable[Named]
) -> tuple[dict[Path, list[Path]], set[Path]]:
    """Masks of each image among files of one folder, and all files that can be masks.

    A mask beside its image is called IMAGE_mask; `gt`, `label` and `seg` mean the same,
    and a number may follow. One in `truth` may also be called as its image is. Several
    are parts of one mask; but images go before polygons and arrays, those in `truth`
    before those beside the images, and IMAGE_mask before IMAGE.
    """
    images = [file.path for file in files if file.kind == IMAGE]
    stems = {nfc(path.stem) for path in images}
    ranked = defaultdict(dict)  # files by image and rank, the best rank is the lowest
    beside = ((file.path.stem, file) for file in files)
    for is_beside, named in enumerate((truth, beside)):
        for name, file in named:
            image, rank = _claim(nfc(name), file, stems, bool(is_beside))
            if image is not None:
                ranked[image].setdefault(rank, []).append(file.path)
    claimed = {
        p for ranks in ranked.values() for paths in ranks.values() for p in paths
    }
    return {
        path: sorted(min(ranked[nfc(path.stem)].items(), default=((), []))[1])
        for path in images
        if path not in claimed
    }, claimed


def _claim(
    name: str, file: Found, stems: set[str], is_beside: bool
) -> tuple[str | None, tuple]:
    """Stem of the image that a file is a mask of, if of any, and its rank."""
    form, is_image = file.path.suffix.lower(), file.kind == IMAGE
    parts = MASK_NAME.fullmatch(name)
    is_called_mask = parts is not None and parts[1] in stems
    image = parts[1] if is_called_mask else name
    if image not in stems or not (is_image or form in (POLYGONS, ARRAY)):
        return None, ()
    if is_beside and not is_called_mask and form != POLYGONS:
        return None, ()  # an image, or an array of whatever
    if form == POLYGONS and b'"shapes"' not in read_start(file.path):
        return None, ()  # not of LabelMe
    return image, (not is_image, is_beside, not is_called_mask)
