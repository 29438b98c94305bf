"""The text tower against open_clip's own modules on sequences padded to 77 tokens."""

import pytest
import torch

from fsad.backbones import clip_text
from fsad.backbones.clip_text import Contexts, TextFeatures
from fsad.errors import UserError
from helpers import relative_error

FIELDS = TextFeatures._fields


@pytest.fixture(scope="module")
def words(towers, tokens):
    return clip_text.embed_words(towers[1], tokens)


def contexts(n_pro=2, n_ctx=2, n_pro_ab=3, n_ctx_ab=1, requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    shapes = (n_pro, n_ctx, 16), (n_pro_ab, n_ctx_ab, 16)
    draws = [0.1 * torch.randn(shape, generator=generator) for shape in shapes]
    return Contexts(*(draw.requires_grad_(requires_grad) for draw in draws))


def padded_encoding(clip, sequences):
    """Features of embedded sequences, all 77 tokens through open_clip's modules."""
    features = []
    for sequence in sequences:
        padding = clip.token_embedding(torch.zeros(77 - len(sequence)).long())
        x = torch.cat([sequence, padding])[None] + clip.positional_embedding
        x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask))
        features.append(x[0, len(sequence) - 1] @ clip.text_projection)
    return torch.stack(features)


def naive_prompts(clip, tokens, contexts):
    """Features of the sequences that the method describes, in its order."""
    embed = clip.token_embedding
    start = embed(torch.tensor([int(tokens["start"])]))
    name = embed(torch.from_numpy(tokens["name"]))
    lengths = tokens["state_lengths"]
    states = [
        embed(torch.from_numpy(row[:length]))
        for row, length in zip(tokens["states"], lengths, strict=True)
    ]
    c, a = contexts
    normal, manual, learned = [], [], []
    for i in range(len(c)):
        normal.append(torch.cat([start, c[i], name]))
    for state in states:
        for i in range(len(c)):
            manual.append(torch.cat([start, c[i], state]))
    for m in range(len(c) * len(a)):
        learned.append(torch.cat([start, c[m % len(c)], a[m % len(a)], name]))
    return TextFeatures(*(padded_encoding(clip, g) for g in (normal, manual, learned)))


NUMBERS = [
    {},
    {"n_pro": 1, "n_pro_ab": 4, "n_ctx": 4},
    {"n_pro": 3, "n_pro_ab": 4, "n_ctx_ab": 2},
    {"n_pro": 2, "n_pro_ab": 2},
]


@torch.no_grad()
@pytest.mark.parametrize("numbers", NUMBERS)
def test_features_are_those_of_padded_sequences(clip, towers, tokens, words, numbers):
    drawn = contexts(**numbers)
    features = clip_text.encode_prompts(towers[1], words, drawn)
    expected = naive_prompts(clip, tokens, drawn)
    for name in FIELDS:
        ours, naive = getattr(features, name), getattr(expected, name)
        assert relative_error(ours, naive) < 1e-5


@pytest.mark.parametrize("row", [clip_text.ROW, 8])  # one row, and many
@pytest.mark.parametrize("numbers", NUMBERS)
def test_gradients_are_those_of_padded_sequences(
    clip, towers, tokens, words, numbers, row, monkeypatch
):
    monkeypatch.setattr(clip_text, "ROW", row)
    drawn = contexts(**numbers, requires_grad=True)
    ours = clip_text.encode_prompts(towers[1], words, drawn)
    naive = naive_prompts(clip, tokens, drawn)
    weights = [torch.linspace(-1, 2, f.numel()).view_as(f) for f in naive]
    ours, naive = (
        sum((w * f).sum() for w, f in zip(weights, features, strict=True))
        for features in (ours, naive)
    )
    expected = torch.autograd.grad(naive, drawn)
    for gradient, other in zip(torch.autograd.grad(ours, drawn), expected, strict=True):
        assert relative_error(gradient, other) < 1e-5


@torch.no_grad()
def test_manual_prompts_go_through_the_contexts_of_one_state_first(towers, words):
    drawn = contexts(n_pro=2)
    manual = clip_text.encode_prompts(towers[1], words, drawn).manual
    only_first = words._replace(states=words.states[:1])
    assert len(manual) == 4
    first = clip_text.encode_prompts(towers[1], only_first, drawn).manual
    assert relative_error(manual[:2], first) < 1e-5


@torch.no_grad()
def test_learned_prompts_pair_contexts_by_remainder(towers, words):
    drawn = contexts(n_pro=2, n_pro_ab=3)
    learned = clip_text.encode_prompts(towers[1], words, drawn).learned
    for m, (i, j) in enumerate([(0, 0), (1, 1), (0, 2), (1, 0), (0, 1), (1, 2)]):
        pair = Contexts(drawn.normal[i : i + 1], drawn.abnormal[j : j + 1])
        single = clip_text.encode_prompts(towers[1], words, pair).learned[0]
        assert relative_error(learned[m], single) < 1e-5


@torch.no_grad()
def test_the_longest_sequence_may_fill_the_tower(towers, words):
    prefixes, units = torch.zeros(2, 5, 16), [torch.zeros(2, n, 16) for n in (72, 3)]
    assert clip_text.encode_units(towers[1], prefixes, units).shape == (2, 2, 24)


def test_a_sequence_that_is_too_long_is_refused(towers, words):
    with pytest.raises(UserError, match="has 78 tokens, the text tower takes 77"):
        clip_text.encode_units(
            towers[1], torch.zeros(1, 5, 16), [torch.zeros(1, 73, 16)]
        )


@torch.no_grad()
@pytest.mark.parametrize("repeated", [1, 50])  # less than a row, and three of them
def test_units_keep_their_order_whatever_their_lengths(towers, repeated):
    generator = torch.Generator().manual_seed(0)
    prefixes = torch.randn(2, 3, 16, generator=generator)
    lengths = (4, 1, 3, 1, 4) * repeated
    units = [torch.randn(2, n, 16, generator=generator) for n in lengths]
    together = clip_text.encode_units(towers[1], prefixes, units)
    for unit, features in zip(units, together, strict=True):
        alone = clip_text.encode_units(towers[1], prefixes, [unit])[0]
        assert relative_error(features, alone) < 1e-5


def test_words_are_embedded_without_their_padding(towers, tokens, words):
    table = towers[1].weights["token_embedding.weight"]
    assert torch.equal(words.start, table[49406])
    assert torch.equal(words.name, table[torch.from_numpy(tokens["name"])])
    assert [len(state) for state in words.states] == tokens["state_lengths"].tolist()
    assert all(torch.equal(state[-1], table[49407]) for state in words.states)


def test_anomaly_prompts_are_the_directions_of_the_means():
    normal = torch.tensor([[3.0, 0.0], [3.0, 8.0]])
    manual, learned = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 4.0], [9.0, 6.0]])
    directions = clip_text.anomaly_prompts(TextFeatures(normal, manual, learned))
    expected = torch.tensor([[0.6, 0.8], [0.6, 0.8]])
    assert torch.allclose(directions, expected)


@torch.no_grad()
def test_bfloat16_is_near(towers, words):
    half = towers[1].to("cpu", "bfloat16")
    ours, exact = (
        clip_text.encode_prompts(t, words, contexts()) for t in (half, towers[1])
    )
    for name in FIELDS:
        features, others = getattr(ours, name), getattr(exact, name)
        assert features.dtype == torch.float32
        assert 0 < relative_error(features, others) < 0.05
