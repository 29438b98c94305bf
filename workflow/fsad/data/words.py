"""Words for a class and its abnormal states, and their token numbers."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from fsad.artifacts.files import is_file, is_whole, write_npz
from fsad.artifacts.names import nfc
from fsad.artifacts.provenance import with_provenance
from fsad.artifacts.schema import check_options, read_schema, read_yaml
from fsad.artifacts.sources import Source
from fsad.data.ensemble import ABNORMAL, NORMAL, sentences
from fsad.errors import UserError

SHIPPED = Path(__file__).parents[1] / "prompts"


def class_words(class_name: str) -> str:
    """Default words for a class."""
    return class_name.replace("_", " ")


def prompts_file(source: str) -> Path:
    """Path of a file of prompts, given by path or by the name of a shipped one.

    Raises UserError if there is no such file or name.
    """
    shipped = SHIPPED / f"{source}.yaml"
    path = shipped if is_file(shipped) and "/" not in source else Path(source)
    if not is_file(path):
        names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
        raise UserError(f"{source}: no such file, nor a shipped name ({names})")
    return path


def read_prompts(source: str, class_name: str) -> dict:
    """Read `text` and `states` of a class, where given, from a file of prompts.

    source: see `prompts_file`. Raises UserError if the file is malformed.
    """
    path = prompts_file(source)
    classes = {nfc(name): options for name, options in read_yaml(path).items()}
    known = classes.get(nfc(class_name), {})
    if not isinstance(known, dict):
        raise UserError(f"{path}: {class_name}: must hold `text` or `states`")
    return check_options(known, read_schema("prompts"), f"{path}: {class_name}")


def check_state(state: str) -> str:
    """Return `state` if it contains {} exactly once, else raise UserError."""
    if state.count("{}") != 1 or state.count("{") != 1 or state.count("}") != 1:
        raise UserError(
            f"states: {state!r} must hold {{}}, for the class, exactly once"
        )
    return state


def write_tokens(target: Source) -> None:
    """Write the tokens of the `text` and `states` of a record, unless they exist."""
    path, record = target
    if not is_whole(path, record):
        tokens = class_tokens(record["text"], record["states"])
        write_npz(path, tokens, with_provenance(record))


def class_tokens(words: str, states: Sequence[str]) -> dict[str, np.ndarray]:
    """All token numbers that methods read of a class."""
    return tokenize(words, states) | tokenize_ensemble(words, states)


def tokenize(words: str, states: Sequence[str]) -> dict[str, np.ndarray]:
    """Token numbers of [SOS] and of the words that follow the learned contexts.

    Returns `start` int64 [], the [SOS] token; `name` int64 [Lc], the tokens of
    `words.` and [EOS]; `states` int64 [n, Ls] zero-padded and `state_lengths`
    int64 [n], those of each state with `{}` replaced by `words`.
    """
    phrases = [check_state(state).format(words) for state in states]
    start, (name, *rows) = token_numbers([words, *phrases])
    return {
        "start": np.array(start),
        "name": np.array(name),
        "states": padded(rows),
        "state_lengths": np.array([len(row) for row in rows]),
    }


def tokenize_ensemble(words: str, states: Sequence[str]) -> dict[str, np.ndarray]:
    """Token numbers of the sentences of `ensemble`, which follow [SOS].

    Returns int64 [n, L], zero-padded after [EOS]: `normal` and `abnormal` of the
    published states, and `abnormal_own` of `states`.
    """
    groups = {"normal": NORMAL, "abnormal": ABNORMAL, "abnormal_own": states}
    return {
        name: padded(token_numbers(sentences(words, group))[1])
        for name, group in groups.items()
    }


def padded(rows: Sequence[list[int]]) -> np.ndarray:
    """Rows int64 [n, L], the shorter ones ending with zeros."""
    longest = max(map(len, rows))
    return np.array([row + [0] * (longest - len(row)) for row in rows])


def token_numbers(phrases: Sequence[str]) -> tuple[int, list[list[int]]]:
    """Token number of [SOS], and token numbers of each `phrase.` with [EOS]."""
    tokenizer = _tokenizer()
    rows = [[*tokenizer.encode(f"{x}."), tokenizer.eot_token_id] for x in phrases]
    return tokenizer.sot_token_id, rows


@cache  # it takes a while to read its vocabulary
def _tokenizer():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()
