"""What the runs of a job read: features, words and truth, from cached files."""

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
from fsad.evaluation.tasks import Masks, Truth
from fsad.methods.base import Features, Text

# Features of the support images of a seed, and their names and digests.
Draw = tuple[dict[str, np.ndarray], list]


class Inputs(NamedTuple):
    """What runs of one experiment and class read.

    test: features of the test images. support: from the record of a run to features of
    its support images. text: for a method that reads text. truth: of the test images.
    """

    test: FeatureSet
    support: Callable[[Mapping], Features]
    text: Text | None
    truth: Truth


def job_inputs(job: RunJob) -> Inputs:
    """The inputs of a job; UserError if a file is damaged or of another record."""
    readout = parse_readout(job.test.features.record["readout"])
    network = (
        None
        if job.vision is None
        else open_vision(job.vision, job.test.features.record)
    )
    if network is None:
        test = stored_features(job.test.features)
    else:
        test = computed_features(network, open_images(job.test.images), readout)
    draw = cache(lambda seed: read_draw(job.support[seed], network))

    def support(record: Mapping) -> Features:
        path = job.support[record["seed"]].features.path
        return first_images(path, draw(record["seed"]), record["support"])

    masks = job.masks and _masks(job.masks)
    text = job.text and Text(load_tower(*job.text), read_source(job.prompts))
    return Inputs(test, support, text or None, Truth(test.labels, masks))


def _masks(source: Source) -> Masks:
    return masks_in_order(read_source(source), source.record["resolution"])


def read_draw(embedding: Embedding, network: Network | None) -> Draw:
    """The support images of a seed; network: computes features that are in no file."""
    images, features = embedding
    if network is None:
        return read_source(features), read_settings(features.path)["images"]
    readout = parse_readout(features.record["readout"])
    arrays = embed_draw(network, read_source(images), readout)
    return arrays, read_settings(images.path)["images"]


def first_images(path: str, draw: Draw, wanted: Sequence) -> Features:
    """Features of the first support images of a draw.

    wanted: their names and digests. Raises UserError, which names the path, unless they
    are the first of the draw.
    """
    arrays, images = draw
    found, count = {"support": images[: len(wanted)]}, len(wanted)
    check_record(path, found, {"support": wanted})
    of_class = {name: arrays[name] for name in (REGION,) if name in arrays}
    return {name: array[:count] for name, array in arrays.items()} | of_class


def read_source(source: Source) -> dict[str, np.ndarray]:
    """Arrays of a cached file; UserError if it is damaged or of another record."""
    path, record = source
    return read_npz(path, record=record)
