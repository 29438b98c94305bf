"""What detectors see of a set of images, block by block, and what they predict."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fsad.backbones.features import FeatureSet, fill
from fsad.methods.base import Detector, Features, Prediction
from fsad.methods.patches import upsample

# Of each shape of images: their rows in the set, and values of `Detector.observe`.
Observed = list[tuple[np.ndarray, dict[str, Tensor]]]
ObserveAll = Callable[[Sequence[Detector], Features], list[dict[str, Tensor]]]


def observe(
    detectors: Sequence[Detector], features: FeatureSet, observe_all: ObserveAll
) -> list[Observed]:
    """What each of several detectors sees of all images, whose features are read once.

    observe_all: what each sees of one block.
    """
    seen = [[(rows, {}) for rows in features.rows] for _ in detectors]
    for group, some, block in features.blocks():
        for own, values in zip(seen, observe_all(detectors, block), strict=True):
            rows, arrays = own[group]
            fill(arrays, values, some, len(rows))
    return seen


def observe_each(
    detectors: Sequence[Detector], features: Features
) -> list[dict[str, Tensor]]:
    """What each detector sees of a block, one after the other."""
    return [detector.observe(features) for detector in detectors]


def predict(detector: Detector, observed: Observed, resolution: int) -> Prediction:
    """Prediction of a set of images, in order.

    Maps of images of several shapes are interpolated to the resolution, where they are
    of one shape.
    """
    found = [detector.predict(values) for _, values in observed]
    if len(found) == 1:
        return found[0]
    order = torch.from_numpy(np.argsort(np.concatenate([rows for rows, _ in observed])))

    def merged(values: Sequence[Tensor]) -> Tensor:
        same = [upsample(x, resolution, 0) if x.ndim == 3 else x for x in values]
        return torch.cat(same)[order.to(same[0].device)]

    scores = None if found[0].scores is None else merged([x.scores for x in found])
    names = found[0].components
    components = {name: merged([x.components[name] for x in found]) for name in names}
    return Prediction(scores, merged([x.maps for x in found]), components)
