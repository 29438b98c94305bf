"""Interface of a method of few-shot anomaly detection.

A method reads features alone: no configuration, files, labels or metrics. Its module
has two functions, and a third where it is without training:

    create(task, options, text) -> Method
    restore(task, options, support, learned) -> Detector
    observe_all(detectors, features) -> list[dict[str, Tensor]]

and where what was learned cannot be fitted again to more support images another:

    grown(detector, features, options, first) -> Detector

options: those of the run. text: a `Text` where the registry entry has `reads_text`,
else None. support, learned: those of a stored detector. `observe_all` gives what each
detector observes, where those of fewer shots know the first images of those of more;
both tasks then read one prediction.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from fsad.backbones.tower import Tower

# By name, each [N, ...], of N images; those of patches are [N, gh, gw, D], and of tiles
# [N, R, C, gh, gw, D] with `row_spans` and `column_spans`, see `methods.tiles`.
Features = Mapping[str, np.ndarray | Tensor]


class Text(NamedTuple):
    """Text tower, and token numbers of a class by `words.tokenize`."""

    tower: Tower
    tokens: Mapping[str, np.ndarray]


class Prediction(NamedTuple):
    """Predictions of N images.

    scores: [N]. For seg they may be None: then the score of an image is the maximum of
    its map at full size. maps: [N, gh, gw] on the grid of patches. components: scores
    [N] (cls) or maps (seg) that are fused into the prediction, by name.
    """

    scores: Tensor | None
    maps: Tensor
    components: dict[str, Tensor]


class Detector(Protocol):
    """A fitted method, which can be restored from `support` and `learned`.

    support: features of the support images that it compares with. learned: tensors
    that the training has added, none without training. sigma: standard deviation of
    the Gaussian that smooths its maps, in pixels of the full size; 0 for none.
    """

    support: dict[str, Tensor]
    learned: dict[str, Tensor]
    sigma: float

    def observe(self, features: Features) -> dict[str, Tensor]:
        """Values of images that no training changes.

        They are computed once and serve all detectors of one fit.
        """

    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """Scores and maps of images from the result of `observe`."""

    def scored(self, mean: Prediction) -> Prediction:
        """The prediction that the mean of several is taken for.

        Scores that a method takes from maps or components are taken from those of it.
        """


class Step(NamedTuple):
    """One epoch of a fit; a method without training has one.

    epoch: its number from 1. terms: values to record, by name. detector: where the
    epoch is to be evaluated, else None.
    """

    epoch: int
    terms: dict[str, float | Tensor]
    detector: Detector | None


class Method(Protocol):
    """A method for one class and task, before it is fitted."""

    def fit(self, support: Features, key: Sequence[int]) -> Iterator[Step]:
        """Fit to the features of the support images; the last step has a detector.

        key: seed of the run, and a number of its class, for random draws.
        """
