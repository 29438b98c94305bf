"""CLIP's text tower on embedded sequences, with learned contexts among the words."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from promptad.errors import UserError
from promptad.transformer import (
    Tower,
    attend,
    block_weights,
    feed_forward,
    layer_norm,
    split_heads,
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
    groups = _sequences(words, contexts)
    counts = [len(group) for group in groups]
    features = encode_sequences(tower, [s for group in groups for s in group])
    return TextFeatures(*features.split(counts))


def _sequences(words: Words, contexts: Contexts) -> tuple[list[Tensor], ...]:
    prefixes = [torch.cat([words.start[None], c]) for c in contexts.normal]
    abnormal = contexts.abnormal
    n_pro, n_pro_ab = len(prefixes), len(abnormal)
    normal = [torch.cat([prefix, words.name]) for prefix in prefixes]
    manual = [torch.cat([p, state]) for state in words.states for p in prefixes]
    learned = [
        torch.cat([prefixes[m % n_pro], abnormal[m % n_pro_ab], words.name])
        for m in range(n_pro * n_pro_ab)
    ]
    return normal, manual, learned


def encode_sequences(tower: Tower, sequences: list[Tensor]) -> Tensor:
    """Text features [n, D] of embedded sequences [T_i, Dt], read at their last token.

    The tower is causal, so what follows the last token is left away instead of
    being padded to the context length; the result is the same.
    """
    lengths = [len(sequence) for sequence in sequences]
    if max(lengths) > tower.config["context_length"]:
        raise UserError(
            f"prompts: a sequence has {max(lengths)} tokens, the text tower takes "
            f"{tower.config['context_length']}; shorten the states or lower n_ctx"
        )
    x = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)  # (n, T, Dt)
    x = x + tower.weights["positional_embedding"][: x.shape[1]]
    for index in range(tower.config["layers"]):
        x = _block(tower, index, x)
    last = torch.tensor(lengths, device=x.device) - 1
    x = x[torch.arange(len(x), device=x.device), last]
    x = layer_norm(x, tower.weights, "ln_final", tower.config["eps"])
    return x @ tower.weights["text_projection"]


def _block(tower: Tower, index: int, x: Tensor) -> Tensor:
    weights, config = block_weights(tower, index), tower.config
    h = layer_norm(x, weights, "ln_1", config["eps"])
    x = x + attend(*split_heads(h, weights, config["heads"]), weights, causal=True)
    return x + feed_forward(x, weights, config)


def anomaly_prompts(features: TextFeatures) -> Tensor:
    """The two directions images are compared with, normal and abnormal, [2, D]."""
    abnormal = torch.cat([features.manual, features.learned])
    return F.normalize(torch.stack([features.normal.mean(0), abnormal.mean(0)]), dim=-1)
