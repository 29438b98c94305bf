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
from fsad.backbones.tower import Tower
from fsad.methods.base import Features, Prediction, Step, Text
from fsad.methods.patches import nearest_cosine, peak_scores
from fsad.methods.promptad import training
from fsad.methods.promptad.prompts import fuse, text_probability

SIGMA = 4.0  # published
MEMORY = ("mid1", "mid2")  # patch features of the support images that are kept
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
        to_device = partial(_on_device, device=self.tower.device)
        tower, words, options = self.tower, self.words, self.options
        initial = training.initial_contexts(options, len(words.start), seed)
        contexts = Contexts(*map(to_device, initial))
        features = to_device(support[COMPARED[self.task]])
        features = features if self.task == "cls" else features.flatten(1, 2)
        memory = {name: to_device(support[name]) for name in MEMORY}
        scale = torch.tensor(training.logit_scale(tower, options), dtype=torch.float64)
        for epoch in training.learn(tower, words, contexts, features, options):
            detector = None
            if epoch.prompts is not None:
                learned = epoch.contexts._asdict() | {"logit_scale": scale}
                learned["prompts"] = epoch.prompts
                learned = {name: x.detach().clone() for name, x in learned.items()}
                detector = restore(self.task, options, memory, learned)
            yield Step(epoch.number, training.loss_terms(epoch), detector)


class PromptADDetector(NamedTuple):
    """Prompts and memory of one class and task.

    support: `mid1` and `mid2`, [k, gh, gw, Dv]. learned: `prompts` [2, D], the contexts
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

        Returns `compared` [N, D] or [N, gh, gw, D], `memory` [N, gh, gw], and its
        `peaks` [N].
        """
        to_device = partial(_on_device, device=self.learned["prompts"].device)
        distances = [
            nearest_cosine(to_device(features[name]).flatten(1, 2), bank.flatten(0, 2))
            for name, bank in self.support.items()
        ]
        grid = features[MEMORY[0]].shape[1:3]
        memory = (sum(distances) / len(distances)).unflatten(1, grid)
        compared = to_device(features[COMPARED[self.task]])
        peaks = peak_scores(memory, self.resolution)
        return {"compared": compared, "memory": memory, "peaks": peaks}

    @torch.inference_mode()
    def predict(self, observed: Mapping[str, Tensor]) -> Prediction:
        """Fused scores and maps of the memory (cls), or fused maps alone (seg)."""
        memory, scale = observed["memory"], self.learned["logit_scale"].item()
        text = text_probability(observed["compared"], self.learned["prompts"], scale)
        distance = observed["peaks"] if self.task == "cls" else memory
        components = {"text_probability": text, "memory_distance": distance}
        fused = fuse(text, distance)
        if self.task == "cls":
            return Prediction(fused, memory, components)
        return Prediction(None, fused, components)


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
