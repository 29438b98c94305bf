"""PromptAD (Li et al., CVPR 2024): learned prompts and a memory of patches.

A detector of images (cls) compares the global feature with the prompts, and fuses the
result with the peak of the memory distance; a detector of pixels (seg) fuses both patch
by patch.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from fsad.backbones.clip_text import Contexts, Words, embed_words
from fsad.backbones.devices import check_device
from fsad.backbones.features import SPANS
from fsad.backbones.tower import Tower
from fsad.data.tiles import INSIDE
from fsad.methods.base import Features, Prediction, Step, Text
from fsad.methods.maps import side
from fsad.methods.patches import kept, on_device, peak_scores
from fsad.methods.promptad import training
from fsad.methods.promptad.prompts import fuse, text_probability
from fsad.methods.tiles import (
    Place,
    Search,
    bank_of,
    joined,
    nearest_patches,
    of_images,
)

SIGMA = 4.0  # published
MEMORY = ("mid1", "mid2")  # patch features that are compared with those of support
KEPT = (*MEMORY, INSIDE)  # features of the support images
COMPARED = {"cls": "global", "seg": "patch"}  # features to learn from and compare


class PromptAD(NamedTuple):
    """PromptAD for one class and task; options: see config/README.md."""

    task: str
    options: Mapping
    tower: Tower
    words: Words

    def fit(self, support: Features, key: Sequence[int]) -> Iterator[Step]:
        """Learn prompts; a detector every `eval_every` epochs and after the last."""
        seed, _ = key
        to_device = partial(on_device, device=self.tower.device)
        tower, words, options = self.tower, self.words, self.options
        initial = training.initial_contexts(options, len(words.start), seed)
        contexts = Contexts(*map(to_device, initial))
        features = self._learned_from(support)
        memory = kept(support, KEPT, self.tower.device)
        scale = torch.tensor(training.logit_scale(tower, options), dtype=torch.float64)
        for epoch in training.learn(tower, words, contexts, features, options):
            detector = None
            if epoch.prompts is not None:
                learned = epoch.contexts._asdict() | {"logit_scale": scale}
                learned["prompts"] = epoch.prompts
                learned = {name: x.detach().clone() for name, x in learned.items()}
                detector = restore(self.task, options, memory, learned)
            yield Step(epoch.number, training.loss_terms(epoch), detector)

    def _learned_from(self, support: Features) -> Tensor:
        """Features [k, D] or [k, P, D] to learn from; each tile counts as an image.

        Patches outside a region of interest are 0: they pull prompts nowhere.
        """
        features = on_device(support[COMPARED[self.task]], self.tower.device)
        inside = _inside(support, features.device)
        if self.task == "cls":
            images = features.flatten(0, -2)
            return (
                images if inside is None else images[inside.flatten(0, -3).any((1, 2))]
            )
        if inside is not None:
            features = features * inside[..., None]
        return features.flatten(0, -4).flatten(1, 2)


class PromptADDetector(NamedTuple):
    """Prompts and memory of one class and task.

    support: `mid1` and `mid2`, [k, gh, gw, Dv]. learned: `prompts` [2, D], the contexts
    `normal` and `abnormal` that they are encoded from, and `logit_scale`.
    """

    task: str
    resolution: int
    position: str
    support: dict[str, Tensor]
    learned: dict[str, Tensor]
    sigma: float = SIGMA

    @torch.inference_mode()
    def observe(self, features: Features) -> dict[str, Tensor]:
        """Features to compare with the prompts, and distances to the memory.

        Returns `compared` [N, D] or [N, gh, gw, D], or of tiles, `memory` [N, rows,
        columns], its `peaks` [N], and where tiles lie.
        """
        features = kept(features, features, self.learned["prompts"].device)
        distances = [self._distances(features, name) for name in MEMORY]
        memory = joined(sum(distances) / len(distances), features)
        compared = features[COMPARED[self.task]]
        peaks = peak_scores(memory, self.resolution)
        others = {name: features[name] for name in (*SPANS, INSIDE) if name in features}
        return {"compared": compared, "memory": memory, "peaks": peaks, **others}

    def _distances(self, features: Features, name: str) -> Tensor:
        """Half the cosine distances to the nearest patches of the support images."""
        search = Search("cosine", self.position)

        def bank(place: Place | None) -> list[Tensor]:
            return [torch.cat([*bank_of(self.support, name, place)])]

        (found,) = nearest_patches(features, name, [bank], search)
        return found / 2

    @torch.inference_mode()
    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """Fused scores and maps of the memory (cls), or fused maps alone (seg)."""
        memory, scale = observed["memory"], self.learned["logit_scale"].item()
        text = text_probability(observed["compared"], self.learned["prompts"], scale)
        if self.task == "cls":
            return _fused(of_images(text, observed), observed["peaks"], memory)
        text = joined(text, observed)
        components = {"text_probability": text, "memory_distance": memory}
        return Prediction(None, fuse(text, memory), components)

    @torch.inference_mode()
    def scored(self, mean: Prediction) -> Prediction:
        """Scores fused with the peaks of the maps (cls), or the maps alone (seg)."""
        if self.task == "cls":
            peaks = peak_scores(mean.maps, self.resolution)
            return _fused(mean.components["text_probability"], peaks, mean.maps)
        return mean


def _inside(features: Mapping, device: torch.device) -> Tensor | None:
    return on_device(features[INSIDE], device) if INSIDE in features else None


def _fused(text: Tensor, peaks: Tensor, memory: Tensor) -> Prediction:
    """Scores of images, from the text and the peaks of the memory distance, [N]."""
    components = {"text_probability": text, "memory_distance": peaks}
    return Prediction(fuse(text, peaks), memory, components)


def create(task: str, options: Mapping, text: Text) -> PromptAD:
    """PromptAD for a class, on the device and in the precision of the options."""
    check_device(options["device"])
    tower = text.tower.to(options["device"], options["precision"])
    return PromptAD(task, options, tower, embed_words(tower, dict(text.tokens)))


def restore(
    task: str, options: Mapping, support: Features, learned: Features
) -> PromptADDetector:
    """A detector from features of its support images and learned tensors."""
    device = options["device"]
    memory, tensors = kept(support, KEPT, device), kept(learned, learned, device)
    how = side(options["resolution"]), options["position"]
    return PromptADDetector(task, *how, memory, tensors)
