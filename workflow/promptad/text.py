"""CLIP's text tower on embedded sequences, with learned contexts among the words."""

from collections.abc import Sequence
from itertools import groupby
from math import prod
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from promptad.errors import UserError
from promptad.transformer import (
    Tower,
    block_weights,
    feed_forward,
    layer_norm,
    project_out,
    project_qkv,
)


class Contexts(NamedTuple):
    """Learned tokens: normal [n_pro, n_ctx, Dt], abnormal [n_pro_ab, n_ctx_ab, Dt]."""

    normal: Tensor
    abnormal: Tensor


class TextFeatures(NamedTuple):
    """Text features, not normalised, each [n, D]."""

    normal: Tensor
    manual: Tensor
    learned: Tensor


class Words(NamedTuple):
    """Embedded words that follow the contexts, each sequence ended by [EOS].

    start: [Dt], the [SOS] token. name: [Lc, Dt], the class's words. states: one
    [Ls, Dt] for each manual state.
    """

    start: Tensor
    name: Tensor
    states: list[Tensor]


def embed_words(tower: Tower, tokens: dict[str, np.ndarray]) -> Words:
    """Look up the token embeddings of `prompts.tokenize`'s arrays."""
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
    return encode_together(tower, words, [contexts])[0]


def encode_together(
    tower: Tower, words: Words, several: Sequence[Contexts]
) -> list[TextFeatures]:
    """`encode_prompts` of several contexts in one pass; only n_pro may differ."""
    prefixes = torch.cat([_prefixes(words, contexts) for contexts in several])
    abnormal = torch.cat([_paired(contexts) for contexts in several], 1)
    name, *manual = (
        unit.expand(len(prefixes), -1, -1) for unit in (words.name, *words.states)
    )
    learned = [torch.cat([tokens, name], 1) for tokens in abnormal]
    features = encode_units(tower, prefixes, [name, *manual, *learned])
    counts = [1, len(manual), len(learned)]
    parts = features.split([len(contexts.normal) for contexts in several], 1)
    return [
        TextFeatures(*(kind.flatten(0, 1) for kind in part.split(counts)))
        for part in parts
    ]


def _prefixes(words: Words, contexts: Contexts) -> Tensor:
    starts = words.start.expand(len(contexts.normal), 1, -1)
    return torch.cat([starts, contexts.normal], 1)  # (n_pro, 1 + n_ctx, Dt)


def _paired(contexts: Contexts) -> Tensor:
    """The abnormal context of m = 0 ... in rows of n_pro."""
    n_pro = len(contexts.normal)
    repeated = contexts.abnormal.repeat(n_pro, 1, 1)
    return repeated.unflatten(0, (-1, n_pro))  # (n_pro_ab, n_pro, n_ctx_ab, Dt)


def encode_units(tower: Tower, prefixes: Tensor, units: list[Tensor]) -> Tensor:
    """Text features [n, n_pro, D] of sequences, read at their last token.

    prefixes: [n_pro, P, Dt] embedded tokens. units: n tensors [n_pro, L, Dt] that
    continue the prefixes, each of a length of its own.

    The tower is causal. So the tokens after the last are left away, and what a
    prefix contributes is computed once for all that continue it. Units of one
    length attend together, and all tokens lie in one array without padding for
    everything but attention; the result is that of padding to the context length.
    """
    _check_lengths(tower, prefixes, units)
    order = sorted(range(len(units)), key=lambda i: units[i].shape[1])
    x, shapes = _packed(tower, prefixes, [units[i] for i in order])
    ends = _last_tokens(shapes, x.device)
    final = tower.config["layers"] - 1
    for index in range(final + 1):
        x = _block(tower, index, x, shapes, ends if index == final else None)
    x = layer_norm(x, tower.weights, "ln_final", tower.config["eps"])
    features = (x @ tower.weights["text_projection"]).unflatten(0, (len(units), -1))
    places = sorted(range(len(units)), key=order.__getitem__)
    return torch.stack([features[place] for place in places])


def _check_lengths(tower: Tower, prefixes: Tensor, units: list[Tensor]) -> None:
    longest = prefixes.shape[1] + max(unit.shape[1] for unit in units)
    if longest > tower.config["context_length"]:
        raise UserError(
            f"prompts: a sequence has {longest} tokens, the text tower takes "
            f"{tower.config['context_length']}; shorten the states or lower n_ctx"
        )


def _packed(
    tower: Tower, prefixes: Tensor, units: list[Tensor]
) -> tuple[Tensor, list[tuple[int, int, int]]]:
    """All tokens [M, Dt], prefixes first, and the (n, n_pro, L) of each part."""
    positions = tower.weights["positional_embedding"]
    start = prefixes.shape[1]
    parts = [(prefixes + positions[:start])[None]]
    for length, group in groupby(units, key=lambda unit: unit.shape[1]):
        stacked = torch.stack(list(group))  # (n, n_pro, L, Dt)
        parts.append(stacked + positions[start : start + length])
    tokens = torch.cat([part.flatten(0, 2) for part in parts])
    return tokens, [tuple(part.shape[:3]) for part in parts]


def _last_tokens(shapes: list[tuple[int, int, int]], device: torch.device) -> Tensor:
    """Rows of the packed tokens at which the units (not the prefixes) end."""
    rows, start = [], prod(shapes[0])
    for shape in shapes[1:]:
        end = start + prod(shape)
        rows.append(torch.arange(start + shape[2] - 1, end, shape[2], device=device))
        start = end
    return torch.cat(rows)


def _block(
    tower: Tower,
    index: int,
    x: Tensor,
    shapes: list[tuple[int, int, int]],
    rows: Tensor | None,
) -> Tensor:
    """One block on packed tokens; only `rows` of them leave it, if given."""
    weights, config = block_weights(tower, index), tower.config
    h = layer_norm(x, weights, "ln_1", config["eps"])
    mixed = _attention(project_qkv(h, weights), shapes, config["heads"])
    if rows is not None:
        x, mixed = x.index_select(0, rows), mixed.index_select(0, rows)
    x = x + project_out(mixed, weights)
    return x + feed_forward(x, weights, config)


def _attention(qkv: Tensor, shapes: list[tuple[int, int, int]], heads: int) -> Tensor:
    """Causal attention of packed projections [M, 3 D], [M, D].

    The first part is the prefixes; the others see their prefix and themselves.
    """
    sizes = [prod(shape) for shape in shapes]
    parts = [
        part.view(*shape, 3, heads, -1).permute(3, 0, 1, 4, 2, 5)
        for part, shape in zip(qkv.split(sizes), shapes, strict=True)
    ]  # each (3, n, n_pro, heads, L, d)
    prefix = parts[0]
    mixed = [F.scaled_dot_product_attention(*prefix, is_causal=True)]
    for q, k, v in parts[1:]:
        known = prefix[1:].expand(-1, len(q), *prefix.shape[2:])
        keys, values = (torch.cat(pair, -2) for pair in zip(known, (k, v), strict=True))
        length, total = q.shape[-2], keys.shape[-2]
        seen = torch.ones(length, total, dtype=torch.bool, device=q.device)
        seen = seen.tril(total - length)
        mixed.append(F.scaled_dot_product_attention(q, keys, values, attn_mask=seen))
    return torch.cat(
        [part.transpose(-3, -2).flatten(-2).flatten(0, 2) for part in mixed]
    )


def anomaly_prompts(features: TextFeatures) -> Tensor:
    """The two directions images are compared with, normal and abnormal, [2, D]."""
    abnormal = torch.cat([features.manual, features.learned])
    return F.normalize(torch.stack([features.normal.mean(0), abnormal.mean(0)]), dim=-1)
