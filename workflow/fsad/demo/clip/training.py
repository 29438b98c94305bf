"""Training of the demo's small CLIP from scratch, on generated parts.

Both towers are trained first: the vision tower to predict features of a teacher and to
detect defects by them, both together to match images and phrases, see
`fsad.demo.clip.losses`. Then the text tower is trained further, alone, on the features
of the finished vision tower.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from fsad.artifacts.schema import check_options, read_schema, read_yaml
from fsad.backbones.clip import load_clip, split_towers
from fsad.backbones.clip_vision import embed, embed_memory
from fsad.backbones.compact import TABLE, rounded
from fsad.backbones.embed import normalise_pixels
from fsad.backbones.readout import VARIANTS
from fsad.backbones.spec import OPEN_CLIP, RANDOM, model_config
from fsad.backbones.tower import Tower
from fsad.demo.clip.corpus import PER_EPISODE, Corpus, draw_batch, make_corpus
from fsad.demo.clip.initialization import initialise
from fsad.demo.clip.losses import make_heads, memory_terms, text_terms
from fsad.demo.clip.phrases import Phrases, make_branch, make_phrases
from fsad.demo.scenes import SIDE
from fsad.errors import UserError
from fsad.methods.promptad.method import COMPARED, MEMORY

READOUT = VARIANTS["original"]
DECAY = 0.05  # of weights that are not vectors
TYPICAL = 200  # episodes whose first image initialises the vision tower

Terms = dict[str, Tensor]


def read_options(path: str | Path) -> dict:
    """Options of a training; UserError if one of them is wrong."""
    options = check_options(read_yaml(path), read_schema("demo_backbone"), str(path))
    stages = {"batch": options, "text_stage.batch": options["text_stage"]}
    for name, stage in stages.items():
        most = min(options["episodes"], stage["episodes"])
        if stage["batch"] > most:
            raise UserError(f"{path}: {name}: must not be more than episodes, {most}")
    return options


def pretrain(
    options: Mapping, states: Sequence[str], workers: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Train a CLIP from scratch; returns the arguments of `compact.save_compact`.

    options: those of config/demo_backbone.yaml. states: general abnormal states.
    """
    model, phrases = options["model"], make_phrases(states)
    corpus = make_corpus(options["episodes"], patch_size(model), workers)
    start = {"pretrained": RANDOM, "random_seed": options["seed"]}
    clip = load_clip({"library": OPEN_CLIP, "model": model, **start}, SIDE)
    vision, text = split_towers(clip, model)  # these share the model's memory
    numbers = torch.tensor(phrases.numbers)
    rows = text.weights[TABLE][numbers].clone()
    text.weights[TABLE] = rows
    train_towers(vision, text, corpus, phrases, options)
    with torch.no_grad():
        for weight in [*vision.weights.values(), *text.weights.values()]:
            weight.copy_(rounded(weight))  # as it is stored
    train_text(vision, text, corpus, phrases, options)
    scale = torch.tensor(float(options["logit_scale"]))
    return clip.state_dict() | {TABLE: rows, "logit_scale": scale}, numbers


def patch_size(model: str) -> int:
    """Patch size of a model; UserError if the model does not fit the training."""
    vision = model_config(model)["vision_cfg"]
    patch = vision["patch_size"]
    if vision["width"] != 3 * patch**2 or vision["layers"] < 2 or SIDE % patch:
        raise UserError(
            f"{model}: must have a width of 3 times patch_size squared, a patch_size "
            f"that divides {SIDE}, and two layers or more"
        )
    return patch


def train_towers(
    vision: Tower, text: Tower, corpus: Corpus, phrases: Phrases, options: Mapping
) -> None:
    """Train both towers in place; the token embedding has the rows of the phrases."""
    torch.manual_seed(options["seed"])
    rng = np.random.default_rng(options["seed"])
    initialise(vision, corpus.images[:TYPICAL, 0])
    heads = make_heads(vision.weights["proj"].shape[0], corpus.teacher)
    branch = make_branch(text, phrases, options)

    def compute(step: int) -> Terms:
        images, share, words, teacher = draw_batch(corpus, options["batch"], rng)
        with_text = step % options["text_every"] == 0
        pixels = normalise_pixels(images, vision)
        run = partial(embed, variant=READOUT) if with_text else embed_memory
        with torch.autocast("cpu", torch.bfloat16):
            features = _without_grid(run(vision, pixels))
        memory = [features[name] for name in MEMORY]
        terms = memory_terms(memory, teacher, share, heads, rng)
        if with_text:
            terms |= text_terms(_by_episode(features), words, share, branch, rng)
        return terms

    others = [*heads.teacher, branch.context_head, *heads[1:]]
    minimise(compute, [vision, text], others, options)


def train_text(
    vision: Tower, text: Tower, corpus: Corpus, phrases: Phrases, options: Mapping
) -> None:
    """Train the text tower in place, on features of the finished vision tower."""
    torch.manual_seed(options["seed"])
    rng, stage = np.random.default_rng(options["seed"]), options["text_stage"]
    images = corpus.images[: stage["episodes"]].reshape(-1, *corpus.images.shape[2:])
    features = _by_episode(_embedded(vision, images))
    shares = torch.from_numpy(corpus.defect_share[: stage["episodes"]]).flatten(1)
    branch = make_branch(text, phrases, stage)

    def compute(step: int) -> Terms:
        chosen = rng.choice(len(shares), stage["batch"], replace=False)
        batch = {name: feature[chosen] for name, feature in features.items()}
        words = [corpus.words[i] for i in chosen]
        return text_terms(batch, words, shares[chosen], branch, rng)

    weights = options["weights"] | {"noun": stage["noun_weight"]}
    changed = {**options, "steps": stage["steps"], "weights": weights}
    minimise(compute, [text], [branch.context_head], changed)


@torch.no_grad()
def _embedded(vision: Tower, images: np.ndarray) -> dict[str, Tensor]:
    """Features of images uint8 [3 B, H, W, 3], computed for one episode at a time."""
    starts = range(0, len(images), PER_EPISODE)
    parts = [
        embed(vision, normalise_pixels(images[i : i + PER_EPISODE], vision), READOUT)
        for i in starts
    ]
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return _without_grid(whole)


def _without_grid(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Features of patches as [N, P, C] instead of [N, gh, gw, C]."""
    return {n: x.flatten(1, 2) if x.ndim > 2 else x for n, x in features.items()}


def _by_episode(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Features that texts are compared with, [B, 3, ...] instead of [3 B, ...]."""
    whole = {name: features[name] for name in COMPARED.values()}
    return {name: x.unflatten(0, (-1, PER_EPISODE)) for name, x in whole.items()}


def minimise(
    compute: Callable[[int], Terms], towers: list[Tower], others: list, options: Mapping
) -> None:
    """Minimise a weighted sum of terms in place.

    compute: from the number of a step to its terms. others: tensors that are trained
    beside the towers. options: of the training, with `weights` of the terms by name.

    Matrices of the blocks are trained by Muon (Jordan et al., 2024), all else by AdamW.
    """
    named = [item for tower in towers for item in tower.weights.items()]
    trained = [*(weight for _, weight in named), *others]
    matrices = [w for name, w in named if "resblocks" in name and w.ndim == 2]
    for tensor in trained:
        tensor.requires_grad_()
    updates = _updates(trained, matrices, options)
    bar = tqdm(range(options["steps"]), "train", mininterval=1)
    for step in bar:
        terms = compute(step)
        for tensor in trained:
            tensor.grad = None
        sum(options["weights"][name] * term for name, term in terms.items()).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for update in updates:
            update.step()
        bar.set_postfix({name: f"{term:.3f}" for name, term in terms.items()})


def _updates(
    trained: Sequence[Tensor], matrices: Sequence[Tensor], options: Mapping
) -> list[Optimizer | LambdaLR]:
    """Optimizers and the schedules of their learning rates."""
    by_muon = {id(weight) for weight in matrices}
    others = [weight for weight in trained if id(weight) not in by_muon]
    groups = [
        {"params": [w for w in others if w.ndim > 1], "weight_decay": DECAY},
        {"params": [w for w in others if w.ndim < 2], "weight_decay": 0.0},
    ]
    own = {"weight_decay": DECAY, "adjust_lr_fn": "match_rms_adamw"}
    muon = Muon(matrices, options["muon_learning_rate"], **own)
    adamw = AdamW(groups, options["learning_rate"], betas=(0.9, 0.98))
    schedule = {"steps": options["steps"], "warmup": options["warmup_steps"]}
    schedules = [LambdaLR(x, partial(rate_share, **schedule)) for x in (muon, adamw)]
    return [muon, adamw, *schedules]


def rate_share(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate: linear warm-up, then a cosine to a hundredth."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / steps)
    return min(1, (step + 1) / warmup) * (0.01 + 0.99 * cosine)
