"""Image and mask files of all sorts, each for a class of its own."""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from helpers import write_class

SIZE = 40
PIXELS = np.random.default_rng(7).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
CULPRIT = "test/hole/001.png"
MASK = "ground_truth/hole/001_mask.png"
UPRIGHT_IS_SIX = 6


def same(path: Path) -> None:
    """The image as it should be."""
    Image.fromarray(PIXELS).save(path, format="png")


def saved(mode: str, kind: str = "png", **options):
    """Writes the image in another mode or format, under its .png name."""

    def write(path):
        Image.fromarray(PIXELS).convert(mode).save(path, format=kind, **options)

    return write


def content(data: bytes):
    return lambda path: path.write_bytes(data)


def cut(kind: str, share: float):
    """Writes the first part of an image file."""

    def write(path):
        saved("RGB", kind)(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])

    return write


def array(values, kind: str = "png"):
    return lambda path: Image.fromarray(values).save(path, format=kind)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = UPRIGHT_IS_SIX
    Image.fromarray(np.rot90(PIXELS)).save(path, format="png", exif=exif)


def bomb(side: int):
    """Writes a PNG whose header promises side x side pixels."""

    def chunk(kind, body):
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return content(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))


def folder(path: Path) -> None:
    path.mkdir()


def link(target: str):
    return lambda path: os.symlink(target, path)


def renamed(name: str, write=same):
    """Writes a file beside its place, under another name."""
    return lambda path: write(path.with_name(name))


def pages(*sides: int):
    """Writes a TIFF with pages of these sizes, the image first."""
    first, *more = (Image.fromarray(PIXELS).resize((side, side)) for side in sides)
    return lambda path: first.save(path, "tiff", save_all=True, append_images=more)


def odd_exif(path: Path) -> None:
    """Writes the image with metadata whose tags are of no type."""
    entry = struct.pack("<HHII", 0x011A, 99, 2**31, 2**31)
    data = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    Image.fromarray(PIXELS).save(path, "png", exif=data)


def decomposed(path: Path) -> None:
    """Writes an image named with a composed letter; its mask has the other form."""
    same(path.with_name("\u00e9.png"))
    mask = path.parents[2] / MASK
    mask.rename(mask.with_name("e\u0301_mask.png"))


def polygons(path: Path) -> None:
    (y, *_, bottom), (x, *_, right) = (np.flatnonzero(HOLE.any(a)) for a in (1, 0))
    points = [[int(x), int(y)], [int(right), int(bottom)]]
    area = {"shape_type": "rectangle", "points": points}
    path.with_suffix(".json").write_text(json.dumps({"shapes": [area]}))


def renamed_bytes(name: bytes):
    def write(path):
        same(path)
        os.rename(os.fsencode(path), os.fsencode(path.parent) + b"/" + name)

    return write


GREY = PIXELS[..., 0]
RIGHT, WRONG, EITHER = "right", "wrong", "either"
UNPLANNED, LEFT_OUT = "unplanned", "left out"

# name: how the image is written, and whether it is decoded (to the pixels of `same`
# where that can be), refused by name in the job or while planning, or left out.
IMAGES = {
    "plain": (same, RIGHT),
    "zero bytes": (content(b""), WRONG),
    "text": (content(b"not an image\n"), WRONG),
    "html": (content(b"<!doctype html><title>404</title>"), WRONG),
    "zip": (content(b"PK\x03\x04" + bytes(64)), WRONG),
    "pickle": (content(b"cposix\nsystem\n(S'touch ran'\ntR."), WRONG),
    "zeros": (content(bytes(5000)), WRONG),
    "png signature alone": (content(b"\x89PNG\r\n\x1a\n"), WRONG),
    "jpeg named png": (saved("RGB", "jpeg", quality=95), EITHER),
    "bmp named png": (saved("RGB", "bmp"), RIGHT),
    "tiff named png": (saved("RGB", "tiff"), RIGHT),
    "gif named png": (saved("P", "gif"), EITHER),
    "webp named png": (saved("RGB", "webp", lossless=True), RIGHT),
    "alpha": (saved("RGBA"), RIGHT),
    "interlaced": (saved("RGB", "png", interlace=1), RIGHT),
    "palette": (saved("P"), EITHER),
    "grey": (saved("L"), EITHER),
    "grey and alpha": (saved("LA"), EITHER),
    "bilevel": (saved("1"), EITHER),
    "cmyk": (saved("CMYK", "tiff"), EITHER),
    "ycbcr": (saved("YCbCr", "tiff"), EITHER),
    "lab": (saved("LAB", "tiff"), EITHER),
    "16 bits": (array(GREY.astype(np.uint16) * 257), EITHER),
    "32 bits": (array(GREY.astype(np.int32), "tiff"), WRONG),
    "float": (array(GREY.astype(np.float32), "tiff"), WRONG),
    "float with nan": (array(np.full((9, 9), np.nan, np.float32), "tiff"), WRONG),
    "12 bits of 16": (array(GREY.astype(np.uint16) * 16), EITHER),
    "nearly black": (array(PIXELS // 16), EITHER),
    "of one colour": (array(np.full_like(PIXELS, 90)), EITHER),
    "two pages": (pages(SIZE, SIZE), WRONG),
    "a page and its preview": (pages(SIZE, SIZE // 2), RIGHT),
    "tags of no type": (odd_exif, RIGHT),
    "one pixel": (array(PIXELS[:1, :1]), EITHER),
    "one row": (array(PIXELS[:1]), EITHER),
    "one column": (array(PIXELS[:, :1]), EITHER),
    "3000 x 2": (array(np.resize(PIXELS, (2, 3000, 3))), EITHER),
    "turned by exif": (turned, RIGHT),
    "bomb of 30000 x 30000": (bomb(30000), WRONG),
    "bomb of 65000 x 65000": (bomb(65000), WRONG),
    "header of 500 x 500": (bomb(500), WRONG),
    "folder": (folder, LEFT_OUT),
    "broken link": (link("nowhere.png"), UNPLANNED),
    "link to itself": (link("001.png"), UNPLANNED),
    "link to a folder": (link("."), LEFT_OUT),
    "link to an image": (link("../good/000.png"), EITHER),
    "device": (link("/dev/null"), WRONG),
    "name with a dot in front": (renamed(".001.png"), LEFT_OUT),
    "heic": (renamed("001.heic", content(b"ftypheic")), LEFT_OUT),
    "array": (lambda path: np.save(path.with_suffix(".npy"), PIXELS), LEFT_OUT),
    "text file": (renamed("001.txt", content(b"-")), LEFT_OUT),
    "webp": (renamed("001.webp", saved("RGB", "webp", lossless=True)), EITHER),
    "no ending": (renamed("001"), EITHER),
    "another Unicode form than its mask's": (decomposed, EITHER),
    "non-ASCII name": (renamed("Kratzer_äöü_划痕.png"), EITHER),
    "combining name": (renamed("e\u0301.png"), EITHER),
    "spaces": (renamed("  a b .png"), EITHER),
    "quotes": (renamed("a'b\"c`d.png"), EITHER),
    "shell characters": (renamed("$(touch ran);&|<>!#~*?[x].png"), EITHER),
    "braces": (renamed("{dataset}{0}{{}}.png"), UNPLANNED),
    "percent and backslash": (renamed("%s%n\\x00\\.png"), EITHER),
    "leading dash": (renamed("-rf.png"), EITHER),
    "newline": (renamed("a\nb.png"), EITHER),
    "tabulator and bell": (renamed("a\tb\x07.png"), EITHER),
    "long name": (renamed("n" * 240 + ".png"), EITHER),
    "upper case": (renamed("X.PNG"), EITHER),
    "two suffixes": (renamed("a.png.jpg"), EITHER),
    "name of bytes": (renamed_bytes(b"\xff\xfe.png"), UNPLANNED),
    **{
        f"{kind} cut at {share:.0%}": (cut(kind, share), EITHER)
        for kind in ("png", "jpeg", "tiff", "bmp", "webp")
        for share in (0.002, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
    },
}

HOLE = np.zeros((SIZE, SIZE), np.uint8)
HOLE[6:16, 8:20] = 255


def parts(path: Path) -> None:
    """Writes the mask as two files."""
    for index, rows in enumerate((slice(10), slice(10, None))):
        half = np.zeros_like(HOLE)
        half[rows] = HOLE[rows]
        array(half)(path.with_name(f"001_mask_{index}.png"))


def beside(path: Path) -> None:
    image = path.parents[2] / CULPRIT
    array(HOLE)(image.with_name(path.name))


COLOURED = np.repeat(HOLE[..., None], 3, 2) * np.array([1, 0, 0], np.uint8)

# The same for masks; those that are right give the mask of HOLE.
MASKS = {
    "plain": (array(HOLE), RIGHT),
    "0 and 1": (array(HOLE // 255), RIGHT),
    "bool": (array(HOLE > 0), RIGHT),
    "16 bits": (array(HOLE.astype(np.uint16) * 257), RIGHT),
    "colour": (array(COLOURED), RIGHT),
    "alpha": (array(np.dstack([HOLE] * 3 + [np.full_like(HOLE, 255)])), RIGHT),
    "grey levels": (array(HOLE // 255 * np.uint8(3)), RIGHT),
    "bmp named png": (array(HOLE, "bmp"), RIGHT),
    "jpeg": (renamed("001_mask.jpg", array(HOLE, "jpeg")), RIGHT),
    "webp": (renamed("001_mask.webp", array(HOLE, "webp")), RIGHT),
    "palette": (lambda path: Image.fromarray(HOLE).convert("P").save(path), RIGHT),
    "black layer": (array(np.dstack([HOLE * 0] * 3 + [HOLE])), RIGHT),
    "white on transparent": (array(np.dstack([HOLE] * 4)), RIGHT),
    "array of numbers": (lambda path: np.save(path.with_suffix(".npy"), HOLE), RIGHT),
    "array of objects": (
        lambda path: np.save(path.with_suffix(".npy"), np.array([{}])),
        WRONG,
    ),
    "polygons": (polygons, RIGHT),
    "two parts": (parts, RIGHT),
    "beside the image": (beside, RIGHT),
    "value to ignore": (array(np.where(HOLE > 0, HOLE, 100)), EITHER),
    "inverted": (array(255 - HOLE), EITHER),
    "all defect": (array(np.full_like(HOLE, 255)), EITHER),
    "empty": (array(np.zeros_like(HOLE)), WRONG),
    "one row less": (array(HOLE[1:]), WRONG),
    "transposed": (array(np.resize(HOLE, (20, 80))), WRONG),
    "twice the size": (array(np.kron(HOLE, np.ones((2, 2), np.uint8))), WRONG),
    "one pixel": (array(HOLE[:1, :1]), WRONG),
    "zero bytes": (content(b""), WRONG),
    "text": (content(b"mask"), WRONG),
    "cut": (cut("png", 0.5), WRONG),
    "bomb": (bomb(30000), WRONG),
    "float": (array(HOLE.astype(np.float32), "tiff"), EITHER),
    "float with nan": (
        array(np.where(HOLE > 0, np.nan, 0).astype(np.float32), "tiff"),
        EITHER,
    ),
    "missing": (lambda path: None, WRONG),
    "folder": (folder, WRONG),
    "broken link": (link("nowhere.png"), UNPLANNED),
    "other name": (lambda path: array(HOLE)(path.with_name("001.png")), RIGHT),
    "name of no image": (renamed("mask of 001.png"), WRONG),
}


def class_name(kind: str, index: int) -> str:
    return f"{kind}_{index:03}"


def write_cases(root: Path, kind: str, cases: dict, culprit: str) -> dict[str, str]:
    """A class for each case with its file replaced; class names by case."""
    names = {case: class_name(kind, index) for index, case in enumerate(cases)}
    for case, name in names.items():
        write_class(root, name)
        path = root / name / culprit
        path.unlink()
        cases[case][0](path)
    return names
