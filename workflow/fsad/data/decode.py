"""Image files decoded to arrays, upright, one page each."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence, TiffImagePlugin, UnidentifiedImageError

from fsad.data.faults import FileError
from fsad.data.walk import KINDS, UNREADABLE

ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FIRST_TURNED = 5  # orientation with sides exchanged, as all after it
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
THIRTY_TWO_BIT = ("I", "F")
DEPTHS = (8, 12, 16)  # bits that cameras use of 16
OVERSIZED = Image.DecompressionBombError, Image.DecompressionBombWarning
# What to do about a file that is whole, by words of Pillow's reason.
REMEDIES = {
    "MAX_TEXT": "save it without its text",
    "unknown pixel mode": "save it in grey or RGB with 8 or 16 bits",
}
STRIP = 2**20  # pixels that are converted at once


def limit_pixels(megapixels: int) -> None:
    """Let this process decode images of up to so many megapixels, and no larger ones.

    The limit is Pillow's own, of which there is one for all of a process. Pillow warns
    above it and refuses above twice as many; here both are refused, unread.
    """
    Image.MAX_IMAGE_PIXELS = megapixels * 10**6
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode(path: Path) -> tuple[np.ndarray, int]:
    """Decode an image to uint8 [H, W, 3] RGB, and name the bits in use of its 16.

    An image of 16 bits is read as one of 8 or 12 if no value needs more, so that those
    of a camera of 12 bits are not nearly black. The number is 0 for an image of 8 bits.
    """
    image = open_upright(path)
    if image.mode == "I" and image.format == "PPM":
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode in THIRTY_TWO_BIT:
        raise FileError(path, "has 32-bit pixels; save it with 8 or 16 bits")
    if image.mode not in SIXTEEN_BIT:
        with _named_errors(path):
            return rgb(image), 0
    values = np.asarray(image)
    depth = next(bits for bits in DEPTHS if values.max() < 2**bits)
    grey = (values >> (depth - 8)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), depth


def picture_shape(path: Path) -> tuple[int, int]:
    """Height and width of an upright image, which is not decoded."""
    with _named_errors(path), Image.open(path) as image:
        width, height = image.size
        turned = _orientation(image) >= FIRST_TURNED
    return (width, height) if turned else (height, width)


def open_upright(path: Path) -> Image.Image:
    """Open and load an image of one page, turned as its EXIF orientation asks."""
    if KINDS.get(path.suffix.lower()) == UNREADABLE:
        raise FileError(path, UNREADABLE)
    # Of a path Pillow would map a TIFF into memory by its size once it is turned.
    with _named_errors(path), open(path, "rb") as file, Image.open(file) as image:
        _check_pages(path, image)
        image.load()
        turn = UPRIGHT.get(_orientation(image))
        return image if turn is None else image.transpose(turn)


def rgb(image: Image.Image) -> np.ndarray:
    """Pixels of a loaded image as uint8 [H, W, 3].

    In strips: Pillow takes four bytes a pixel, and as many for a converted copy.
    """
    width, height = image.size
    pixels, rows = np.empty((height, width, 3), np.uint8), max(1, STRIP // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image.crop((0, top, width, bottom))
        pixels[top:bottom] = strip if strip.mode == "RGB" else strip.convert("RGB")
    return pixels


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1  # metadata that cannot be read, of a picture that can


def _check_pages(path: Path, image: Image.Image) -> None:
    """Raise FileError for a file of several pictures, not counting its previews.

    A preview (of a pyramid, say) is smaller than the first picture. The layers of
    Photoshop's files are no pages.
    """
    if image.format == "PSD" or getattr(image, "n_frames", 1) == 1:
        return
    (width, height), *others = [page.size for page in ImageSequence.Iterator(image)]
    count = 1 + sum(w >= width or h >= height for w, h in others)
    if count > 1:
        raise FileError(path, f"holds {count} pages; save each as a file of its own")
    image.seek(0)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn whatever Pillow raises for a file into an error with its path."""
    try:
        yield
    except FileError:
        raise
    except OVERSIZED as error:
        size, *_ = [*re.findall(r"\d+ pixels", str(error)), "too many pixels"]
        remedy = "raise `max_megapixels`, or save the image smaller"
        raise FileError(path, f"has {size}; {remedy}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            reason = f"cannot be read ({error.strerror}); mend its path or permissions"
        else:
            why = _reason(path, error)
            found = (remedy for words, remedy in REMEDIES.items() if words in why)
            remedy = next(found, "replace the file")
            reason = f"cannot be read as an image ({why}); {remedy}"
        raise FileError(path, reason) from error


def _reason(path: Path, error: Exception) -> str:
    """Pillow's reason, that of its reader of TIFF for a file that it does not know."""
    if not isinstance(error, UnidentifiedImageError):
        return str(error) or type(error).__name__
    try:
        TiffImagePlugin.TiffImageFile(path)
    except Exception as reason:
        if "unknown pixel mode" in str(reason):
            return str(reason)
    return "its format is unknown"
