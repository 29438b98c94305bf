"""The page of the report with the defects that were found best and worst."""

import html
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np

from fsad.artifacts.files import read_npz, write_text
from fsad.artifacts.sources import Source
from fsad.data.groups import in_order
from fsad.data.masks import RAW
from fsad.evaluation import metrics
from fsad.evaluation.tasks import full_size
from fsad.reports import panels
from fsad.reports.formats import html_page, picture

HEIGHT = 192  # pixels of a panel
JPEG_QUALITY = 85


def write_examples(
    path: str | Path, classes: Iterable[tuple[Source, Source, Source | None]]
) -> None:
    """Write image, mask and anomaly map of the best and worst found defect by class.

    classes: scores.npz of a run of each class, with its settings, the cached images,
    and the masks; images of classes without masks are ranked by their scores.
    """
    body = []
    for scores, images, masks in classes:
        names = scores.record
        drawn = _examples(scores, images, masks)
        title = f"<h2>{html.escape(names['class'])}</h2>"
        body += [title, f'<div class="row">{drawn}</div>']
    title = f"{names['dataset']}: {names['experiment']}, {names['shots']}-shot"
    about = ["Image, mask where there is one, and anomaly map."]
    write_text(path, html_page(title, about, body))


def _examples(scores: Source, images: Source, masks: Source | None) -> str:
    """The best and the worst found defect of a class as HTML."""
    path, settings = scores
    run = read_npz(path, "labels", "last_scores")
    test, mask = panels.read_shown(images, masks)
    maps = compared = panels.run_maps(path, settings)
    if mask is not None and settings["options"]["resolution"] == RAW:
        compared = full_size(mask, *panels.small_maps(path, settings))
    quality = image_quality(run, compared, mask)
    if np.isnan(quality).all():
        return "<p>No defective test image.</p>"
    pictures = in_order(test, "images")
    shown = {np.nanargmax(quality): "best"}
    shown.setdefault(np.nanargmin(quality), "worst")
    kind = "score" if mask is None else "pixel AUROC of this image"
    heat, figures = panels.scaled(maps), []
    for index, word in shown.items():
        one = None if mask is None else mask[index]
        panel = panels.draw_panel(pictures[index], heat[index], one)
        caption = f"{word}: {test['names'][index]}, {kind} {quality[index]:.3g}"
        figures.append(_figure(panel, caption))
    return "".join(figures)


def image_quality(
    run: Mapping[str, np.ndarray], maps: Iterable, masks: Iterable | None
) -> np.ndarray:
    """Pixel AUROC of each defective image, or its score without masks, [N].

    nan for good images. run: `labels` and `last_scores`, [N]. maps, masks: N pairs of
    one shape.
    """
    if masks is None:
        return np.where(run["labels"] != 0, run["last_scores"], np.nan)
    pairs = zip(masks, maps, strict=True)
    return np.array([metrics.pixel_auroc(*pair) for pair in pairs])


def _figure(panel: np.ndarray, caption: str) -> str:
    width = round(panel.shape[1] * HEIGHT / panel.shape[0])
    small = cv2.resize(panel, (width, HEIGHT), interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), quality)
    drawn = picture(encoded.tobytes(), caption, "image/jpeg")
    return f"<figure>{drawn}<figcaption>{html.escape(caption)}</figcaption></figure>"
