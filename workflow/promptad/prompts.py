"""From a class's words to token numbers."""

from collections.abc import Sequence

import numpy as np

from promptad.errors import UserError


def class_words(class_name: str) -> str:
    """The words for a class whose configuration names none."""
    return class_name.replace("_", " ")


def tokenize(words: str, states: Sequence[str]) -> dict[str, np.ndarray]:
    """Token numbers of what follows the learned contexts.

    Returns `start` int64 [], the [SOS] token; `name` int64 [Lc], the tokens of
    `words.` and [EOS]; `states` int64 [n, Ls] zero-padded and `state_lengths`
    int64 [n], those of each state with `{}` replaced by `words`.
    """
    phrases = [check_state(state).format(words) for state in states]
    start, (name, *rows) = token_numbers([words, *phrases])
    lengths = [len(row) for row in rows]
    padded = [row + [0] * (max(lengths) - len(row)) for row in rows]
    return {
        "start": np.array(start),
        "name": np.array(name),
        "states": np.array(padded),
        "state_lengths": np.array(lengths),
    }


def check_state(state: str) -> str:
    """Return `state` if it names the class exactly once, else raise UserError."""
    if state.count("{}") != 1 or state.count("{") != 1 or state.count("}") != 1:
        raise UserError(f"states: {state!r} must hold {{}}, the class's place, once")
    return state


def token_numbers(phrases: Sequence[str]) -> tuple[int, list[list[int]]]:
    """The number of [SOS], and those of each `phrase.` with [EOS]."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    end = tokenizer.eot_token_id
    rows = [[*tokenizer.encode(f"{phrase}."), end] for phrase in phrases]
    return tokenizer.sot_token_id, rows
