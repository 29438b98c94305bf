import pytest
from open_clip import SimpleTokenizer

from fsad.data import words
from fsad.errors import UserError

START, END = 49406, 49407


@pytest.fixture(scope="module")
def tokenizer():
    return SimpleTokenizer()


def test_tokens_are_those_of_open_clip(tokens, tokenizer):
    whole = tokenizer("metal nut.")[0].tolist()
    assert int(tokens["start"]) == START
    assert tokens["name"].tolist() == whole[1 : whole.index(END) + 1]


def test_states_hold_the_words_in_their_place(tokens, tokenizer):
    phrases = ["damaged metal nut.", "metal nut with flaw."]
    for phrase, row, length in zip(
        phrases, tokens["states"], tokens["state_lengths"], strict=True
    ):
        assert row[:length].tolist() == [*tokenizer.encode(phrase), END]


def test_shorter_states_are_padded_with_zeros():
    tokens = words.tokenize("nut", ["{}", "{} with a very large scratch"])
    length = tokens["state_lengths"][0]
    assert length == len(tokens["name"])
    assert tokens["states"].shape == (2, tokens["state_lengths"].max())
    assert not tokens["states"][0, length:].any()


def test_pinned_tokens(tokens):
    assert tokens["name"].tolist() == [4044, 6491, 269, END]


@pytest.mark.parametrize(
    ("name", "words"), [("metal_nut", "metal nut"), ("bottle", "bottle")]
)
def test_underscores_become_spaces(name, words):
    assert words.class_words(name) == words


@pytest.mark.parametrize(
    "state", ["broken", "{} or {}", "{", "{0}", "{name}", "{{}}", "a } {}"]
)
def test_a_state_must_name_the_class_once(state):
    with pytest.raises(UserError, match=r"must hold \{\}, the class's place, once"):
        words.tokenize("nut", ["damaged {}", state])


def test_braces_in_the_words_are_only_words():
    assert len(words.tokenize("{0}", ["damaged {}"])["states"]) == 1
