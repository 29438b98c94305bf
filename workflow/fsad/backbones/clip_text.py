"""CLIP's text tower on embedded sequences with learned contexts."""

from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fsad.backbones import transformer
from fsad.backbones.tower import Tower
from fsad.errors import UserError

ROW = 256  # approximate number of tokens that are encoded together


class Contexts(NamedTuple):
    """Learned tokens: normal [n_pro, n_ctx, Dt], abnormal [n_pro_ab, n_ctx_ab, Dt]."""

    normal: Tensor
    abnormal: Tensor


class TextFeatures(NamedTuple):
    """Text features of the three groups of prompts, each [n, D], not normalised."""

    normal: Tensor
    manual: Tensor
    learned: Tensor


class Words(NamedTuple):
    """Embedded tokens around the contexts; `name` and `states` end with [EOS].

    start: [Dt], the [SOS] token. name: [Lc, Dt], the words for the class. states: one
    [Ls, Dt] for each manual state.
    """

    start: Tensor
    name: Tensor
    states: list[Tensor]


def embed_words(tower: Tower, tokens: dict[str, np.ndarray]) -> Words:
    """Look up the token embeddings for the arrays of `words.tokenize`."""
    table = tower.weights["token_embedding.weight"]
    start = table[int(tokens["start"])]
    name = table[torch.from_numpy(tokens["name"]).to(table.device)]
    padded = table[torch.from_numpy(tokens["states"]).to(table.device)]
    lengths = tokens["state_lengths"]
    return Words(start, name, [row[:n] for row, n in zip(padded, lengths, strict=True)])


def encode_prompts(tower: Tower, words: Words, contexts: Contexts) -> TextFeatures:
    """Text features of the normal, manual abnormal and learned abnormal prompts.

    With contexts c and a: `[SOS] c_i NAME . [EOS]`; for each state and each i
    `[SOS] c_i STATE . [EOS]`; for m = 0 ... n_pro * n_pro_ab - 1
    `[SOS] c_(m mod n_pro) a_(m mod n_pro_ab) NAME . [EOS]`.
    """
    n_pro = len(contexts.normal)
    start, name, *manual = (
        tokens.expand(n_pro, -1, -1)
        for tokens in (words.start[None], words.name, *words.states)
    )
    prefixes = torch.cat([start, contexts.normal], 1)  # (n_pro, 1 + n_ctx, Dt)
    abnormal = contexts.abnormal.repeat(n_pro, 1, 1)  # for m = 0, 1, ...
    learned = [torch.cat([tokens, name], 1) for tokens in abnormal.split(n_pro)]
    features = encode_units(tower, prefixes, [name, *manual, *learned])
    parts = features.split([1, len(manual), len(learned)])
    return TextFeatures(*(part.flatten(0, 1) for part in parts))


def encode_units(tower: Tower, prefixes: Tensor, units: list[Tensor]) -> Tensor:
    """Text features [n, n_pro, D] of sequences, read at their last token.

    prefixes: [n_pro, P, Dt] embedded tokens. units: n tensors [n_pro, L, Dt], of
    different lengths L, each of which continues the prefixes to n_pro sequences.

    The result is that of every sequence padded to the context length. Since the tower
    is causal, padding is omitted, and many units share one row of tokens after their
    prefix, with an attention mask that hides each unit from the others.
    """
    longest = prefixes.shape[1] + max(unit.shape[1] for unit in units)
    if longest > tower.config["context_length"]:
        raise UserError(
            f"prompts: a sequence has {longest} tokens, the text tower takes "
            f"{tower.config['context_length']}; shorten the states or lower n_ctx"
        )
    rows = [_encode_row(tower, prefixes, row) for row in _rows(units)]
    return torch.cat(rows, 1).transpose(0, 1)


def _rows(units: list[Tensor]) -> list[list[Tensor]]:
    """Group units into rows of about ROW tokens, as attention is quadratic in them."""
    ends = accumulate(unit.shape[1] for unit in units)
    rows = groupby(zip(ends, units, strict=True), key=lambda pair: pair[0] // ROW)
    return [[unit for _, unit in row] for _, row in rows]


def _encode_row(tower: Tower, prefixes: Tensor, units: list[Tensor]) -> Tensor:
    """Features [n_pro, n, D] of the n units of one row, see `encode_units`."""
    start, *lengths = (part.shape[1] for part in (prefixes, *units))
    table = tower.weights["positional_embedding"]
    places = [table[:start], *(table[start : start + length] for length in lengths)]
    x = torch.cat([prefixes, *units], 1) + torch.cat(places)
    lengths = [start, *lengths]
    attn_mask = _attention_mask(lengths, x.device)
    final = tower.config["layers"] - 1
    for index in range(final):
        x = _block(tower, index, x, attn_mask, lengths=None)
    x = _block(tower, final, x, attn_mask, lengths)
    x = transformer.layer_norm(x, tower.weights, "ln_final", tower.config["eps"])
    return x @ tower.weights["text_projection"]


def _attention_mask(lengths: list[int], device: torch.device) -> Tensor:
    """Additive attention mask [T, T]: 0 where a token sees another, else -inf."""
    squares = [torch.ones(length, length, device=device).tril() for length in lengths]
    seen = torch.block_diag(*squares)
    seen[lengths[0] :, : lengths[0]] = 1
    return seen.log()


def _block(
    tower: Tower, index: int, x: Tensor, attn_mask: Tensor, lengths: list[int] | None
) -> Tensor:
    """One block on tokens [n_pro, T, Dt].

    lengths: of prefix and units; with these only the last token of each unit is
    returned, [n_pro, n, Dt].
    """
    weights, config = transformer.block_weights(tower, index), tower.config
    q, k, v = transformer.attention_inputs(x, weights, config)
    if lengths is not None:
        parts = x, q, attn_mask
        x, q, attn_mask = (_last_tokens(part, lengths) for part in parts)
    x = x + transformer.attend(q, k, v, weights, attn_mask)
    return x + transformer.feed_forward(x, weights, config)


def _last_tokens(x: Tensor, lengths: list[int]) -> Tensor:
    """Last token of each unit (not of the prefix) in [..., T, D], [..., n, D]."""
    units = x.split(lengths, -2)[1:]
    return torch.stack([unit[..., -1, :] for unit in units], -2)


def anomaly_prompts(features: TextFeatures) -> Tensor:
    """Normal and abnormal directions that images are compared with, [2, D]."""
    abnormal = torch.cat([features.manual, features.learned])
    return F.normalize(torch.stack([features.normal.mean(0), abnormal.mean(0)]), dim=-1)
