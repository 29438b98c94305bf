"""Masks of defects: files of images, arrays or polygons, as bool arrays."""

import json
from pathlib import Path

import cv2
import numpy as np

from fsad.data.decode import SIXTEEN_BIT, THIRTY_TWO_BIT, open_upright
from fsad.data.faults import Fault, FileError
from fsad.data.layouts import Sample
from fsad.data.walk import UNREADABLE

GREY = ("1", "L", *SIXTEEN_BIT, *THIRTY_TWO_BIT)
NUMBERS = 32  # integers up to here number the kinds of a defect, they are no shades
LOSSY = (".jpg", ".jpeg", ".jfif", ".webp", ".jp2", ".avif")
NEARLY_ALL = 0.95
GREYS = (
    "has areas of values between its lowest and its highest; half of the highest and "
    "above is read as defect, all below as good; save it with two values"
)

Shape = tuple[int, int]  # height and width


def defect_mask(sample: Sample, shape: Shape) -> tuple[np.ndarray, list[Fault]]:
    """Union of the masks of a defective image of this shape, and reasons to doubt them.

    Returns bool [H, W]. Raises UserError if a mask cannot be read or is of another
    size, or if none marks a pixel.
    """
    values = [_sized_values(path, shape) for path in sample.masks]
    mask = np.logical_or.reduce([marked(array) for array in values])
    if not mask.any():
        raise FileError(
            sample.mask, "marks no pixel; draw the defect, or move its image to good"
        )
    named = zip(sample.masks, values, strict=True)
    faults = [(path, GREYS) for path, array in named if _has_greys(array, path)]
    return mask, faults + [(sample.mask, why) for why in _cover_faults(mask)]


def good_mask_faults(sample: Sample, shape: Shape) -> list[Fault]:
    """Faults of masks of a good image: they should mark nothing."""
    reason = "marks a defect in a good image; empty it, or move its image to a defect"
    return [(p, reason) for p in sample.masks if marked(_sized_values(p, shape)).any()]


def read_mask(path: Path) -> np.ndarray:
    """Decode a mask file to bool [H, W]. See `marked`."""
    return marked(_values(path, None))


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
    between = (values > highest / 10) & (values < highest * 9 / 10)
    if path.suffix.lower() not in LOSSY and len(np.unique(values)) == 3:
        between = (values > 0) & (values < highest)
    if not between.any():
        return False
    plane, kernel = values.astype(np.float32), np.ones((3, 3), np.uint8)
    flat = between & (cv2.erode(plane, kernel) == cv2.dilate(plane, kernel))
    return flat.sum() > (values > 0).sum() / 100 or between.mean() > 0.5


def _cover_faults(mask: np.ndarray) -> list[str]:
    border = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    if mask.mean() > NEARLY_ALL:
        return ["marks nearly all of its image; mark the defect alone"]
    if mask.mean() > 0.5 and all(edge.all() for edge in border):
        return [
            "marks the larger part of its image with all of the border, as an inverted "
            "mask does; save the defect as 255 and the rest as 0"
        ]
    return []


def _sized_values(path: Path, shape: Shape) -> np.ndarray:
    values = _values(path, shape)
    if values.shape != shape:
        raise FileError(
            path,
            f"mask is {values.shape[1]}x{values.shape[0]} pixels, its image "
            f"{shape[1]}x{shape[0]}; give the mask the size of the image",
        )
    return values


def _values(path: Path, shape: Shape | None) -> np.ndarray:
    """Values [H, W] of a mask, 0 where it is transparent; shape: that of its image."""
    if path.suffix.lower() == ".json":
        return _polygons(path, shape)
    if path.suffix.lower() == ".npy":
        return _array(path)
    image = open_upright(path)
    if image.has_transparency_data and not image.mode.startswith("I"):
        return _opaque(np.asarray(image.convert("RGBA")))
    image = image if image.mode in GREY else image.convert("RGB")
    values = np.asarray(image)
    values = values.astype(np.uint8) if image.mode == "1" else values
    values = np.nan_to_num(values) if image.mode == "F" else values
    return values.reshape(*values.shape[:2], -1).max(-1)


def _opaque(layer: np.ndarray) -> np.ndarray:
    """Brightness of a layer uint8 [H, W, 4] times its opacity; of black its opacity."""
    alpha = layer[..., 3].astype(np.uint16)
    values = (layer[..., :3].max(-1) * alpha // 255).astype(np.uint8)
    is_painted = values.any() or alpha.all()
    return values if is_painted else layer[..., 3]


def _array(path: Path) -> np.ndarray:
    try:
        values = np.squeeze(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise FileError(path, f"{UNREADABLE} ({error})") from error
    if values.ndim != 2 or values.dtype.kind not in "buif":
        raise FileError(path, "is no array [height, width] of numbers; save it as .png")
    values = values.astype(np.uint8) if values.dtype.kind == "b" else values
    return np.nan_to_num(values)


def _polygons(path: Path, shape: Shape | None) -> np.ndarray:
    """Areas of a file of LabelMe, uint8 [H, W]."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        size = content.get("imageHeight"), content.get("imageWidth")
        canvas = np.zeros(size if all(size) else shape, np.uint8)
        for area in content["shapes"]:
            _draw(canvas, area)
    except FileError:
        raise
    except (OSError, ValueError, LookupError, TypeError, cv2.error) as error:
        raise FileError(
            path, f"is no file of LabelMe ({error!r}); save the mask as .png"
        ) from error
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
