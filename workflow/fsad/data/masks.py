"""Masks of defects: files of images, polygons or arrays, as bool arrays.

Cached masks are uint8: GOOD, 1 for defective, and IGNORED for pixels that do not count.
"""

import json
from pathlib import Path

import cv2
import numpy as np

from fsad.data.decode import SIXTEEN_BIT, THIRTY_TWO_BIT, open_upright, rgb
from fsad.data.faults import Fault, FileError, Shape
from fsad.data.layouts import Sample
from fsad.data.pairing import ARRAY, POLYGONS

GOOD, IGNORED = 0, 255
RAW = "raw"  # `resolution` at which masks and maps have the size of their picture
GREY = ("1", "L", *SIXTEEN_BIT, *THIRTY_TWO_BIT)
NUMBERS = 32  # integers up to here number the kinds of a defect, they are no shades
LOSSY = (".jpg", ".jpeg", ".jfif", ".webp", ".jp2", ".avif")
NEARLY_ALL = 0.95
GREYS = (
    "has areas of values between its lowest and its highest; half of the highest and "
    "above is read as defect, all below as good; save it with two values"
)


def checked_mask(sample: Sample, shape: Shape) -> tuple[np.ndarray, list[Fault]]:
    """Union of the masks of an image of this shape, and reasons to doubt them.

    Returns bool [H, W]; of a good image it is blank. Raises UserError if a mask cannot
    be read or is of another size, or if none marks a pixel of a defect image.
    """
    values = [_sized_values(path, shape) for path in sample.masks]
    mask = np.logical_or.reduce([marked(array) for array in values])
    if sample.label == 0:
        why = "marks a defect in a good image; empty it, or move the image"
        return np.zeros(shape, bool), [(sample.mask, why)] * bool(mask.any())
    if not mask.any():
        raise FileError(
            sample.mask, "marks no pixel; draw the defect, or move its image to good"
        )
    named = zip(sample.masks, values, strict=True)
    faults = [(path, GREYS) for path, array in named if _has_greys(array, path)]
    return mask, faults + [(sample.mask, why) for why in _cover_faults(mask)]


def marked(values: np.ndarray) -> np.ndarray:
    """Defective pixels of a mask's values [H, W], bool [H, W].

    From half of the highest value on, which drops what JPEG and interpolation leave
    around a defect; from 1 on, where integers of at most 32 number kinds of defects.
    """
    highest = values.max(initial=0)
    if values.dtype.kind != "f" and highest <= NUMBERS:
        return values > 0
    return (values > 0) & (values >= float(highest) / 2)


def _has_greys(values: np.ndarray, path: Path) -> bool:
    """Whether a mask has areas, not only edges, of a value between 0 and the highest.

    So have a value for `ignore`, several kinds of defects, and photographs.
    """
    highest = float(values.max(initial=0))
    if values.dtype.kind != "f" and highest <= NUMBERS:
        return False
    between = (values > 0) & (values < highest)
    if not between.any():
        return False
    if path.suffix.lower() in LOSSY or len(np.unique(values)) > 3:
        between = (values > highest / 10) & (values < highest * 9 / 10)
    plane, kernel = values.astype(np.float32), np.ones((3, 3), np.uint8)
    flat = between & (cv2.erode(plane, kernel) == cv2.dilate(plane, kernel))
    return flat.sum() > (values > 0).sum() / 100 or _is_rough(plane, between)


def _is_rough(plane: np.ndarray, between: np.ndarray) -> bool:
    """Whether values go up and down in areas of middle values, as in a photograph.

    plane: float32 [H, W]. between: bool [H, W]. Blurred edges are narrow, or smooth.
    """
    side, around = max(17, min(plane.shape) // 32), np.ones((3, 3), np.uint8)
    area = between & (cv2.blur(between.astype(np.float32), (side, side)) > 0.8)
    around[1, 1] = 0
    peaks = (plane > cv2.dilate(plane, around)) | (plane < cv2.erode(plane, around))
    return area.sum() > (plane > 0).sum() / 100 and peaks[area].mean() > 0.03


def _cover_faults(mask: np.ndarray) -> list[str]:
    frame = min(2, (min(mask.shape) - 1) // 2)  # some programs draw one in black
    inner = mask[frame : len(mask) - frame, frame : mask.shape[1] - frame]
    border = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
    if mask.mean() > NEARLY_ALL:
        return ["marks nearly all of its image; mark the defect alone"]
    if mask.mean() > 0.5 and border.mean() > 0.9:
        return [
            "marks the larger part of its image, and its border, as an inverted mask "
            "does; save the defect as 255 and the rest as 0"
        ]
    return []


def _sized_values(path: Path, shape: Shape) -> np.ndarray:
    values = _values(path, shape)
    _check_size(path, values.shape, shape)
    return values


def _check_size(path: Path, size: Shape, shape: Shape) -> None:
    if size != shape:
        raise FileError(
            path,
            f"mask is {size[1]}x{size[0]} pixels, its image "
            f"{shape[1]}x{shape[0]}; give the mask the size of the image",
        )


def _values(path: Path, shape: Shape) -> np.ndarray:
    """Values [H, W] of a mask, 0 where it is transparent; shape: that of its image."""
    if path.suffix.lower() == POLYGONS:
        return _polygons(path, shape)
    return image_values(path)


def image_values(path: Path) -> np.ndarray:
    """Values [H, W] of an image or array that marks an area, 0 where transparent."""
    if path.suffix.lower() == ARRAY:
        return _brightest(_array(path))
    image = open_upright(path)
    if image.has_transparency_data and not image.mode.startswith("I"):
        return _opaque(np.asarray(image.convert("RGBA")))
    return _brightest(np.asarray(image) if image.mode in GREY else rgb(image))


def _brightest(values: np.ndarray) -> np.ndarray:
    """Values [H, W] of the brightest channel of [H, W] or [H, W, C], no bool or nan."""
    values = values.astype(np.uint8) if values.dtype == bool else np.nan_to_num(values)
    return values.reshape(*values.shape[:2], -1).max(-1)


def _array(path: Path) -> np.ndarray:
    """Array [H, W] or [H, W, C] of a file of NumPy."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FileError(
            path, f"is no array of NumPy ({error}); save the mask as .png"
        ) from error
    if values.ndim not in (2, 3) or values.dtype.kind not in "buif" or not values.size:
        raise FileError(
            path,
            f"holds {values.dtype} {list(values.shape)} and not numbers [H, W]; save "
            "the mask as .png",
        )
    return values


def _opaque(layer: np.ndarray) -> np.ndarray:
    """Brightness of a layer uint8 [H, W, 4] times its opacity; of black its opacity."""
    alpha = layer[..., 3].astype(np.uint16)
    values = (layer[..., :3].max(-1) * alpha // 255).astype(np.uint8)
    is_painted = values.any() or alpha.all()
    return values if is_painted else layer[..., 3]


def _polygons(path: Path, shape: Shape) -> np.ndarray:
    """Areas of a file of LabelMe, uint8 [H, W]; shape: that of the image."""
    canvas = np.zeros(shape, np.uint8)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        size = content.get("imageHeight"), content.get("imageWidth")
        for area in content["shapes"]:
            _draw(canvas, area)
    except Exception as error:  # other programs write JSON of any form
        raise FileError(
            path, f"is no file of LabelMe ({error!r}); save the mask as .png"
        ) from error
    _check_size(path, size if all(size) else shape, shape)
    return canvas


def _draw(canvas: np.ndarray, area: dict) -> None:
    kind = area.get("shape_type", "polygon")
    points = np.rint(np.array(area["points"], np.float64)).astype(np.int32)  # [n, 2]
    if kind == "polygon":
        cv2.fillPoly(canvas, [points], 1)
    elif kind == "rectangle":
        cv2.rectangle(canvas, *points.tolist(), 1, cv2.FILLED)
    elif kind == "circle":
        radius = round(float(np.hypot(*(points[1] - points[0]))))
        cv2.circle(canvas, points[0].tolist(), radius, 1, cv2.FILLED)
    else:
        raise ValueError(f"a {kind} marks no area")
