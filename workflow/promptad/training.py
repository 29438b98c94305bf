"""Prompt learning on cached features, evaluated on a schedule."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from promptad import losses, metrics, scores
from promptad.devices import captured
from promptad.errors import UserError
from promptad.maps import anomaly_map_matrix
from promptad.text import Contexts, Words, anomaly_prompts, encode_together
from promptad.transformer import Tower

CONTEXT_STD = 0.02


class Evaluation(NamedTuple):
    """The prompts and predictions of one evaluated epoch.

    predictions: `fused`, `textual` and `visual`, scores [N] or maps [N, G, G].
    """

    epoch: int
    auroc: float
    contexts: Contexts
    prompts: Tensor
    predictions: dict[str, np.ndarray]


class Training(NamedTuple):
    """What one training learns from.

    contexts: those it starts from. features: of the support images, [k, D] (cls) or
    [k, P, D] (seg). evaluate: from prompts [2, D] to predictions and AUROC.
    """

    contexts: Contexts
    features: Tensor
    evaluate: Callable[[Tensor], tuple[dict[str, np.ndarray], float]]


class Step(NamedTuple):
    """Prompts [n, 2, D] and loss terms [n, 4] of n trainings, and the gradients."""

    prompts: Tensor
    losses: Tensor
    gradients: Sequence[Tensor]


class Run(NamedTuple):
    """A finished training: `last` and `best` evaluation, one row per epoch."""

    last: Evaluation
    best: Evaluation
    history: list[dict]


def evaluation_epochs(epochs: int, every: int) -> list[int]:
    """Epochs (from 1) that are evaluated: every `every`-th and the last."""
    return sorted({*range(every, epochs + 1, every), epochs})


def learning_rate(epoch: int, options: Mapping) -> float:
    """That of the step after `epoch` others, on a cosine from `lr` to `min_lr`."""
    share = (1 + math.cos(math.pi * epoch / options["epochs"])) / 2
    return options["min_lr"] + share * (options["lr"] - options["min_lr"])


def initial_contexts(options: Mapping, width: int, seed: int) -> Contexts:
    """Contexts drawn from N(0, 0.02^2), the same for every class and shot number."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (
        (options["n_pro"], options["n_ctx"]),
        (options["n_pro_ab"], options["n_ctx_ab"]),
    )
    draws = [torch.randn(*shape, width, generator=generator) for shape in shapes]
    return Contexts(*(CONTEXT_STD * draw for draw in draws))


def temperature(tower: Tower, options: Mapping) -> float:
    """The factor of all logits: `logit_scale` as stored (as published) or its exp."""
    stored = tower.config["logit_scale"]
    return stored if options["temperature"] == "stored" else float(np.exp(stored))


def fit(
    tower: Tower, words: Words, trainings: Sequence[Training], options: Mapping
) -> list[Run]:
    """Learn contexts from normal image features, full batch, one step an epoch.

    The trainings pass the text tower together, and are otherwise independent.
    options: see config/README.md. Raises UserError if a training diverges.
    """
    several = [_learnable(training.contexts) for training in trainings]
    learned = [context for contexts in several for context in contexts]
    velocities = [torch.zeros_like(context) for context in learned]
    step = captured(lambda: _step(tower, words, several, trainings, options), tower)
    due = evaluation_epochs(options["epochs"], options["eval_every"])
    rates = [learning_rate(epoch, options) for epoch in range(options["epochs"])]
    terms, aurocs, best = [], {}, None
    for epoch in tqdm(range(options["epochs"] + 1), "train", mininterval=1):
        # The prompts that a step starts from are those that the last one has led to.
        now = step()
        if epoch in due:
            _check_finite(now.prompts, epoch)
            evaluated = zip(trainings, several, now.prompts, strict=True)
            last = [_evaluation(epoch, *of) for of in evaluated]
            best = [_better(*pair) for pair in zip(best or last, last, strict=True)]
            aurocs[epoch] = [evaluation.auroc for evaluation in last]
        if epoch < options["epochs"]:
            terms.append(now.losses.clone())
            _descend(learned, now.gradients, velocities, rates[epoch], options)
    histories = _histories(rates, torch.stack(terms).tolist(), aurocs)
    return [Run(*of) for of in zip(last, best, histories, strict=True)]


def _check_finite(prompts: Tensor, epoch: int) -> None:
    if not prompts.isfinite().all():
        raise UserError(
            f"training: diverged, its prompts are no numbers after epoch {epoch}; "
            "lower `training.lr`"
        )


def _learnable(contexts: Contexts) -> Contexts:
    return Contexts(*(c.detach().clone().requires_grad_() for c in contexts))


def _step(
    tower: Tower,
    words: Words,
    several: Sequence[Contexts],
    trainings: Sequence[Training],
    options: Mapping,
) -> Step:
    texts = encode_together(tower, words, several)
    factor, weight = temperature(tower, options), options["match_weight"]
    terms = [
        losses.objective(training.features, text, factor, weight)
        for training, text in zip(trainings, texts, strict=True)
    ]
    total = sum(term.total for term in terms)
    gradients = torch.autograd.grad(total, [c for pair in several for c in pair])
    with torch.no_grad():
        prompts = torch.stack([anomaly_prompts(text) for text in texts])
        return Step(prompts, torch.stack([torch.stack(t) for t in terms]), gradients)


@torch.no_grad()
def _descend(
    contexts: Sequence[Tensor],
    gradients: Sequence[Tensor],
    velocities: Sequence[Tensor],
    rate: float,
    options: Mapping,
) -> None:
    """One step of SGD with momentum, in place.

    Not torch.optim's, the first use of which loads torch's compiler, for seconds.
    """
    of_each = zip(contexts, gradients, velocities, strict=True)
    for context, gradient, velocity in of_each:
        decayed = gradient.add(context, alpha=options["weight_decay"])
        velocity.mul_(options["momentum"]).add_(decayed)
        context.sub_(velocity, alpha=rate)


def _evaluation(
    epoch: int, training: Training, contexts: Contexts, prompts: Tensor
) -> Evaluation:
    predictions, auroc = training.evaluate(prompts)
    kept = Contexts(*(c.detach().clone() for c in contexts))
    return Evaluation(epoch, auroc, kept, prompts.clone(), predictions)


def _better(first: Evaluation, second: Evaluation) -> Evaluation:
    return second if second.auroc > first.auroc else first


def _histories(
    rates: list[float], terms: list[list], aurocs: dict[int, list[float]]
) -> list[list[dict]]:
    """One row per epoch of each training, of terms [epochs, n, 4]."""
    histories = [[] for _ in terms[0]]
    for epoch, (rate, rows) in enumerate(zip(rates, terms, strict=True), 1):
        for i, (history, row) in enumerate(zip(histories, rows, strict=True)):
            values = dict(zip(losses.Losses._fields, row, strict=True))
            reached = {"auroc": aurocs[epoch][i]} if epoch in aurocs else {}
            history.append({"epoch": epoch, "lr": rate} | values | reached)
    return histories


def image_evaluator(
    features: Tensor, visual: Tensor, labels: np.ndarray, factor: float, resolution: int
) -> Callable[[Tensor], tuple[dict[str, np.ndarray], float]]:
    """Evaluate prompts on images: scores [N], and image AUROC of the fused ones.

    features: global [N, D]. visual: maps [N, G, G] of the patch memory. labels: [N].
    """
    peaks = scores.peak_scores(visual, resolution)
    known = _arrays(visual=peaks)

    def evaluate(prompts: Tensor) -> tuple[dict[str, np.ndarray], float]:
        textual = scores.textual_scores(features, prompts, factor)
        fused = scores.harmonic(peaks, textual)
        predictions = known | _arrays(fused=fused, textual=textual)
        return predictions, metrics.auroc(labels, predictions["fused"])

    return evaluate


def pixel_evaluator(
    features: Tensor, visual: Tensor, masks: np.ndarray, factor: float
) -> Callable[[Tensor], tuple[dict[str, np.ndarray], float]]:
    """Evaluate prompts on pixels: maps [N, G, G], and pixel AUROC of the fused ones.

    features: patches [N, G*G, D]. visual: maps [N, G, G] of the patch memory.
    masks: [N, R, R]; the AUROC is that of the maps at their size.
    """
    matrix = anomaly_map_matrix(visual.shape[-1], masks.shape[-1])
    matrix = torch.from_numpy(matrix).to(visual.device)
    known, area = _arrays(visual=visual), pixel_auroc(masks, visual.device)

    def evaluate(prompts: Tensor) -> tuple[dict[str, np.ndarray], float]:
        textual = scores.textual_scores(features, prompts, factor).view_as(visual)
        fused = scores.harmonic(textual, visual)
        predictions = known | _arrays(fused=fused, textual=textual)
        return predictions, area(scores.resize_maps(fused, matrix))

    return evaluate


def pixel_auroc(masks: np.ndarray, device: torch.device) -> Callable[[Tensor], float]:
    """What finds the AUROC of maps [N, R, R] that lie on the device, on it."""
    if device.type == "cpu":
        return lambda maps: metrics.auroc(masks, maps.numpy())
    marred = torch.from_numpy(masks != 0).to(device)
    return lambda maps: scores.auroc(marred, maps)


def _arrays(**tensors: Tensor) -> dict[str, np.ndarray]:
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
