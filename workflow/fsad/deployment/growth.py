"""More support images for a detector: its memory or subspace grows, its text stays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fsad.backbones.features import embed_draw
from fsad.data.faults import aspect_fault
from fsad.data.images import warn
from fsad.data.layouts import Sample
from fsad.data.prepare import load_support
from fsad.deployment.good_images import counted, find_good
from fsad.errors import UserError
from fsad.evaluation.calibration import (
    calibrate,
    map_extent,
    operating_point,
    refitted,
    source_of,
)
from fsad.evaluation.detector import SHAPE, Detector, detect
from fsad.evaluation.inputs import each_seen
from fsad.methods import parts
from fsad.methods.base import Features
from fsad.methods.registry import load

LEAST = 2  # new images that give a threshold after a coreset


class Growth(NamedTuple):
    """A detector with more support images.

    threshold: where its threshold comes from, in words. added: number of new images.
    left_out: a line for each image that does not count.
    """

    detector: Detector
    threshold: str
    added: int
    left_out: list[str]


def extend(detector: Detector, folder: str | Path, threads: int) -> Growth:
    """Add the good images of a folder to the support images of a detector.

    They are decoded and copied as the support images of a run. The threshold is that of
    `calibration.calibrate` with all support images; where a coreset has not kept all
    their patches it is the highest score of the new images before they are added, and
    with fewer than two of them the old one stays. Images that are in the memory, and
    copies of files, do not count. Raises UserError where none is left, for an image
    that cannot be read, and for a folder that holds others than good ones.
    """
    images, digests, left_out = counted(find_good(folder), detector)
    if not images:
        raise UserError(f"{folder}: all images are support images already; add others")
    new = [[name, digests[path]] for name, path in images.items()]
    drawn = _drawn(detector, images, threads)
    features = embed_draw(detector.network, drawn, detector.readout)
    known = {"images": [*detector.described["images"], *new]}
    larger = detector._replace(
        described=detector.described | known,
        seen=[*detector.seen, *each_seen(drawn)],
    )
    grow = _coreset_grown if _has_coreset(detector) else _refitted
    grown, threshold = grow(detector, larger, features)
    return Growth(grown, threshold, len(new), left_out)


def _drawn(
    detector: Detector, images: Mapping[str, Path], threads: int
) -> dict[str, np.ndarray]:
    """Images as `prepare.load_support` gives them, the next of the draw of the run."""
    run, (*_, view, augment, _) = detector.described["run"], detector.readout
    record = {"seed": run["seed"], "class": detector.described["class"]}
    record |= {"view": view._asdict(), "augment": augment._asdict()}
    samples = [Sample(name, path, 0, None) for name, path in images.items()]
    first = len(detector.seen)
    drawn = load_support(samples, record, threads, detector.region, first)
    _check_shapes(detector, drawn, samples)
    return drawn


def _check_shapes(
    detector: Detector, drawn: Mapping[str, np.ndarray], samples: Sequence[Sample]
) -> None:
    """Log images of another aspect; UserError where the network takes another shape."""
    if not detector.seen:
        return
    shapes = [seen[SHAPE].tolist() for seen in detector.seen]
    pairs = zip(samples, drawn["shapes"].tolist(), strict=True)
    aspects = ((sample.path, aspect_fault(shape, shapes)) for sample, shape in pairs)
    warn([(path, why) for path, why in aspects if why])
    wanted, found = detector.seen[0]["images"].shape, drawn["images"].shape[2:]
    if wanted != found:
        raise UserError(
            f"{samples[0].path}: the network takes an image of this shape as "
            f"{[*found]}, and the support images as {[*wanted]}; add images of their "
            "shape"
        )


def _has_coreset(detector: Detector) -> bool:
    """Whether patches of the support images were left out, so that no fit to all images
    is possible any more."""
    module = load(detector.described["method"])
    return hasattr(module, "grown") and bool(detector.fitted.learned)


def _refitted(
    detector: Detector, larger: Detector, features: Features
) -> tuple[Detector, str]:
    """The larger detector, fitted to all images, and where its threshold comes from."""
    support = _joined(detector.fitted.support, features)
    larger = calibrate(refitted(larger, support), support, larger.seen)
    return larger, f"{len(larger.seen)} support images, each against the others"


def _joined(support: Features, features: Features) -> dict[str, np.ndarray]:
    """Features of the support images and of new ones, by the names of the first."""
    known = {name: torch.as_tensor(x).cpu().numpy() for name, x in support.items()}
    if not known:  # zero shots
        return dict(features)
    return {name: np.concatenate([x, features[name]]) for name, x in known.items()}


def _coreset_grown(
    detector: Detector, larger: Detector, features: Features
) -> tuple[Detector, str]:
    """The larger detector, its coreset longer, and where its threshold comes from."""
    known, new = detector.described, len(larger.seen) - len(detector.seen)
    settings = known["options"], len(detector.seen)
    fitted = parts.grown(load(known["method"]), detector.fitted, features, *settings)
    larger = larger._replace(fitted=fitted)
    if new < LEAST:
        return larger, "before: a coreset, and one new image"
    scores, maps = detect(detector, larger.seen[-new:])
    found = operating_point(scores, [*map(map_extent, maps)], rank=1)
    found["calibrated"] = source_of("new support images", new)
    larger = larger._replace(described=larger.described | found)
    return larger, f"{new} new images, against the memory before them"


def summary(found: Growth) -> list[str]:
    """Lines about a larger detector for a user."""
    count, value = len(found.detector.seen), found.detector.described["threshold"]
    return [
        *found.left_out,
        f"{count} support images, {found.added} of them new",
        f"threshold {value:.6g}, from {found.threshold}",
    ]
