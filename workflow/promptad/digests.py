"""Digests of contents: of files, remembered until a file changes, and of settings."""

import hashlib
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from promptad.errors import UserError
from promptad.storage import damaged, file_digest, write_json

# A file this young may change again within the resolution of its times, unseen.
SETTLED_SECONDS = 2


def file_digests(
    paths: Iterable[str | Path], memory: str | Path | None = None
) -> dict[Path, str]:
    """SHA-256 of each file, by path.

    `memory` is a JSON file that notes digest, size and times of every file read; a file
    is read again only if one of these differs, be it newer or older; where there can be
    none, it is done without. Raises UserError for a file that cannot be read.
    """
    known = _read(Path(memory)) if memory else {}
    found = {Path(path): _noted(path, known.get(str(path))) for path in paths}
    settled = {str(path): note for path, note in found.items() if _is_settled(note)}
    if memory and not settled.items() <= known.items():
        with suppress(OSError):
            write_json(memory, known | settled)
    return {path: note["sha256"] for path, note in found.items()}


def check_files(paths: Iterable[str | Path]) -> None:
    """Raise UserError for the first file that cannot be opened and read."""
    for path in paths:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def digest_of(*parts: object) -> str:
    """A short digest of values that JSON can hold."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(memory: Path) -> dict[str, dict]:
    try:
        return json.loads(memory.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except ValueError as error:
        raise damaged(memory, error) from error


def _noted(path: str | Path, known: dict | None) -> dict:
    try:
        stat = Path(path).stat()
        # The change time tells an edit whose modification time was set back.
        times = [stat.st_mtime_ns, stat.st_ctime_ns]
        now = {"size": stat.st_size, "times": times}
        if known is not None and known == now | {"sha256": known.get("sha256")}:
            return known
        return now | {"sha256": file_digest(path)}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _is_settled(note: dict) -> bool:
    return time.time() - max(note["times"]) / 1e9 > SETTLED_SECONDS
