"""The demo's small CLIP, trained from nothing on generated parts.

Three things are learned at once. The memory features of the vision tower take over
from a network trained on ImageNet (`promptad.teacher`) how alike patches are, and what
they hold through a linear head; and they tell marred patches from those of two sound
parts. Images and patches meet the words for sound and for marred parts, written as the
pipeline writes its prompts. And images meet the words for what they show, as in CLIP
(Radford et al., ICML 2021).

What stands before the words, where the pipeline learns contexts, tells most of the time
what another image of the part shows, through a linear map as in Pic2Word (Saito et al.,
CVPR 2023). So the text tower comes to heed contexts, and learned ones can describe a
part that no known word names.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from promptad.backbone import load_clip, split_towers
from promptad.backbone_config import RANDOM, model_config
from promptad.compact import TABLE
from promptad.config import SCHEMAS, check_options, read_yaml
from promptad.corpus import PER_EPISODE, Batch, Corpus, draw_batch, make_corpus
from promptad.errors import UserError
from promptad.initial import initialise
from promptad.parts import SIDE, vocabulary
from promptad.prompts import token_numbers
from promptad.scores import MEMORY
from promptad.text import encode_units
from promptad.training import CONTEXT_STD
from promptad.transformer import Tower
from promptad.variants import VARIANTS
from promptad.vision import embed, embed_memory, normalise_pixels

SCHEMA = SCHEMAS / "demo_backbone.schema.yaml"
N_CTX = 4  # that of the pipeline
SOUND, MARRED = 0.02, 0.25  # share of a patch's pixels that a defect covers
COMPARED = 256  # patches of an episode whose likeness is taken over in a step
UNKNOWN = "object"  # stands for a part that no known word names
NAMELESS = 0.3  # share of the phrases about it
TOLD = 0.8  # share of the contexts that tell what an image shows
CONTRAST = 40.0  # factor of the cosines of images and texts that are told apart
TYPICAL = 200  # episodes whose first image tells what patches are like


class Heads(NamedTuple):
    """What is learned beside the towers and not kept: one linear map to each of the
    teacher's features, one from an image's features to contexts, and log slope and
    thresholds (of a patch, of an image's farthest one) that make a distance to the
    memory a logit."""

    teacher: list[Tensor]
    contexts: Tensor
    slope: Tensor
    patch: Tensor
    peak: Tensor


class Phrases:
    """Phrases as rows of a token embedding that holds only the words of the corpus.

    `numbers` are the tokens with a row of their own; all others share the row past
    the end.
    """

    def __init__(self, states: Sequence[str]):
        nouns, defects = vocabulary()
        self.states = [*states, *(f"{{}} with a {defect}" for defect in defects)]
        trained = [
            state.format(noun) for noun in nouns for state in ["{}", *self.states]
        ]
        others = [state.format(UNKNOWN) for state in ["{}", *self.states]]
        start, sequences = token_numbers(trained + others)
        known = {n for sequence in sequences[: len(trained)] for n in sequence}
        self.numbers = sorted({start, *known})
        places = {number: place for place, number in enumerate(self.numbers)}
        self.start, unknown = places[start], len(self.numbers)
        rows = [[places.get(n, unknown) for n in sequence] for sequence in sequences]
        self.rows = dict(zip(trained + others, rows, strict=True))


def encode_phrases(
    tower: Tower, phrases: Phrases, texts: Sequence[str], contexts: Tensor
) -> Tensor:
    """Normalised features [n, D] of n texts after their contexts [n, N_CTX, Dt]."""
    table = tower.weights[TABLE]
    table = torch.cat([table, table.mean(0, keepdim=True)])
    prefix = table[phrases.start][None, None]
    rows = (table[phrases.rows[text]] for text in texts)
    pairs = zip(contexts, rows, strict=True)
    units = [torch.cat(pair)[None] for pair in pairs]
    return F.normalize(encode_units(tower, prefix, units)[:, 0], dim=-1)


def read_options(path: str | Path) -> dict:
    """The options of a training; UserError names what is wrong with them."""
    return check_options(read_yaml(path), read_yaml(SCHEMA), str(path))


def pretrain(
    options: Mapping, states: Sequence[str], workers: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Train a CLIP from nothing; returns what `compact.save_compact` takes.

    options: those of config/demo_backbone.yaml. states: general abnormal states.
    """
    model, phrases = options["model"], Phrases(states)
    patch = _fitting_patch(model)
    corpus = make_corpus(options["episodes"], patch, workers)
    start = {"pretrained": RANDOM, "random_seed": options["seed"]}
    clip = load_clip({"model": model, **start})
    towers = split_towers(clip, model)  # these share the model's memory
    numbers = torch.tensor(phrases.numbers)
    rows = towers[1].weights[TABLE][numbers].clone()
    towers[1].weights[TABLE] = rows
    train_clip(towers, corpus, phrases, options)
    return clip.state_dict() | {TABLE: rows}, numbers


def _fitting_patch(model: str) -> int:
    """Patch size of a model; UserError if the model does not fit the training."""
    vision = model_config(model)["vision_cfg"]
    patch = vision["patch_size"]
    fits = (vision["image_size"], vision["width"]) == (SIDE, 3 * patch**2)
    if not fits or vision["layers"] < 2:
        raise UserError(
            f"{model}: must take images of {SIDE} pixels, with a width of 3 times "
            "patch_size squared, in two layers or more"
        )
    return patch


def train_clip(
    towers: tuple[Tower, Tower], corpus: Corpus, phrases: Phrases, options: Mapping
) -> None:
    """Train both towers in place; the token embedding has `phrases.numbers` rows.

    options: `seed`, `steps`, `words_every`, `batch` (episodes), `learning_rate`,
    `warmup` (steps) and the `weights` of the loss terms.
    """
    rng = np.random.default_rng(options["seed"])
    torch.manual_seed(options["seed"])
    initialise(towers[0], corpus.images[:TYPICAL, 0])
    heads = _heads(towers, corpus.taught)
    matrices, vectors = _parameters(towers, heads)
    optimizer = _optimizer(matrices, vectors)
    steps = tqdm(range(options["steps"]), "train", mininterval=1)
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, options)
        batch = draw_batch(corpus, options["batch"], rng)
        whole = step % options["words_every"] == 0
        terms = _terms(towers, heads, batch, phrases, rng, whole)
        optimizer.zero_grad()
        sum(options["weights"][name] * term for name, term in terms.items()).backward()
        torch.nn.utils.clip_grad_norm_(matrices + vectors, 1.0)
        optimizer.step()
        steps.set_postfix({name: f"{term:.3f}" for name, term in terms.items()})


def _heads(towers, taught: Sequence[np.ndarray]) -> Heads:
    width, size = towers[0].weights["proj"].shape
    maps = [torch.randn(width, t.shape[-1]) * width**-0.5 for t in taught]
    contexts = torch.randn(size, N_CTX * len(towers[1].weights["text_projection"]))
    heads = Heads(maps, contexts, *(torch.tensor(x) for x in (3.5, 0.1, 0.2)))
    for head in (*maps, *heads[1:]):
        head.requires_grad_()
    return heads


def _parameters(towers, heads: Heads) -> tuple[list[Tensor], list[Tensor]]:
    """Weights of two axes and more, and the others."""
    weights = [w.requires_grad_() for tower in towers for w in tower.weights.values()]
    weights += [*heads.teacher, *heads[1:]]
    return [w for w in weights if w.ndim > 1], [w for w in weights if w.ndim < 2]


def _optimizer(matrices: list[Tensor], vectors: list[Tensor]) -> torch.optim.Optimizer:
    groups = [
        {"params": matrices, "weight_decay": 0.05},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _learning_rate(step: int, options: Mapping) -> float:
    """Linear warm-up, then a cosine to a hundredth."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / options["steps"])
    warm = min(1, (step + 1) / options["warmup"])
    return options["learning_rate"] * warm * (0.01 + 0.99 * cosine)


def _terms(towers, heads, batch, phrases, rng, whole: bool) -> dict[str, Tensor]:
    """The terms of the loss; those about words only if the `whole` tower is passed."""
    pixels = normalise_pixels(batch.images, towers[0])
    with torch.autocast("cpu", torch.bfloat16):
        if whole:
            features = embed(towers[0], pixels, VARIANTS["original"])
        else:
            features = embed_memory(towers[0], pixels)
    mids = [features[name] for name in MEMORY]
    terms = {
        "teacher": _teacher_term(mids, batch.taught, heads),
        "likeness": _likeness_term(mids, batch.taught, rng),
        **_distance_terms(mids, batch, heads),
    }
    if whole:
        terms |= _word_terms(features, batch, towers[1], heads, phrases, rng)
    return terms


def _teacher_term(mids: list[Tensor], taught: list[Tensor], heads: Heads) -> Tensor:
    pairs = zip(mids, heads.teacher, taught, strict=True)
    cosines = [F.cosine_similarity(x @ head, t, dim=-1).mean() for x, head, t in pairs]
    return 1 - sum(cosines) / len(cosines)


def _likeness_term(mids: list[Tensor], taught: list[Tensor], rng) -> Tensor:
    """Squared difference of the cosines between patches, within episodes and across."""
    episodes, patches = len(mids[0]) // PER_EPISODE, PER_EPISODE * mids[0].shape[1]
    compared = min(COMPARED, patches)
    chosen = torch.from_numpy(rng.choice(patches, compared, replace=False))
    terms = []
    for pair in zip(mids, taught, strict=True):
        x, t = (y.unflatten(0, (episodes, -1)).flatten(1, 2)[:, chosen] for y in pair)
        terms.append(F.mse_loss(x @ x.mT, t @ t.mT))
        x, t = (y[:, : compared // episodes].flatten(0, 1) for y in (x, t))
        terms.append(F.mse_loss(x @ x.T, t @ t.T))
    return sum(terms) / len(terms)


def _distance_terms(mids: list[Tensor], batch: Batch, heads: Heads) -> dict:
    """What the distances to the memory should be: the teacher's, and large where
    the third image is marred but small in the second, a memory of the first given."""
    ours = torch.stack([_distances(x) for x in mids])  # (2, 2, B, G*G)
    theirs = torch.stack([_distances(t) for t in batch.taught])
    sound, marred = ours.mean(0)
    distances, share = torch.cat([sound, marred]), _both(batch.marred)
    slope = heads.slope.exp()
    peaks = [slope * (x.amax(1) - heads.peak) for x in (sound, marred)]
    patch = _balanced(slope * (distances - heads.patch), share)
    return {"distance": F.l1_loss(ours, theirs), "memory": patch + _told(*peaks)}


def _distances(features: Tensor) -> Tensor:
    """(1 - cosine) / 2 to the nearest patch: of the second image to the first, and of
    the third to the others, [2, B, G*G]."""
    first, second, third = features.unflatten(0, (-1, PER_EPISODE)).unbind(1)
    memories = first, torch.cat([first, second], 1)
    pairs = zip((second, third), memories, strict=True)
    return torch.stack([(1 - (x @ memory.mT).amax(-1)) / 2 for x, memory in pairs])


def _both(marred: Tensor) -> Tensor:
    """Marred shares of the second images, which are sound, and of the third."""
    return torch.cat([torch.zeros_like(marred), marred])


def _balanced(logits: Tensor, marred: Tensor) -> Tensor:
    """Cross-entropy of marred against sound patches, both kinds of equal weight."""
    loss = F.binary_cross_entropy_with_logits(
        logits, (marred >= MARRED).float(), reduction="none"
    )
    kinds = [loss[marred >= MARRED], loss[marred <= SOUND]]
    return sum(kind.sum() / max(kind.numel(), 1) for kind in kinds) / 2


def _word_terms(features, batch: Batch, tower: Tower, heads: Heads, phrases, rng):
    normal, abnormal = _texts(batch.words, phrases, rng)
    whole = features["global"].unflatten(0, (-1, PER_EPISODE))
    contexts = _contexts(whole[:, 1], heads.contexts).repeat(2, 1, 1)
    text = encode_phrases(tower, phrases, normal + abnormal, contexts)
    normal, abnormal = text.unflatten(0, (2, -1)).unbind()  # (B, D)
    change = math.exp(tower.config["logit_scale"]) * (abnormal - normal)
    images = torch.einsum("btd,bd->bt", whole, change)
    patches = features["patch"].unflatten(0, (-1, PER_EPISODE))[:, 1:]
    patches = torch.einsum("btpd,bd->btp", patches, change)
    sound, marred = patches.unbind(1)
    return {
        "state": _told(images[:, :2], images[:, 2]),
        "place": _balanced(torch.cat([sound, marred]), _both(batch.marred)),
        "noun": _noun_term(CONTRAST * whole[:, 0] @ normal.T),
    }


def _contexts(shown: Tensor, head: Tensor) -> Tensor:
    """Contexts [B, N_CTX, Dt] that tell what images, their features [B, D], show; some
    of them nothing, as contexts not yet learned do."""
    noise = torch.randn(len(shown), head.shape[1])
    told = F.layer_norm(shown @ head, head.shape[1:])
    telling = torch.rand(len(shown), 1) < TOLD
    return CONTEXT_STD * (noise + telling * told).unflatten(-1, (N_CTX, -1))


def _texts(words, phrases: Phrases, rng) -> tuple[list[str], list[str]]:
    """A phrase for each episode's part, and one for its being marred."""
    nouns = [UNKNOWN if rng.random() < NAMELESS else noun for noun, _ in words]
    own = [f"{{}} with a {defect}" for _, defect in words]
    states = [
        state if rng.random() < 0.5 else str(rng.choice(phrases.states))
        for state in own
    ]
    pairs = zip(states, nouns, strict=True)
    return nouns, [state.format(noun) for state, noun in pairs]


def _told(sound: Tensor, marred: Tensor) -> Tensor:
    """Cross-entropy of the logits of sound and of marred images, of equal weight."""
    return (F.softplus(sound).mean() + F.softplus(-marred).mean()) / 2


def _noun_term(logits: Tensor) -> Tensor:
    """Images to their texts and back."""
    right = torch.arange(len(logits))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
