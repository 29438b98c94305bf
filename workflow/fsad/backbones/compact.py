"""Small weight files: only what was trained of a CLIP, expanded to all of it.

A vocabulary of 49,408 words is most of a small CLIP, and training touches few of
them. A compact file holds tensors named as in open_clip, matrices in float16, but of
the token embedding only the trained rows (`ROWS`) and their numbers (`NUMBERS`). Every
other row is the mean of those, a word without a meaning of its own.
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
    """Whether a file is a compact one; what cannot be read is not."""
    if Path(path).suffix != ".safetensors":
        return False
    try:
        with safe_open(path, "pt") as file:
            return ROWS in set(file.keys())
    except (OSError, SafetensorError):
        return False


def save_compact(path: str | Path, weights: dict[str, Tensor], numbers: Tensor) -> None:
    """Write a compact file.

    weights: those of an open_clip model, but of `TABLE` the trained rows alone,
    [n, Dt]. numbers: int64 [n], their token numbers.
    """
    kept = {n: rounded(w) for n, w in weights.items()}
    kept |= {ROWS: kept.pop(TABLE), NUMBERS: numbers}
    with atomic(path) as temporary:
        save_file({n: w.detach().contiguous() for n, w in kept.items()}, temporary)


def rounded(weight: Tensor) -> Tensor:
    """What a compact file keeps of a float32 weight, matrices in float16."""
    return weight.half() if weight.ndim > 1 else weight


def expand(path: str | Path) -> dict[str, Tensor]:
    """The weights of a compact file as open_clip takes them, float32."""
    try:
        weights = load_file(path)
        rows, numbers = weights.pop(ROWS).float(), weights.pop(NUMBERS)
    except (OSError, SafetensorError, KeyError) as error:
        raise damaged(path, error) from error
    table = rows.mean(0).repeat(VOCABULARY, 1)
    table[numbers] = rows
    return {name: weight.float() for name, weight in weights.items()} | {TABLE: table}


def write_checkpoint(compact: str | Path, checkpoint: str | Path) -> None:
    """Write what a compact file holds as an ordinary checkpoint of open_clip."""
    if not is_compact(compact):
        raise UserError(f"{compact}: no compact weight file")
    with atomic(checkpoint) as temporary:
        save_file(expand(compact), temporary)
