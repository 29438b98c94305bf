"""Phrases about parts, and their features after contexts that describe an image.

The contexts take the place of those that a method learns. Most of them are a linear map
of the features of another image of the part, as in Pic2Word (Saito et al., CVPR 2023).
The text tower learns to use contexts, so that learned ones can describe a part that is
not in its vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fsad.backbones.clip_text import encode_units
from fsad.backbones.compact import TABLE
from fsad.backbones.tower import Tower
from fsad.data.words import token_numbers
from fsad.demo.scenes import vocabulary
from fsad.methods.promptad.training import CONTEXT_STD

N_CTX = 4  # tokens of a context, as in the pipeline
UNKNOWN = "object"  # noun of a part that is not in the vocabulary
UNKNOWN_SHARE = 0.3  # of the phrases


class Phrases(NamedTuple):
    """Phrases as rows of a token embedding that holds the tokens of the corpus alone.

    All tokens that are not in the embedding share the row after the last.
    """

    states: list[str]  # abnormal states, with `{}` for the noun
    numbers: list[int]  # of the tokens in the embedding, ascending
    start: int  # row of [SOS]
    rows: dict[str, list[int]]  # of each phrase and its [EOS]


class TextBranch(NamedTuple):
    """A text tower, its phrases and its contexts."""

    tower: Tower
    phrases: Phrases
    context_head: Tensor  # map from features of an image to a context, [D, N_CTX * Dt]
    image_context_share: float  # of the contexts that this map makes
    noun_logit_scale: float  # of the contrastive term


def make_phrases(states: Sequence[str]) -> Phrases:
    """Phrases of all nouns with all defects of the scenes and with further states."""
    nouns, defects = vocabulary()
    states = [*states, *(f"{{}} with a {defect}" for defect in defects)]
    known = [state.format(noun) for noun in nouns for state in ("{}", *states)]
    unknown = [state.format(UNKNOWN) for state in ("{}", *states)]
    start, sequences = token_numbers(known + unknown)
    tokens = {n for sequence in sequences[: len(known)] for n in sequence}
    numbers = sorted({start, *tokens})
    row_of = {number: row for row, number in enumerate(numbers)}
    rows = [[row_of.get(n, len(numbers)) for n in sequence] for sequence in sequences]
    by_phrase = dict(zip(known + unknown, rows, strict=True))
    return Phrases(states, numbers, row_of[start], by_phrase)


def make_branch(tower: Tower, phrases: Phrases, options: Mapping) -> TextBranch:
    """Text branch with a random map to contexts; options: of its stage of training."""
    width, size = tower.weights["text_projection"].shape
    head = torch.randn(size, N_CTX * width)
    share, scale = options["image_context_share"], options["noun_logit_scale"]
    return TextBranch(tower, phrases, head, share, scale)


def encode_phrases(
    tower: Tower, phrases: Phrases, texts: Sequence[str], contexts: Tensor
) -> Tensor:
    """Normalised features [n, D] of n phrases after their contexts [n, N_CTX, Dt]."""
    table = tower.weights[TABLE]
    table = torch.cat([table, table.mean(0, keepdim=True)])
    prefix, pairs = table[phrases.start][None, None], zip(texts, contexts, strict=True)
    units = [torch.cat([c, table[phrases.rows[text]]])[None] for text, c in pairs]
    return F.normalize(encode_units(tower, prefix, units)[:, 0], dim=-1)


def draw_contexts(images: Tensor, branch: TextBranch) -> Tensor:
    """Noisy contexts [B, N_CTX, Dt], most of which describe images.

    images: features [B, D]. The other contexts are noise alone, as before a training.
    """
    size = branch.context_head.shape[1]
    noise = torch.randn(len(images), size)
    described = F.layer_norm(images @ branch.context_head, (size,))
    is_described = torch.rand(len(images), 1) < branch.image_context_share
    contexts = CONTEXT_STD * (noise + is_described * described)
    return contexts.unflatten(-1, (N_CTX, -1))


def draw_phrases(
    words: Sequence[tuple[str, str]], phrases: Phrases, rng: np.random.Generator
) -> list[str]:
    """Random phrases for the normal states of all parts, then for the abnormal ones.

    words: noun and defect of each part. The abnormal state is the defect or any other.
    """
    nouns = [UNKNOWN if rng.random() < UNKNOWN_SHARE else noun for noun, _ in words]
    own, known = [f"{{}} with a {defect}" for _, defect in words], phrases.states
    states = [s if rng.random() < 0.5 else str(rng.choice(known)) for s in own]
    pairs = zip(states, nouns, strict=True)
    return [*nouns, *(state.format(noun) for state, noun in pairs)]
