"""What a method of few-shot anomaly detection is: the interface that every one has.

A method sees features alone: no configuration, files, labels or metrics. Its module has

    create(task, options, text) -> Method
    restore(task, options, support, learned) -> Detector

with the options of the run, `text` a `Text` where the registry says that it reads text,
else None, and `support` and `learned` those of a detector that was stored.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from fsad.backbones.tower import Tower

Features = Mapping[str, np.ndarray | Tensor]  # by name, each [N, ...], of N images


class Text(NamedTuple):
    """What a method reads of a class in words: the text tower, and token numbers of
    `words.tokenize`."""

    tower: Tower
    tokens: Mapping[str, np.ndarray]


class Prediction(NamedTuple):
    """Predictions of N images.

    scores: [N], or None where the score is the maximum of the map at its full size.
    maps: [N, gh, gw] on the grid of patches. components: parts that the prediction is
    made of, by name, [N] or [N, gh, gw].
    """

    scores: Tensor | None
    maps: Tensor
    components: dict[str, Tensor]


class Detector(Protocol):
    """A fitted method.

    support: the features that it compares with. learned: what training has added, empty
    without training. From both it can be restored. sigma: of the Gaussian that smooths
    its maps, in pixels of the full size; 0 for none.
    """

    support: dict[str, Tensor]
    learned: dict[str, Tensor]
    sigma: float

    def observe(self, features: Features) -> dict[str, Tensor]:
        """Everything of the images that no training changes: it is computed once, and
        serves all detectors of one fit."""

    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """Scores and maps of images from what `observe` returned."""


class Step(NamedTuple):
    """One epoch of a fit: its number from 1, terms to record, and a detector where one
    is to be evaluated. A method without training has one step."""

    epoch: int
    terms: dict[str, float | Tensor]
    detector: Detector | None


class Method(Protocol):
    """A method that can be fitted."""

    def fit(self, support: Features, seed: int) -> Iterator[Step]:
        """Fit to the features of the support images; the last step has a detector."""
