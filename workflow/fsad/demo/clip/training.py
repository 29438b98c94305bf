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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from fsad.artifacts.schema import check_options, read_schema, read_yaml
from fsad.backbones.clip import load_clip, split_towers
from fsad.backbones.clip_text import encode_units
from fsad.backbones.clip_vision import embed, embed_memory
from fsad.backbones.compact import TABLE, rounded
from fsad.backbones.embed import embed_images, normalise_pixels
from fsad.backbones.readout import VARIANTS
from fsad.backbones.spec import RANDOM, model_config
from fsad.backbones.tower import Tower
from fsad.data.words import token_numbers
from fsad.demo.clip.corpus import PER_EPISODE, Batch, Corpus, draw_batch, make_corpus
from fsad.demo.clip.initialization import initialise
from fsad.demo.scenes import SIDE, vocabulary
from fsad.errors import UserError
from fsad.methods.promptad.method import COMPARED, MEMORY
from fsad.methods.promptad.training import CONTEXT_STD

N_CTX = 4  # that of the pipeline
SOUND, MARRED = 0.02, 0.25  # share of a patch's pixels that a defect covers
COMPARED = 256  # patches of an episode whose likeness is taken over in a step
UNKNOWN = "object"  # stands for a part that no known word names
NAMELESS = 0.3  # share of the phrases about it
DECAY = 0.05  # of weights that are no vectors
TYPICAL = 200  # episodes whose first image tells what patches are like


class Heads(NamedTuple):
    """What is learned beside the towers and not kept: one linear map to each of the
    teacher's features, and log slope and thresholds (of a patch, of an image's farthest
    one) that make a distance to the memory a logit."""

    teacher: list[Tensor]
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


class Wording(NamedTuple):
    """What finds words for a part: the text tower, its phrases, a linear map from an
    image's features to contexts, learned beside it and not kept, [D, N_CTX * Dt], the
    share of contexts that it makes, and the factor of the cosines of images and texts
    that are told apart."""

    tower: Tower
    phrases: Phrases
    head: Tensor
    told: float
    contrast: float


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
    options = check_options(read_yaml(path), read_schema("demo_backbone"), str(path))
    words, episodes = options["words"], options["episodes"]
    fewest = min(episodes, words["episodes"])
    batches = (
        ("batch", options["batch"], episodes),
        ("words.batch", words["batch"], fewest),
    )
    for name, batch, most in batches:
        if batch > most:
            raise UserError(f"{path}: {name}: must not be more than episodes, {most}")
    return options


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
    clip = load_clip({"model": model, **start}, SIDE)
    towers = split_towers(clip, model)  # these share the model's memory
    numbers = torch.tensor(phrases.numbers)
    rows = towers[1].weights[TABLE][numbers].clone()
    towers[1].weights[TABLE] = rows
    train_clip(towers, corpus, phrases, options)
    _round(towers)
    train_words(towers, corpus, phrases, options)
    scale = torch.tensor(float(options["logit_scale"]))
    return clip.state_dict() | {TABLE: rows, "logit_scale": scale}, numbers


def _fitting_patch(model: str) -> int:
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
def _round(towers: tuple[Tower, Tower]) -> None:
    """Make of the weights in place what `save_compact` keeps of them."""
    for weight in (w for tower in towers for w in tower.weights.values()):
        weight.copy_(rounded(weight))


def train_clip(
    towers: tuple[Tower, Tower], corpus: Corpus, phrases: Phrases, options: Mapping
) -> None:
    """Train both towers in place; the token embedding has `phrases.numbers` rows.

    options: those of config/demo_backbone.yaml.
    """
    rng = _seeded(options["seed"])
    initialise(towers[0], corpus.images[:TYPICAL, 0])
    heads = _heads(towers[0], corpus.taught)
    wording = _wording(towers[1], phrases, options)

    def compute(step: int) -> dict[str, Tensor]:
        batch = draw_batch(corpus, options["batch"], rng)
        whole = step % options["words"]["every"] == 0
        return _terms(towers[0], heads, wording, batch, rng, whole)

    learned = [weight for tower in towers for weight in tower.weights.values()]
    learned += [*heads.teacher, wording.head, *heads[1:]]
    hidden = [weight for tower in towers for weight in _hidden(tower)]
    _descend(learned, hidden, options["steps"], options, compute)


def train_words(
    towers: tuple[Tower, Tower], corpus: Corpus, phrases: Phrases, options: Mapping
) -> None:
    """Train the text tower in place by what a finished vision tower sees.

    options: those of config/demo_backbone.yaml.
    """
    rng, own = _seeded(options["seed"]), options["words"]
    features = _seen(towers[0], corpus.images[: own["episodes"]])
    marred = torch.from_numpy(corpus.marred[: own["episodes"]]).flatten(1)
    wording = _wording(towers[1], phrases, own)

    def compute(step: int) -> dict[str, Tensor]:
        chosen = rng.choice(len(marred), own["batch"], replace=False)
        shown = {name: part[chosen] for name, part in features.items()}
        words = [corpus.words[i] for i in chosen]
        return _word_terms(shown, words, marred[chosen], wording, rng)

    learned = [*towers[1].weights.values(), wording.head]
    options = options | {"weights": options["weights"] | {"noun": own["noun"]}}
    _descend(learned, _hidden(towers[1]), own["steps"], options, compute)


def _seeded(seed: int) -> np.random.Generator:
    """A generator of this seed, which torch's own gets too."""
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def _heads(tower: Tower, taught: Sequence[np.ndarray]) -> Heads:
    width = tower.weights["proj"].shape[0]
    maps = [torch.randn(width, t.shape[-1]) * width**-0.5 for t in taught]
    return Heads(maps, *(torch.tensor(x) for x in (3.5, 0.1, 0.2)))


def _wording(tower: Tower, phrases: Phrases, options: Mapping) -> Wording:
    width, size = tower.weights["text_projection"].shape
    head = torch.randn(size, N_CTX * width)
    return Wording(tower, phrases, head, options["told"], options["contrast"])


def _seen(tower: Tower, images: np.ndarray) -> dict[str, Tensor]:
    """What words are learned from, of images [N, 3, S, S, 3]; see `_by_episode`."""
    images, variant = images.reshape(-1, *images.shape[2:]), VARIANTS["original"]
    features = embed_images(tower, images, variant, batch=PER_EPISODE)
    return _by_episode({name: torch.from_numpy(f) for name, f in features.items()})


def _by_episode(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`global` [B, 3, D] and `patch` [B, 3, G*G, D] of features of 3 B images."""
    names = COMPARED.values()
    return {name: features[name].unflatten(0, (-1, PER_EPISODE)) for name in names}


def _hidden(tower: Tower) -> list[Tensor]:
    """The matrices of a tower's blocks."""
    named = tower.weights.items()
    return [w for name, w in named if "resblocks" in name and w.ndim == 2]


def _descend(
    learned: list[Tensor],
    hidden: list[Tensor],
    steps: int,
    options: Mapping,
    compute: Callable[[int], dict[str, Tensor]],
) -> None:
    """Minimise the weighted sum of the terms that `compute` gives for a step.

    learned: all that is learned. hidden: those of them that Muon learns.
    """
    for weight in learned:
        weight.requires_grad_()
    optimizers = _optimizers(learned, hidden, options)
    rate = partial(_rate, steps=steps, warmup=options["warmup"])
    schedules = [LambdaLR(optimizer, rate) for optimizer in optimizers]
    bar = tqdm(range(steps), "train", mininterval=1)
    for step in bar:
        terms = compute(step)
        for weight in learned:
            weight.grad = None
        sum(options["weights"][name] * term for name, term in terms.items()).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        for own in (*optimizers, *schedules):
            own.step()
        bar.set_postfix({name: f"{term:.3f}" for name, term in terms.items()})


def _optimizers(
    learned: list[Tensor], hidden: list[Tensor], options: Mapping
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon (Jordan et al., 2024) for the hidden matrices, AdamW for all else."""
    rate, apart = options["learning_rate"], {id(weight) for weight in hidden}
    others = [weight for weight in learned if id(weight) not in apart]
    groups = [
        {"params": [w for w in others if w.ndim > 1], "weight_decay": DECAY},
        {"params": [w for w in others if w.ndim < 2], "weight_decay": 0.0},
    ]
    muon = torch.optim.Muon(
        hidden,
        rate * options["muon"],
        weight_decay=DECAY,
        adjust_lr_fn="match_rms_adamw",
    )
    return muon, torch.optim.AdamW(groups, rate, betas=(0.9, 0.98))


def _rate(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate: linear warm-up, then a cosine to a hundredth."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / steps)
    return min(1, (step + 1) / warmup) * (0.01 + 0.99 * cosine)


def _terms(tower, heads, wording, batch, rng, whole: bool) -> dict[str, Tensor]:
    """The terms of the loss; those about words only if the `whole` tower is passed."""
    pixels = normalise_pixels(batch.images, tower)
    with torch.autocast("cpu", torch.bfloat16):
        if whole:
            features = embed(tower, pixels, VARIANTS["original"])
        else:
            features = embed_memory(tower, pixels)
    mids = [features[name] for name in MEMORY]
    terms = {
        "teacher": _teacher_term(mids, batch.taught, heads),
        "likeness": _likeness_term(mids, batch.taught, rng),
        **_distance_terms(mids, batch, heads),
    }
    if whole:
        shown = _by_episode(features)
        terms |= _word_terms(shown, batch.words, batch.marred, wording, rng)
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


def _word_terms(shown, words, marred: Tensor, wording: Wording, rng):
    """The terms about words, of what `_by_episode` gives."""
    tower, phrases = wording.tower, wording.phrases
    normal, abnormal = _texts(words, phrases, rng)
    whole = shown["global"]
    contexts = _contexts(whole[:, 1], wording).repeat(2, 1, 1)
    text = encode_phrases(tower, phrases, normal + abnormal, contexts)
    normal, abnormal = text.unflatten(0, (2, -1)).unbind()  # (B, D)
    change = math.exp(tower.config["logit_scale"]) * (abnormal - normal)
    images = torch.einsum("btd,bd->bt", whole, change)
    patches = torch.einsum("btpd,bd->btp", shown["patch"][:, 1:], change)
    return {
        "state": _told(images[:, :2], images[:, 2]),
        "place": _balanced(torch.cat(patches.unbind(1)), _both(marred)),
        "noun": _noun_term(wording.contrast * whole[:, 0] @ normal.T),
    }


def _contexts(shown: Tensor, wording: Wording) -> Tensor:
    """Contexts [B, N_CTX, Dt] that tell what images, their features [B, D], show; some
    of them nothing, as contexts not yet learned do."""
    size = wording.head.shape[1]
    noise = torch.randn(len(shown), size)
    told = F.layer_norm(shown @ wording.head, (size,))
    telling = torch.rand(len(shown), 1) < wording.told
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
