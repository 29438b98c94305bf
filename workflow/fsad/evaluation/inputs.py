"""What the runs of a job read: features, images, words and truth, from cached files."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from fsad.artifacts.files import read_npz, read_settings
from fsad.artifacts.sources import Embedding, RunJob, Source
from fsad.artifacts.stages import check_record
from fsad.backbones.features import (
    FeatureSet,
    computed_features,
    embed_draw,
    open_images,
    open_vision,
    stored_features,
)
from fsad.backbones.networks import Network
from fsad.backbones.readout import parse_readout
from fsad.backbones.tower import load_tower
from fsad.data.images import masks_in_order
from fsad.data.prepare import REGION
from fsad.data.tiles import SEEN
from fsad.evaluation.detector import SHAPE, Detector, Seen
from fsad.evaluation.tasks import Masks, Truth
from fsad.methods import base
from fsad.methods.base import Features, Text

# Support images of a seed, or features of them, and their names and digests.
Draw = tuple[dict[str, np.ndarray], list]


class Inputs(NamedTuple):
    """What runs of one experiment and class read.

    test: features of the test images. support: from the record of a run to features of
    its support images. detector: of new images, from the record of a run and its fitted
    method, not calibrated. text: for a method that reads text. truth: of the test
    images.
    """

    test: FeatureSet
    support: Callable[[Mapping], Features]
    detector: Callable[[Mapping, base.Detector], Detector]
    text: Text | None
    truth: Truth


def job_inputs(job: RunJob) -> Inputs:
    """The inputs of a job; UserError if a file is damaged or of another record."""
    readout = parse_readout(job.test.features.record["readout"])
    network = open_vision(job.vision, job.test.features.record)
    if job.stored:
        test = stored_features(job.test.features)
    else:
        test = computed_features(network, open_images(job.test.images), readout)
    embeds = None if job.stored else network
    draw = cache(lambda seed: read_draw(job.support[seed], embeds))
    drawn_images = cache(lambda seed: read_images(job.support[seed].images))

    def support(record: Mapping) -> Features:
        path = job.support[record["seed"]].features.path
        return first_images(path, draw(record["seed"]), record["support"])

    def detector(record: Mapping, fitted: base.Detector) -> Detector:
        path = job.support[record["seed"]].images.path
        found = drawn_images(record["seed"])
        images = first_images(path, found, record["support"])
        return new_detector(network, record, images, fitted)

    masks = job.masks and _masks(job.masks)
    text = job.text and Text(load_tower(*job.text), read_source(job.prompts))
    truth = Truth(test.labels, masks)
    return Inputs(test, support, detector, text or None, truth)


def _masks(source: Source) -> Masks:
    return masks_in_order(read_source(source), source.record["resolution"])


def read_draw(embedding: Embedding, network: Network | None) -> Draw:
    """Features of the support images of a seed; network: computes those in no file."""
    images, features = embedding
    if network is None:
        return read_source(features), read_settings(features.path)["images"]
    readout = parse_readout(features.record["readout"])
    arrays, names = read_images(images)
    return embed_draw(network, arrays, readout), names


def read_images(source: Source) -> Draw:
    """The decoded support images of a seed."""
    return read_source(source), read_settings(source.path)["images"]


def new_detector(
    network: Network, record: Mapping, images: Features, fitted: base.Detector
) -> Detector:
    """The detector of a run, before it is calibrated.

    images: of `prepare.load_support`, those of the run. fitted: the method, fitted to
    them.
    """
    names = "class", "method", "task", "backbone", "readout", "options"
    known = {"images": record["support"], "run": dict(record)}
    described = {name: record[name] for name in names} | known
    readout = parse_readout(record["readout"])
    region = images[REGION] > 0 if REGION in images else None
    return Detector(network, readout, fitted, described, each_seen(images), region)


def each_seen(images: Features) -> list[Seen]:
    """What a network takes of each support image, without copies."""
    names = [name for name in SEEN if name in images]
    return [
        {**{name: images[name][row, 0] for name in names}, SHAPE: shape}
        for row, shape in enumerate(images["shapes"])
    ]


def first_images(path: str, draw: Draw, wanted: Sequence) -> Features:
    """The first support images of a draw, or features of them.

    wanted: their names and digests. Raises UserError, which names the path, unless they
    are the first of the draw.
    """
    arrays, images = draw
    found, count = {"support": images[: len(wanted)]}, len(wanted)
    check_record(path, found, {"support": wanted})
    return first_rows(arrays, count)


def first_rows(arrays: Features, count: int) -> Features:
    """Arrays of the first images; the region of interest is that of all."""
    of_class = {name: arrays[name] for name in (REGION,) if name in arrays}
    return {name: array[:count] for name, array in arrays.items()} | of_class


def read_source(source: Source) -> dict[str, np.ndarray]:
    """Arrays of a cached file; UserError if it is damaged or of another record."""
    path, record = source
    return read_npz(path, record=record)
