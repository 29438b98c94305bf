"""Compact weight files: only the trained weights of a small CLIP.

The vocabulary of 49,408 words makes up most of a small CLIP, and training changes few
of its rows. A compact file holds tensors named as in open_clip, matrices in float16,
but of the token embedding only the trained rows (`ROWS`) and their token numbers
(`NUMBERS`). Every other row is expanded to the mean of the trained ones.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fsad.artifacts.files import atomic, damaged
from fsad.errors import UserError

TABLE = "token_embedding.weight"
ROWS, NUMBERS = "token_embedding.rows", "token_embedding.numbers"
VOCABULARY = 49408


def is_compact(path: str | Path) -> bool:
    """Whether a file is a compact weight file; False if it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return ROWS in set(file.keys())
    except (OSError, SafetensorError):
        return False


def save_compact(path: str | Path, weights: dict[str, Tensor], numbers: Tensor) -> None:
    """Write a compact weight file.

    weights: those of an open_clip model, with only the trained rows of `TABLE`,
    [n, Dt]. numbers: int64 [n], the token numbers of these rows.
    """
    kept = {n: rounded(w) for n, w in weights.items()}
    kept |= {ROWS: kept.pop(TABLE), NUMBERS: numbers}
    with atomic(path) as temporary:
        save_file({n: w.detach().contiguous() for n, w in kept.items()}, temporary)


def rounded(weight: Tensor) -> Tensor:
    """Round a float32 weight as a compact file stores it: matrices to float16."""
    return weight.half() if weight.ndim > 1 else weight


def expand(path: str | Path) -> dict[str, Tensor]:
    """Weights of a compact file for open_clip, float32."""
    try:
        weights = load_file(path)
        rows, numbers = weights.pop(ROWS).float(), weights.pop(NUMBERS)
    except (OSError, SafetensorError, KeyError) as error:
        raise damaged(path, error, "a compact weight file") from error
    table = rows.mean(0).repeat(VOCABULARY, 1)
    table[numbers] = rows
    return {name: weight.float() for name, weight in weights.items()} | {TABLE: table}


def write_checkpoint(compact: str | Path, checkpoint: str | Path) -> None:
    """Convert a compact file to an ordinary checkpoint of open_clip."""
    if not is_compact(compact):
        raise UserError(f"{compact}: not a compact weight file")
    with atomic(checkpoint) as temporary:
        save_file(expand(compact), temporary)
