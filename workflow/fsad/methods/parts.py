"""Tiles and the whole image in one detector, whose map is the mean of both maps.

A method is fitted to the features of tiles and, by itself, to those of whole images.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from fsad.backbones.embed import WHOLE
from fsad.methods.base import Detector, Features, Method, Prediction, Step, Text
from fsad.methods.patches import upsample


class Parts(NamedTuple):
    """A method for tiles and whole images."""

    method: Method

    def fit(self, support: Features, key: Sequence[int]) -> Iterator[Step]:
        """Fit to both, epoch by epoch."""
        fits = [self.method.fit(own, key) for own in _apart(support)]
        for tiles, whole in zip(*fits, strict=True):
            terms = tiles.terms | _prefixed(whole.terms)
            detectors = tiles.detector, whole.detector
            detector = None if None in detectors else PartsDetector(*detectors)
            yield Step(tiles.epoch, terms, detector)


class PartsDetector(NamedTuple):
    """Detectors of tiles and of whole images."""

    tiles: Detector
    whole: Detector

    @property
    def sigma(self) -> float:
        """That of both."""
        return self.tiles.sigma

    @property
    def support(self) -> dict[str, Tensor]:
        """Features of both."""
        return self.tiles.support | _prefixed(self.whole.support)

    @property
    def learned(self) -> dict[str, Tensor]:
        """Tensors of both."""
        return self.tiles.learned | _prefixed(self.whole.learned)

    def observe(self, features: Features) -> dict[str, Tensor]:
        """What both observe."""
        tiles, whole = (
            d.observe(x) for d, x in zip(self, _apart(features), strict=True)
        )
        return tiles | _prefixed(whole)

    @torch.inference_mode()
    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """The mean of the maps and components of both, scored as the method does it."""
        found = [d.predict(x) for d, x in zip(self, _apart(observed), strict=True)]
        return self.tiles.scored(_mean_prediction(*found))


def create(
    module: ModuleType, task: str, options: Mapping, text: Text | None
) -> Method:
    """A method of a module, for tiles and whole images where the options ask for it."""
    method = module.create(task, options, text)
    return Parts(method) if options["whole"] else method


def restore(
    module: ModuleType, task: str, options: Mapping, tensors: tuple[Features, Features]
) -> Detector:
    """A detector of a module; tensors: `support` and `learned`, see `methods.base`."""
    if not options["whole"]:
        return module.restore(task, options, *tensors)
    parts = zip(*map(_apart, tensors), strict=True)
    return PartsDetector(*(module.restore(task, options, *own) for own in parts))


def grown(
    module: ModuleType, detector: Detector, features: Features, *settings
) -> Detector:
    """`grown` of a module, of both parts where a detector has them."""
    if not isinstance(detector, PartsDetector):
        return module.grown(detector, features, *settings)
    pairs = zip(detector, _apart(features), strict=True)
    return PartsDetector(*(module.grown(own, x, *settings) for own, x in pairs))


def observe_all(
    module: ModuleType, detectors: Sequence[Detector], features: Features
) -> list[dict[str, Tensor]]:
    """What `observe` of each detector of a module without training gives."""
    if not isinstance(detectors[0], PartsDetector):
        return module.observe_all(detectors, features)
    each = zip(*detectors, strict=True)
    tiles, whole = (
        module.observe_all(own, x)
        for own, x in zip(each, _apart(features), strict=True)
    )
    return [a | _prefixed(b) for a, b in zip(tiles, whole, strict=True)]


def _apart(values: Mapping) -> tuple[dict, dict]:
    """Values of tiles and of whole images, by the beginning of their names."""
    whole = {n.removeprefix(WHOLE): x for n, x in values.items() if n.startswith(WHOLE)}
    return {n: x for n, x in values.items() if not n.startswith(WHOLE)}, whole


def _prefixed(values: Mapping) -> dict:
    return {f"{WHOLE}{name}": value for name, value in values.items()}


def _mean_prediction(tiles: Prediction, whole: Prediction) -> Prediction:
    scores = tiles.scores
    scores = None if scores is None else _mean([scores, whole.scores])
    pairs = {name: [x, whole.components[name]] for name, x in tiles.components.items()}
    components = {name: _mean(pair) for name, pair in pairs.items()}
    return Prediction(scores, _mean([tiles.maps, whole.maps]), components)


def _mean(values: Sequence[Tensor]) -> Tensor:
    """Mean of scores [N], or of maps, interpolated to the grid of the largest."""
    if values[0].ndim == 3:
        grid = tuple(map(max, *(x.shape[1:] for x in values)))
        values = [upsample(x, grid, 0) for x in values]
    return sum(values) / len(values)
