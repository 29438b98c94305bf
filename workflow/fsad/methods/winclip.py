"""WinCLIP (Jeong et al., CVPR 2023): windows of patches against words, and memory.

As anomalib computes it, with all 22 templates of the paper. Each window of an image is
compared with the mean of normal and of abnormal sentences, as is the whole image; a
patch has the harmonic mean over the windows that hold it. With support images, patches
and windows are also compared with theirs, wherever these lie.

The sentences are those of `data.ensemble`: templates, filled with states, filled with
the words of the class in the configuration. The states are the published ones; with
`state_words: own` the abnormal ones are those of the class in the configuration.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from fsad.backbones.clip_text import encode_units
from fsad.backbones.devices import check_device
from fsad.backbones.tower import Tower
from fsad.data.tiles import INSIDE
from fsad.methods.base import Features, Prediction, Step, Text
from fsad.methods.patches import kept, on_device
from fsad.methods.tiles import (
    Bank,
    Search,
    bank_of,
    joined,
    nearest_patches,
    of_images,
)

TEMPERATURE = 0.07  # published, that which CLIP's training starts with
PATCH, GLOBAL = "patch", "global"
ABNORMAL = {"published": "abnormal", "own": "abnormal_own"}  # tokens by `state_words`


class WinCLIP(NamedTuple):
    """WinCLIP for one class; options: `scales`, `position`. directions: [2, D]."""

    task: str
    options: Mapping
    directions: Tensor

    def fit(self, support: Features, key: Sequence[int]) -> Iterator[Step]:
        """Keep patches [k, gh, gw, Dv] and windows of support images, k >= 0.

        support: may also be empty, for zero shots.
        """
        learned = {"directions": self.directions}
        yield Step(1, {}, restore(self.task, self.options, support, learned))


class WinCLIPDetector(NamedTuple):
    """Words and memory banks of one class.

    support: `patch` [k, gh, gw, Dv] and for each scale s `windows_s` [k, gh - s + 1,
    gw - s + 1, D]; none for zero shots. learned: `directions` [2, D], float32, means of
    the features of normal and of abnormal sentences.
    """

    scales: Sequence[int]
    search: Search
    support: dict[str, Tensor]
    learned: dict[str, Tensor]
    sigma: float = 0.0  # published maps are not smoothed

    def bank(self, scale: int) -> Bank:
        """The memory bank of windows of a scale, 1 for that of patches."""
        found = _of_scale(self.support, scale)
        return lambda place: bank_of(found, PATCH, place)

    def observe(self, features: Features) -> dict[str, Tensor]:
        """`text_scores` [n] of images, `text_maps` [n, gh, gw], and `distances`
        [n, gh, gw] of patches to the support images, if there are any."""
        (observed,) = observe_all([self], features)
        return observed

    @torch.inference_mode()
    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """Maps, the mean of both kinds, and scores, the mean with the largest distance.

        For zero shots they are those of the text alone.
        """
        scores, maps = observed["text_scores"], observed["text_maps"]
        if "distances" in observed:
            distances = observed["distances"]
            scores = (scores + distances.amax((1, 2))) / 2
            maps = (maps + distances) / 2
        return Prediction(scores, maps, {})

    def scored(self, mean: Prediction) -> Prediction:
        """The mean as it is: scores do not follow from maps alone."""
        return mean


def create(task: str, options: Mapping, text: Text) -> WinCLIP:
    """WinCLIP for a class, on the device and in the precision of the options."""
    check_device(options["device"])
    tower = text.tower.to(options["device"], options["precision"])
    groups = text.tokens["normal"], text.tokens[ABNORMAL[options["state_words"]]]
    start = int(text.tokens["start"])
    means = [mean_feature(tower, start, torch.as_tensor(rows)) for rows in groups]
    return WinCLIP(task, options, torch.stack(means))


def restore(
    task: str, options: Mapping, support: Features, learned: Features
) -> WinCLIPDetector:
    """A detector from features of its support images and its directions."""
    names = [PATCH, *map(_windows, options["scales"]), INSIDE]
    any_shots = len(support.get(PATCH, ())) > 0
    support = kept(support, names if any_shots else (), options["device"])
    tensors = {"directions": on_device(learned["directions"], options["device"])}
    search = Search("cosine", options["position"])
    return WinCLIPDetector(options["scales"], search, support, tensors)


@torch.inference_mode()
def observe_all(
    detectors: Sequence[WinCLIPDetector], features: Features
) -> list[dict[str, Tensor]]:
    """What `observe` of each detector gives, of detectors with the same directions.

    One search for each scale serves nested banks.
    """
    first, known = detectors[0], [x for x in detectors if x.support]
    device = first.learned["directions"].device
    features = kept(features, features, device)
    text = _text_part(first, features)
    found = iter(_distances(known, features) if known else ())
    return [
        {**text, "distances": next(found)} if x.support else text for x in detectors
    ]


def _text_part(detector: WinCLIPDetector, features: Features) -> dict[str, Tensor]:
    """`text_scores` and `text_maps` of images, see `WinCLIPDetector.observe`."""
    score = partial(text_scores, directions=detector.learned["directions"])
    images = score(features[GLOBAL])  # (n,) or of tiles
    terms = [1 / images[..., None, None]]
    for scale in detector.scales:
        terms.append(1 / over_patches(score(features[_windows(scale)]), scale))
    maps = _inside(len(terms) / sum(terms), features)
    return {
        "text_scores": of_images(images, features),
        "text_maps": joined(maps, features),
    }


def _distances(
    detectors: Sequence[WinCLIPDetector], features: Features
) -> list[Tensor]:
    """Distances [n, gh, gw] of patches to the support images of each detector."""
    scales, search = (1, *detectors[0].scales), detectors[0].search
    sums = [0.0] * len(detectors)
    for scale in scales:
        banks = [detector.bank(scale) for detector in detectors]
        found = nearest_patches(_of_scale(features, scale), PATCH, banks, search)
        halves = [over_patches(distances / 2, scale) for distances in found]
        sums = [a + b for a, b in zip(sums, halves, strict=True)]
    maps = (_inside(total / len(scales), features) for total in sums)
    return [joined(own, features) for own in maps]


def _of_scale(features: Features, scale: int) -> dict[str, Tensor]:
    """Features of windows of a scale, 1 for patches, by the names of those of patches.

    A window is inside a region of interest if one of its patches is.
    """
    found = {PATCH: features[PATCH if scale == 1 else _windows(scale)]}
    if INSIDE in features:
        inside, shape = np.asarray(features[INSIDE]), (scale, scale)
        windows = sliding_window_view(inside, shape, (-2, -1))
        found[INSIDE] = windows.any((-2, -1))
    return found


def _inside(maps: Tensor, features: Features) -> Tensor:
    return (
        maps * on_device(features[INSIDE], maps.device) if INSIDE in features else maps
    )


def text_scores(features: Tensor, directions: Tensor) -> Tensor:
    """Probability of the abnormal direction for features [..., D], float32 [...].

    directions: normal and abnormal, [2, D]; neither these nor features are normalised.
    """
    features, directions = (
        F.normalize(x.float(), dim=-1) for x in (features, directions)
    )
    return torch.softmax(features @ directions.T / TEMPERATURE, -1)[..., 1]


def over_patches(values: Tensor, scale: int) -> Tensor:
    """Harmonic mean, for each patch, of the values of the windows that hold it.

    values: [..., gh - s + 1, gw - s + 1] of windows of s x s patches, not negative.
    Returns [..., gh, gw]; a value of 0 makes its patches 0.
    """
    return _held(torch.ones_like(values), scale) / _held(1 / values, scale)


def _held(values: Tensor, scale: int) -> Tensor:
    """Sum of the values of the windows that hold each patch."""
    padded = F.pad(values, [scale - 1] * 4)
    return padded.unfold(-2, scale, 1).unfold(-2, scale, 1).sum((-2, -1))


@torch.inference_mode()
def mean_feature(tower: Tower, start: int, rows: Tensor) -> Tensor:
    """Mean text feature [D] of sentences, which are not normalised before.

    start: number of [SOS]. rows: int64 [n, L], the tokens after it, with [EOS], whose
    number is the highest, and anything after that.
    """
    table = tower.weights["token_embedding.weight"]
    ends = 1 + rows.argmax(1)
    units = [
        table[row[:end].to(table.device)][None]
        for row, end in zip(rows, ends, strict=True)
    ]
    return encode_units(tower, table[start][None, None], units).mean((0, 1)).float()


def _windows(scale: int) -> str:
    return f"windows_{scale}"
