"""PromptAD (Li et al., CVPR 2024): learned prompts and a memory of patches.

A detector of images (cls) compares the global feature with the prompts, and fuses the
result with the peak of the memory distance; a detector of pixels (seg) fuses both patch
by patch.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from fsad.backbones.clip_text import Contexts, Words, embed_words
from fsad.backbones.devices import check_device
from fsad.backbones.tower import Tower
from fsad.methods.base import Features, Prediction, Step, Text
from fsad.methods.patches import nearest_cosine, peak_scores, square_maps
from fsad.methods.promptad.prompts import fuse, text_probability
from fsad.methods.promptad.training import (
    Epoch,
    initial_contexts,
    learn,
    logit_scale,
    loss_terms,
)

SIGMA = 4.0  # published
MEMORY = ("mid1", "mid2")  # patch features of the support images that are kept
COMPARED = {"cls": "global", "seg": "patch"}  # features to learn from and compare


class PromptAD(NamedTuple):
    """PromptAD for one class and task; options: see config/README.md."""

    task: str
    options: Mapping
    tower: Tower
    words: Words

    def fit(self, support: Features, seed: int) -> Iterator[Step]:
        """Learn prompts; a detector every `eval_every` epochs and after the last."""
        to_device = partial(_on_device, device=self.tower.device)
        initial = initial_contexts(self.options, len(self.words.start), seed)
        contexts = Contexts(*map(to_device, initial))
        features = to_device(support[COMPARED[self.task]])
        memory = {name: to_device(support[name]) for name in MEMORY}
        for epoch in learn(self.tower, self.words, contexts, features, self.options):
            detector = None if epoch.prompts is None else self._detector(epoch, memory)
            yield Step(epoch.number, loss_terms(epoch), detector)

    def _detector(self, epoch: Epoch, memory: dict[str, Tensor]) -> "PromptADDetector":
        normal, abnormal = (context.detach().clone() for context in epoch.contexts)
        scale = torch.tensor(logit_scale(self.tower, self.options), dtype=torch.float64)
        learned = {"normal": normal, "abnormal": abnormal, "logit_scale": scale}
        learned["prompts"] = epoch.prompts.clone()
        return PromptADDetector(self.task, self.options["resolution"], memory, learned)


class PromptADDetector(NamedTuple):
    """Prompts and memory of one class and task.

    support: `mid1` and `mid2`, [k, P, Dv]. learned: `prompts` [2, D], the contexts
    `normal` and `abnormal` that they are encoded from, and `logit_scale`.
    """

    task: str
    resolution: int
    support: dict[str, Tensor]
    learned: dict[str, Tensor]
    sigma: float = SIGMA

    @torch.inference_mode()
    def observe(self, features: Features) -> dict[str, Tensor]:
        """Features to compare with the prompts, and distances to the memory.

        Returns `compared` [N, D] or [N, P, D], `memory` [N, G, G], and its `peaks` [N].
        """
        to_device = partial(_on_device, device=self.learned["prompts"].device)
        distances = [
            nearest_cosine(to_device(features[name]), bank.flatten(0, 1))
            for name, bank in self.support.items()
        ]
        memory = square_maps(sum(distances) / len(distances))
        compared = to_device(features[COMPARED[self.task]])
        peaks = peak_scores(memory, self.resolution)
        return {"compared": compared, "memory": memory, "peaks": peaks}

    @torch.inference_mode()
    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """Fused scores and maps of the memory (cls), or fused maps alone (seg)."""
        memory, scale = observed["memory"], self.learned["logit_scale"].item()
        text = text_probability(observed["compared"], self.learned["prompts"], scale)
        if text.ndim == 1:
            components = {
                "text_probability": text,
                "memory_distance": observed["peaks"],
            }
            return Prediction(fuse(observed["peaks"], text), memory, components)
        text = text.view_as(memory)
        components = {"text_probability": text, "memory_distance": memory}
        return Prediction(None, fuse(text, memory), components)


def create(task: str, options: Mapping, text: Text) -> PromptAD:
    """PromptAD for a class, on the device and in the precision of the options."""
    check_device(options["device"])
    tower = text.tower.to(options["device"], options["precision"])
    return PromptAD(task, options, tower, embed_words(tower, dict(text.tokens)))


def restore(
    task: str, options: Mapping, support: Features, learned: Features
) -> PromptADDetector:
    """A detector from features of its support images and learned tensors."""
    to_device = partial(_on_device, device=options["device"])
    memory = {name: to_device(support[name]) for name in MEMORY}
    tensors = {name: to_device(array) for name, array in learned.items()}
    return PromptADDetector(task, options["resolution"], memory, tensors)


def _on_device(array, device: str | torch.device) -> Tensor:
    return torch.as_tensor(array).to(device)
