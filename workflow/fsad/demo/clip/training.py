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
from fsad.backbones.embed import embed_images, normalise_pixels
from fsad.backbones.readout import VARIANTS
from fsad.backbones.spec import RANDOM, model_config
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
    stage, episodes = options["text_stage"], options["episodes"]
    _check_batch(f"{path}: batch", options["batch"], episodes)
    fewest = min(episodes, stage["episodes"])
    _check_batch(f"{path}: text_stage.batch", stage["batch"], fewest)
    return options


def _check_batch(name: str, batch: int, episodes: int) -> None:
    if batch > episodes:
        raise UserError(f"{name}: must not be more than episodes, {episodes}")


def pretrain(
    options: Mapping, states: Sequence[str], workers: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Train a CLIP from scratch; returns the arguments of `compact.save_compact`.

    options: those of config/demo_backbone.yaml. states: general abnormal states.
    """
    model, phrases = options["model"], make_phrases(states)
    corpus = make_corpus(options["episodes"], patch_size(model), workers)
    start = {"pretrained": RANDOM, "random_seed": options["seed"]}
    clip = load_clip({"model": model, **start}, SIDE)
    vision, text = split_towers(clip, model)  # these share the model's memory
    numbers = torch.tensor(phrases.numbers)
    rows = text.weights[TABLE][numbers].clone()
    text.weights[TABLE] = rows
    train_towers(vision, text, corpus, phrases, options)
    _round_weights(vision, text)
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


@torch.no_grad()
def _round_weights(*towers: Tower) -> None:
    """Round weights in place to the precision in which they are stored."""
    for weight in (w for tower in towers for w in tower.weights.values()):
        weight.copy_(rounded(weight))


def train_towers(
    vision: Tower, text: Tower, corpus: Corpus, phrases: Phrases, options: Mapping
) -> None:
    """Train both towers in place; the token embedding has the rows of the phrases."""
    rng = _seeded(options["seed"])
    initialise(vision, corpus.images[:TYPICAL, 0])
    heads = make_heads(vision.weights["proj"].shape[0], corpus.teacher)
    branch = make_branch(text, phrases, options)

    def compute(step: int) -> Terms:
        batch = draw_batch(corpus, options["batch"], rng)
        with_text = step % options["text_every"] == 0
        features = _embed(vision, batch.images, with_text)
        memory = [features[name] for name in MEMORY]
        terms = memory_terms(memory, batch, heads, rng)
        if with_text:
            episodes, share = _by_episode(features), batch.defect_share
            terms |= text_terms(episodes, batch.words, share, branch, rng)
        return terms

    trained = [*vision.weights.values(), *text.weights.values()]
    trained += [*heads.teacher, branch.context_head, *heads[1:]]
    matrices = [*_block_matrices(vision), *_block_matrices(text)]
    updates = _updates(trained, matrices, options["steps"], options)
    minimise(compute, trained, updates, options["steps"], options["weights"])


def train_text(
    vision: Tower, text: Tower, corpus: Corpus, phrases: Phrases, options: Mapping
) -> None:
    """Train the text tower in place, on features of the finished vision tower."""
    rng, stage = _seeded(options["seed"]), options["text_stage"]
    features = _episode_features(vision, corpus.images[: stage["episodes"]])
    shares = torch.from_numpy(corpus.defect_share[: stage["episodes"]]).flatten(1)
    branch = make_branch(text, phrases, stage)

    def compute(step: int) -> Terms:
        chosen = rng.choice(len(shares), stage["batch"], replace=False)
        batch = {name: feature[chosen] for name, feature in features.items()}
        words = [corpus.words[i] for i in chosen]
        return text_terms(batch, words, shares[chosen], branch, rng)

    trained = [*text.weights.values(), branch.context_head]
    updates = _updates(trained, _block_matrices(text), stage["steps"], options)
    weights = options["weights"] | {"noun": stage["noun_weight"]}
    minimise(compute, trained, updates, stage["steps"], weights)


def _seeded(seed: int) -> np.random.Generator:
    """Generator with a seed, which torch's own generator is given too."""
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def _embed(tower: Tower, images: np.ndarray, whole: bool) -> dict[str, Tensor]:
    """Features of uint8 images; of the memory alone unless the `whole` tower runs."""
    pixels = normalise_pixels(images, tower)
    with torch.autocast("cpu", torch.bfloat16):
        return embed(tower, pixels, READOUT) if whole else embed_memory(tower, pixels)


def _episode_features(tower: Tower, images: np.ndarray) -> dict[str, Tensor]:
    """Features by episode of images [N, 3, S, S, 3]."""
    flat = images.reshape(-1, *images.shape[2:])
    features = embed_images(tower, flat, READOUT, batch=PER_EPISODE)
    return _by_episode({name: torch.from_numpy(f) for name, f in features.items()})


def _by_episode(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Features that texts are compared with, [B, 3, ...] instead of [3 B, ...]."""
    names = COMPARED.values()
    return {name: features[name].unflatten(0, (-1, PER_EPISODE)) for name in names}


def _block_matrices(tower: Tower) -> list[Tensor]:
    named = tower.weights.items()
    return [w for name, w in named if "resblocks" in name and w.ndim == 2]


def minimise(
    compute: Callable[[int], Terms],
    trained: Sequence[Tensor],
    updates: Sequence[Optimizer | LambdaLR],
    steps: int,
    weights: Mapping[str, float],
) -> None:
    """Minimise a weighted sum of terms in place.

    compute: from the number of a step to its terms. updates: optimizers of the tensors
    in `trained`, and their schedules. weights: of the terms, by name.
    """
    for tensor in trained:
        tensor.requires_grad_()
    bar = tqdm(range(steps), "train", mininterval=1)
    for step in bar:
        terms = compute(step)
        for tensor in trained:
            tensor.grad = None
        sum(weights[name] * term for name, term in terms.items()).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for update in updates:
            update.step()
        bar.set_postfix({name: f"{term:.3f}" for name, term in terms.items()})


def _updates(
    trained: Sequence[Tensor],
    matrices: Sequence[Tensor],
    steps: int,
    options: Mapping,
) -> list[Optimizer | LambdaLR]:
    """Muon (Jordan et al., 2024) for `matrices`, AdamW for the other trained tensors,
    and the schedules of their learning rates."""
    by_muon = {id(weight) for weight in matrices}
    others = [weight for weight in trained if id(weight) not in by_muon]
    groups = [
        {"params": [w for w in others if w.ndim > 1], "weight_decay": DECAY},
        {"params": [w for w in others if w.ndim < 2], "weight_decay": 0.0},
    ]
    rate, own = options["muon_learning_rate"], {"adjust_lr_fn": "match_rms_adamw"}
    muon = Muon(matrices, rate, weight_decay=DECAY, **own)
    adamw = AdamW(groups, options["learning_rate"], betas=(0.9, 0.98))
    share = partial(rate_share, steps=steps, warmup=options["warmup_steps"])
    return [muon, adamw, *(LambdaLR(optimizer, share) for optimizer in (muon, adamw))]


def rate_share(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate: linear warm-up, then a cosine to a hundredth."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / steps)
    return min(1, (step + 1) / warmup) * (0.01 + 0.99 * cosine)
