"""Prompt learning on cached features, evaluated on a schedule."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from promptad import losses, metrics, scores
from promptad.maps import anomaly_map_matrix
from promptad.text import Contexts, Words, anomaly_prompts, encode_prompts
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


class Run(NamedTuple):
    """A finished training: `last` and `best` evaluation, one row per epoch."""

    last: Evaluation
    best: Evaluation
    history: list[dict]


def evaluation_epochs(epochs: int, every: int) -> list[int]:
    """Epochs (from 1) that are evaluated: every `every`-th and the last."""
    return sorted({*range(every, epochs + 1, every), epochs})


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
    tower: Tower,
    words: Words,
    contexts: Contexts,
    features: Tensor,
    evaluate: Callable[[Tensor], tuple[dict[str, np.ndarray], float]],
    options: Mapping,
) -> Run:
    """Learn contexts from normal image features, full batch, one step an epoch.

    features: [k, D] (cls) or [k, P, D] (seg). evaluate: from prompts [2, D] to
    predictions and AUROC. options: see config/README.md.
    """
    contexts = Contexts(*(c.detach().clone().requires_grad_() for c in contexts))
    optimizer, schedule = _optimizer(contexts, options)
    due = evaluation_epochs(options["epochs"], options["eval_every"])
    history, best, last = [], None, None
    for epoch in tqdm(range(1, options["epochs"] + 1), "train", mininterval=1):
        row = {"epoch": epoch, "lr": schedule.get_last_lr()[0]}
        row |= _step(tower, words, contexts, features, optimizer, options)
        schedule.step()
        if epoch in due:
            last = _evaluation(epoch, tower, words, contexts, evaluate)
            best = last if best is None or last.auroc > best.auroc else best
            row["auroc"] = last.auroc
        history.append(row)
    return Run(last, best, history)


def _optimizer(contexts: Contexts, options: Mapping):
    optimizer = torch.optim.SGD(
        contexts,
        lr=options["lr"],
        momentum=options["momentum"],
        weight_decay=options["weight_decay"],
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, options["epochs"], eta_min=options["min_lr"]
    )
    return optimizer, schedule


def _step(
    tower: Tower,
    words: Words,
    contexts: Contexts,
    features: Tensor,
    optimizer: torch.optim.Optimizer,
    options: Mapping,
) -> dict[str, float]:
    text = encode_prompts(tower, words, contexts)
    factor = temperature(tower, options)
    terms = losses.objective(features, text, factor, options["match_weight"])
    optimizer.zero_grad()
    terms.total.backward()
    optimizer.step()
    return {name: term.item() for name, term in terms._asdict().items()}


@torch.no_grad()
def _evaluation(
    epoch: int, tower: Tower, words: Words, contexts: Contexts, evaluate: Callable
) -> Evaluation:
    prompts = anomaly_prompts(encode_prompts(tower, words, contexts))
    predictions, auroc = evaluate(prompts)
    kept = Contexts(*(c.detach().clone() for c in contexts))
    return Evaluation(epoch, auroc, kept, prompts, predictions)


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
    known = _arrays(visual=visual)

    def evaluate(prompts: Tensor) -> tuple[dict[str, np.ndarray], float]:
        textual = scores.textual_scores(features, prompts, factor).view_as(visual)
        fused = scores.harmonic(textual, visual)
        maps = scores.resize_maps(fused, matrix).cpu().numpy()
        predictions = known | _arrays(fused=fused, textual=textual)
        return predictions, metrics.auroc(masks, maps)

    return evaluate


def _arrays(**tensors: Tensor) -> dict[str, np.ndarray]:
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
