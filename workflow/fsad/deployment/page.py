"""A page of predictions: one HTML file with its images, which needs no network."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np

from fsad.artifacts.files import write_text
from fsad.evaluation.predict import Row

PAGE = "page.html"
SIDE = 320  # pixels of the longer side of a thumbnail
QUALITY = 80  # of WebP, of 100
SCORE, NORMALISED = "score", "normalised"
# Image and overlay by the image's name, each an encoded WebP file.
Thumbnails = dict[str, tuple[bytes, bytes]]


def add_thumbnails(
    thumbnails: Thumbnails, name: str, image: np.ndarray, overlay: np.ndarray
) -> None:
    """Add thumbnails of an image and its overlay, both uint8 [h, w, 3] RGB."""
    thumbnails[name] = _thumbnail(image), _thumbnail(overlay)


def _thumbnail(image: np.ndarray) -> bytes:
    scale = min(1, SIDE / max(image.shape[:2]))
    shape = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
    small = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return encoded.tobytes()


def write_page(
    path: str | Path, rows: Sequence[Row], thumbnails: Mapping[str, tuple[bytes, bytes]]
) -> None:
    """Write a page of images, sorted by score, with their overlays and a threshold.

    rows: of `predict`. thumbnails: of `add_thumbnails`, for all images or some.
    """
    title = f"Anomaly scores: {', '.join(sorted({row.class_name for row in rows}))}"
    data = {
        **_slider([row for row in rows if row.score is not None]),
        "rows": [_described(row, thumbnails.get(row.image, ())) for row in rows],
    }
    style, script = (_asset(f"page.{kind}") for kind in ("css", "js"))
    parts = {
        "title": html.escape(_text(title)),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        # Nothing in a JSON string ends the script element that holds it.
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))
    write_text(path, page)


def _slider(scored: Sequence[Row]) -> dict:
    """The value that the slider is compared with, and where it starts.

    The score, from the one threshold of all images; the normalised score, from 1, where
    classes have thresholds of their own. If an image has none, the score without start.
    """
    thresholds = {row.threshold for row in scored}
    if len(thresholds) == 1:
        return {"value": SCORE, "start": _number(*thresholds)}
    if scored and all(row.normalised is not None for row in scored):
        return {"value": NORMALISED, "start": 1}
    return {"value": SCORE, "start": None}


def _described(row: Row, pictures: Sequence[bytes]) -> dict:
    """A row as JSON, the decision excepted, which is made in the page."""
    found = {name: _number(getattr(row, name)) for name in (SCORE, NORMALISED)}
    texts = {"image": row.image, "class": row.class_name, "error": row.error}
    found |= {name: _text(text) for name, text in texts.items()}
    found["threshold"] = _number(row.threshold)
    return found | {"pictures": [_data_uri(picture) for picture in pictures]}


def _number(value: np.float32 | None) -> float | None:
    """The number with the digits of scores.csv; float32 in double has more of them."""
    return None if value is None else float(str(value))


def _text(text: str) -> str:
    """Text as in scores.csv: names of files may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _data_uri(picture: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(picture).decode()}"


def _asset(name: str) -> str:
    return files("fsad.deployment").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """Digest by which the page's Content-Security-Policy knows its style and script."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
