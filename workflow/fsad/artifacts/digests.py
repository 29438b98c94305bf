"""Digests of files, cached until a file changes."""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fsad.artifacts.content import file_digest
from fsad.artifacts.files import damaged, unreadable, write_json

# A file this recent may change again within the resolution of its times.
SETTLED_SECONDS = 2

Memory = dict[str, dict]  # by path: `size`, `times` and `sha256` of a file


def read_memory(path: str | Path) -> Memory:
    """Read the file of `write_memory`; empty if there is none."""
    try:
        memory = json.loads(Path(path).read_text(encoding="utf-8"))
        if not all(len(entry["times"]) == 2 for entry in memory.values()):
            raise ValueError("an entry has not two times")
        return memory
    except OSError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error


def write_memory(path: str | Path, memory: Memory) -> None:
    """Write the entries of files that have not changed for a while.

    Nothing is written if the file holds these entries already, or cannot be written.
    """
    settled = {name: entry for name, entry in memory.items() if _is_settled(entry)}
    if settled != read_memory(path):
        with suppress(OSError):
            write_json(path, settled)


def file_digests(
    paths: Iterable[str | Path], memory: Memory | None = None
) -> dict[Path, str]:
    """SHA-256 of each file, by path.

    memory: known digests, updated in place; a file is read again only if its size or
    one of its times differs, newer or older. Raises UserError for a file that cannot
    be read.
    """
    memory, found = {} if memory is None else memory, {}
    for path in paths:
        entry = memory[str(path)] = _entry(path, memory.get(str(path)))
        found[Path(path)] = entry["sha256"]
    return found


def check_files(paths: Iterable[str | Path]) -> None:
    """Raise UserError for the first file that cannot be opened and read."""
    for path in paths:
        try:
            open(path, "rb").close()
        except OSError as error:
            raise unreadable(path, error) from error


def _entry(path: str | Path, known: dict | None) -> dict:
    try:
        stat = Path(path).stat()
        # The change time reveals an edit whose modification time was set back.
        times = [stat.st_mtime_ns, stat.st_ctime_ns]
        now = {"size": stat.st_size, "times": times}
        if known is not None and known == now | {"sha256": known.get("sha256")}:
            return known
        return now | {"sha256": file_digest(path)}
    except OSError as error:
        raise unreadable(path, error) from error


def _is_settled(entry: dict) -> bool:
    return time.time() - max(entry["times"]) / 1e9 > SETTLED_SECONDS
