"""Artefacts on disk: written whole or not at all, and carrying their settings."""

import glob
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from promptad.errors import UserError

SETTINGS = "settings"
DIGEST = "sha256"
# What zipfile and numpy raise on damaged archives.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that takes the place of `path` once the block succeeds.

    A killed or failing writer leaves nothing under the final name. What a killed one
    left under a temporary name is removed; if it still writes, it loses.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_npz(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    settings: Mapping,
    digest: str | Path | None = None,
) -> None:
    """Write arrays and the settings that made them, uncompressed, never pickled.

    digest: a file for the digest of the arrays, see `write_digest`.
    """
    described = {**arrays, SETTINGS: np.array(json.dumps(settings, sort_keys=True))}
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **described)
    if digest is not None:
        write_digest(digest, arrays)


def write_digest(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the SHA-256 of arrays: of their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    write_text(path, f"{digest.hexdigest()}\n")


def read_npz(
    path: str | Path, *names: str, origin: Mapping | None = None
) -> dict[str, np.ndarray]:
    """Read the named arrays (all arrays without names) of an artefact.

    origin: see `check_origin`. Raises UserError if the file is missing, damaged, of
    another origin, or lacks one of the arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if origin is not None:
                check_origin(path, json.loads(str(file[SETTINGS])), origin)
            wanted = names or [name for name in file.files if name != SETTINGS]
            return {name: file[name] for name in wanted}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except DAMAGE as error:
        raise damaged(path, error) from error


def read_settings(path: str | Path) -> dict:
    """The settings that made an artefact of `write_npz`."""
    return json.loads(str(read_npz(path, SETTINGS)[SETTINGS]))


def check_origin(path: str | Path, settings: Mapping, origin: Mapping) -> None:
    """Raise UserError if the settings in an artefact are not those of its origin.

    origin: what is known of it, such as its class and the digest `code` of what makes
    it. Only what both tell is compared, and `code`, which every artefact must tell.
    """
    for name, expected in origin.items():
        if name in settings or name == "code":
            found = settings.get(name)
            if str(found) != str(expected):
                raise UserError(
                    f"{path}: is of {name} {found}, not {expected}: another file in "
                    "its place, or from another version; delete it and run again"
                )


def write_record(path: str | Path, record: Mapping) -> None:
    """Write a JSON object with a digest of its content, atomically."""
    write_json(path, {**record, DIGEST: content_digest(record)})


def read_record(path: str | Path) -> dict:
    """Read what `write_record` wrote; UserError if it is missing or damaged."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        told = record.pop(DIGEST)
        if told != content_digest(record):
            raise ValueError("its content is not that of its digest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error
    return record


def content_digest(record: Mapping) -> str:
    """SHA-256 of a JSON object, in hexadecimal."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(path: str | Path, error: Exception) -> UserError:
    """The error for an artefact that cannot be read as what it should be."""
    return UserError(f"{path}: damaged ({error}); delete it and run again")
