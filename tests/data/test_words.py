import unicodedata

import pytest

from fsad.artifacts.files import read_npz
from fsad.artifacts.sources import Source
from fsad.data import words
from fsad.data.ensemble import ABNORMAL, NORMAL, sentences
from fsad.data.words import (
    class_words,
    read_prompts,
    tokenize,
    tokenize_ensemble,
    write_tokens,
)
from fsad.errors import UserError

START, END = 49406, 49407


@pytest.fixture(scope="module")
def tokenizer():
    from open_clip import SimpleTokenizer

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
    tokens = tokenize("nut", ["{}", "{} with a very large scratch"])
    length = tokens["state_lengths"][0]
    assert length == len(tokens["name"])
    assert tokens["states"].shape == (2, tokens["state_lengths"].max())
    assert not tokens["states"][0, length:].any()


def test_sentences_are_tokenized_as_open_clip_does(tokenizer):
    own = ["bent {}", "{} with a very large scratch"]
    found = tokenize_ensemble("metal nut", own)
    groups = {"normal": NORMAL, "abnormal": ABNORMAL, "abnormal_own": own}
    assert found.keys() == groups.keys()
    for name, states in groups.items():
        wanted = tokenizer([f"{x}." for x in sentences("metal nut", states)])[:, 1:]
        length = found[name].shape[1]
        assert found[name].tolist() == wanted[:, :length].tolist()
        assert not wanted[:, length:].any()


def test_pinned_tokens(tokens):
    assert tokens["name"].tolist() == [4044, 6491, 269, END]


def test_underscores_become_spaces():
    assert class_words("metal_nut") == "metal nut"


@pytest.mark.parametrize(
    "state", ["broken", "{} or {}", "{", "{0}", "{name}", "{{}}", "a } {}"]
)
def test_a_state_must_name_the_class_once(state):
    with pytest.raises(UserError, match=r"must hold \{\}, for the class, exactly once"):
        tokenize("nut", ["damaged {}", state])


def test_braces_in_the_words_are_only_words():
    assert len(tokenize("{0}", ["damaged {}"])["states"]) == 1


def test_prompts_are_read_by_a_shipped_name_or_a_path(tmp_path):
    assert "{} with contamination" in read_prompts("mvtec", "bottle")["states"]
    (tmp_path / "own.yaml").write_text("nut: {states: ['bent {}']}\n")
    assert read_prompts(str(tmp_path / "own.yaml"), "nut") == {"states": ["bent {}"]}
    assert read_prompts(str(tmp_path / "own.yaml"), "bolt") == {}


@pytest.mark.parametrize("source", ["mvtek", "./mvtec"])
def test_prompts_that_are_absent_are_named_with_those_shipped(source):
    with pytest.raises(UserError, match=rf"{source}: no such .*\(mvtec, visa\)"):
        read_prompts(source, "nut")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nut: bent", "must hold `text` or"),
        ("nut: {state: []}", "did you mean 'states'"),
    ],
)
def test_malformed_prompts_are_named(tmp_path, content, message):
    path = tmp_path / "own.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=f"{path}: nut: .*{message}"):
        read_prompts(str(path), "nut")


def test_tokens_are_written_once_for_a_record(tmp_path, tokens, monkeypatch):
    path = tmp_path / "prompts.npz"
    record = {"text": "metal nut", "states": ["damaged {}", "{} with flaw"]}
    write_tokens(Source(path, record))
    written = read_npz(path, record=record)
    expected = tokens | tokenize_ensemble(*record.values())
    assert all(written[name].tolist() == x.tolist() for name, x in expected.items())
    asked = []
    monkeypatch.setattr(words, "tokenize", lambda *x: asked.append(x) or tokens)
    write_tokens(Source(path, record))
    assert asked == []
    write_tokens(Source(path, record | {"text": "nut"}))
    assert asked == [("nut", record["states"])]


def test_prompts_of_a_class_are_found_in_any_unicode_form(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(f"{unicodedata.normalize('NFD', 'Gehäuse')}: {{text: case}}\n")
    assert read_prompts(str(path), "Gehäuse") == {"text": "case"}
