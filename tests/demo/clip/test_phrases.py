import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from fsad.backbones.clip import split_towers
from fsad.backbones.compact import TABLE
from fsad.demo.clip.phrases import (
    UNKNOWN,
    TextBranch,
    draw_contexts,
    draw_phrases,
    encode_phrases,
    make_phrases,
)
from fsad.demo.scenes import vocabulary
from fsad.methods.promptad.training import CONTEXT_STD
from helpers import TINY, relative_error


@pytest.fixture(scope="module")
def phrases():
    return make_phrases(["damaged {}", "{} with flaw"])


@pytest.fixture(scope="module")
def tower(phrases):
    """A text tower with the token embedding of the phrases alone."""
    torch.manual_seed(0)
    _, tower = split_towers(open_clip.CLIP(**TINY).eval(), "tiny")
    tower.weights[TABLE] = tower.weights[TABLE][torch.tensor(phrases.numbers)]
    return tower


def test_unknown_words_share_a_row(phrases):
    unknown = len(phrases.numbers)
    assert phrases.rows[UNKNOWN][0] == unknown
    assert unknown not in phrases.rows["nut"]


def test_there_is_a_phrase_for_each_noun_and_state(phrases):
    nouns, defects = vocabulary()
    expected = {f"{noun} with a {defect}" for noun in nouns for defect in defects}
    expected |= {"damaged nut", "disc with flaw", "object with a hole", *nouns}
    assert expected <= phrases.rows.keys()


@torch.no_grad()
def test_contexts_stand_before_the_words(tower, phrases):
    before = tower.weights[TABLE][phrases.rows["damaged nut"][:1]]
    contexts = torch.stack([before] * 2)
    ours = encode_phrases(tower, phrases, ["nut", "disc"], contexts)
    written, none = ["damaged nut", "damaged disc"], torch.zeros(2, 0, 16)
    expected = encode_phrases(tower, phrases, written, none)
    assert relative_error(ours, expected) < 1e-5


def test_most_contexts_describe_an_image():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 6, generator=generator).repeat(2000, 1)
    head = torch.randn(6, 4 * 8, generator=generator)
    torch.manual_seed(0)
    contexts = draw_contexts(images, TextBranch(None, None, head, 0.8, 1))
    assert contexts.shape == (2000, 4, 8)
    contexts = contexts.flatten(1) / CONTEXT_STD
    described = F.layer_norm(images[0] @ head, (32,))
    strength = contexts @ described / 32  # about 0 or 1, with a deviation of 32 ** -0.5
    assert float((strength > 0.5).float().mean()) == pytest.approx(0.8, abs=0.03)
    noise = contexts[strength < 0.5]
    assert float(noise.std()) == pytest.approx(1, abs=0.05)


def test_phrases_name_the_part_or_an_unknown_one_in_some_state(phrases):
    words = [("nut", "hole")] * 300
    drawn = draw_phrases(words, phrases, np.random.default_rng(0))
    nouns, abnormal = drawn[:300], drawn[300:]
    assert set(nouns) == {"nut", UNKNOWN}
    assert nouns.count(UNKNOWN) == pytest.approx(90, abs=25)
    assert {*nouns, *abnormal} <= phrases.rows.keys()
    assert all(noun in phrase for noun, phrase in zip(nouns, abnormal, strict=True))
    own = sum(phrase.endswith("with a hole") for phrase in abnormal)
    assert own == pytest.approx(150, abs=30)
    assert len(set(abnormal)) > 30
