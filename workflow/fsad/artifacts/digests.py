"""Digests of files, remembered until a file changes."""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fsad.artifacts.content import file_digest
from fsad.artifacts.files import damaged, write_json
from fsad.errors import UserError

# A file this young may change again within the resolution of its times, unseen.
SETTLED_SECONDS = 2

Memory = dict[str, dict]  # by path: size, times and digest of a file that was read


def read_memory(path: str | Path) -> Memory:
    """The notes of `write_memory`, none if there is no such file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError:
        return {}
    except ValueError as error:
        raise damaged(path, error) from error


def write_memory(path: str | Path, memory: Memory) -> None:
    """Write the notes on files that have not changed for a while, where there can be
    any, and only if they are others than those there."""
    settled = {name: note for name, note in memory.items() if _is_settled(note)}
    if settled != read_memory(path):
        with suppress(OSError):
            write_json(path, settled)


def file_digests(
    paths: Iterable[str | Path], memory: Memory | None = None
) -> dict[Path, str]:
    """SHA-256 of each file, by path.

    memory: notes that are read and extended; a file is read again only if its size or
    one of its times differs, be it newer or older. Raises UserError for a file that
    cannot be read.
    """
    memory, found = {} if memory is None else memory, {}
    for path in paths:
        note = memory[str(path)] = _note(path, memory.get(str(path)))
        found[Path(path)] = note["sha256"]
    return found


def check_files(paths: Iterable[str | Path]) -> None:
    """Raise UserError for the first file that cannot be opened and read."""
    for path in paths:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _note(path: str | Path, known: dict | None) -> dict:
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
