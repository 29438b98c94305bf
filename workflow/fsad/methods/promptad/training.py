"""Prompt learning on frozen features, full batch, one step an epoch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fsad.backbones.clip_text import Contexts, Words, anomaly_prompts, encode_prompts
from fsad.backbones.devices import captured
from fsad.backbones.tower import Tower
from fsad.errors import UserError
from fsad.methods.promptad.losses import Losses, objective

CONTEXT_STD = 0.02


class Epoch(NamedTuple):
    """State after an epoch.

    number: from 1. rate, losses: learning rate and loss terms [4] of its step.
    contexts: the next step changes them in place. prompts: [2, D] where the epoch is
    to be evaluated, else None.
    """

    number: int
    rate: float
    losses: Tensor
    contexts: Contexts
    prompts: Tensor | None


def evaluation_epochs(epochs: int, every: int) -> list[int]:
    """Epochs (from 1) that are evaluated: every `every`-th and the last."""
    return sorted({*range(every, epochs + 1, every), epochs})


def learning_rate(epoch: int, options: Mapping) -> float:
    """Cosine schedule from `lr` to `min_lr`; epoch counts from 0."""
    share = (1 + math.cos(math.pi * epoch / options["epochs"])) / 2
    return options["min_lr"] + share * (options["lr"] - options["min_lr"])


def initial_contexts(options: Mapping, width: int, seed: int) -> Contexts:
    """Contexts drawn from N(0, 0.02^2), the same for every class and shot number."""
    generator = torch.Generator().manual_seed(seed)
    names = ("n_pro", "n_ctx"), ("n_pro_ab", "n_ctx_ab")
    shapes = [(*(options[name] for name in pair), width) for pair in names]
    draws = (torch.randn(shape, generator=generator) for shape in shapes)
    return Contexts(*(CONTEXT_STD * draw for draw in draws))


def logit_scale(tower: Tower, options: Mapping) -> float:
    """Multiplier of all logits: the stored value, as published, or its exponential."""
    stored = tower.config["logit_scale"]
    return stored if options["temperature"] == "stored" else float(np.exp(stored))


def learn(
    tower: Tower, words: Words, contexts: Contexts, features: Tensor, options: Mapping
) -> Iterator[Epoch]:
    """Learn contexts from features of normal images, [k, D] (cls) or [k, P, D] (seg).

    contexts: the initial ones, left as they are. options: see config/README.md. Raises
    UserError if the training diverges.
    """
    learned = Contexts(*(c.detach().clone().requires_grad_() for c in contexts))
    velocities = [torch.zeros_like(context) for context in learned]
    step = captured(
        lambda: _gradient(tower, words, learned, features, options), tower.device
    )
    epochs, losses, rate = options["epochs"], None, 0.0
    due = evaluation_epochs(epochs, options["eval_every"])
    for epoch in tqdm(range(epochs + 1), "train", mininterval=1):
        # The prompts at the start of a step are those at the end of the step before.
        prompts, terms, gradients = step()
        if epoch in due and not prompts.isfinite().all():
            raise UserError(
                f"training: diverged, the prompts are not finite after epoch {epoch}; "
                "lower `training.lr`"
            )
        if epoch > 0:
            yield Epoch(epoch, rate, losses, learned, prompts if epoch in due else None)
        if epoch < epochs:
            losses, rate = terms.clone(), learning_rate(epoch, options)
            _descend(learned, gradients, velocities, rate, options)


def _gradient(
    tower: Tower, words: Words, contexts: Contexts, features: Tensor, options: Mapping
) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    """Prompts [2, D] and loss terms [4] before a step, and gradients for it."""
    text = encode_prompts(tower, words, contexts)
    scale, weight = logit_scale(tower, options), options["match_weight"]
    losses = objective(features, text, scale, weight)
    gradients = torch.autograd.grad(losses.total, contexts)
    with torch.no_grad():
        return anomaly_prompts(text), torch.stack(losses), gradients


@torch.no_grad()
def _descend(
    contexts: Contexts,
    gradients: Sequence[Tensor],
    velocities: Sequence[Tensor],
    rate: float,
    options: Mapping,
) -> None:
    """One step of SGD with momentum, in place.

    torch.optim is not used: its first use loads torch's compiler, which takes seconds.
    """
    parts = zip(contexts, gradients, velocities, strict=True)
    for context, gradient, velocity in parts:
        decayed = gradient.add(context, alpha=options["weight_decay"])
        velocity.mul_(options["momentum"]).add_(decayed)
        context.sub_(velocity, alpha=rate)


def loss_terms(epoch: Epoch) -> dict[str, float | Tensor]:
    """Learning rate and loss terms of an epoch, by name."""
    return {"lr": epoch.rate, **dict(zip(Losses._fields, epoch.losses, strict=True))}
