"""Artefacts on disk, written atomically and stored with their settings."""

import glob
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fsad.artifacts.content import content_digest
from fsad.artifacts.paths import is_artefact
from fsad.artifacts.stages import check_record, is_same
from fsad.errors import UserError

SETTINGS = "settings"
DIGEST = "sha256"
TEMPORARY = ".{}.{}.tmp"  # name of a file, and number of the process that writes it
# Exceptions of zipfile and NumPy for damaged archives.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds.

    As `replaced`, and temporary files of other writers are removed, so that of two at
    once the one that started later wins.
    """
    path = Path(path)
    _remove(path.parent.glob(TEMPORARY.format(glob.escape(path.name), "*")))
    with replaced(path) as temporary:
        yield temporary


def remove_temporary(folder: str | Path) -> None:
    """Remove temporary files of other writers, in a folder and below it."""
    _remove(Path(folder).rglob(TEMPORARY.format("*", "[0-9]*")))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds.

    A writer that fails or is killed leaves `path` as it was. The permissions follow the
    umask, whichever the writer sets. The folder is not listed, so that the time of a
    file does not grow with the number of those beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(TEMPORARY.format(path.name, os.getpid()))
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        if temporary.stat().st_mode != mode:  # some file systems refuse any chmod
            temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: str | Path, digest: str) -> str:
    """Read UTF-8 text; UserError if it is missing, or not of this `content_digest`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        if content_digest(text) != digest:
            raise ValueError("its content does not match its digest")
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    return text


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_npz(
    path: str | Path, arrays: Mapping[str, np.ndarray], settings: Mapping
) -> None:
    """Write arrays and their settings, uncompressed, in C order and without pickle."""
    rows = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    entries = {**rows, SETTINGS: np.array(json.dumps(settings, sort_keys=True))}
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **entries)


def read_npz(
    path: str | Path, *names: str, record: Mapping | None = None
) -> dict[str, np.ndarray]:
    """Read arrays of an artefact by name, all of them if no name is given.

    record: expected among its settings, see `stages.check_record`. Raises UserError if
    the file is missing or damaged, has another record, or lacks one of the arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if record is not None:
                check_record(path, json.loads(str(file[SETTINGS])), record)
            wanted = names or [name for name in file.files if name != SETTINGS]
            return {name: file[name] for name in wanted}
    except DAMAGE as error:
        raise damaged(path, error) from error


def read_settings(path: str | Path) -> dict:
    """Read the settings of an artefact of `write_npz`."""
    return json.loads(str(read_npz(path, SETTINGS)[SETTINGS]))


def has_record(path: str | Path, record: Mapping) -> bool:
    """Whether an artefact of `write_npz` exists and has this record."""
    try:
        return is_same(read_settings(path), record)
    except UserError:
        return False


class Stored(NamedTuple):
    """An array in a file of `write_npz`, of which slices along the first axis are read.

    offset: of its first byte in the file.
    """

    path: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        size = int(np.prod(self.shape[1:]))
        begin = self.offset + start * size * self.dtype.itemsize
        read = np.fromfile(self.path, self.dtype, (stop - start) * size, offset=begin)
        return read.reshape(stop - start, *self.shape[1:])


def open_npz(path: str | Path, record: Mapping) -> dict[str, Stored]:
    """The arrays of an artefact, to be read in parts.

    Raises UserError if a byte of it is damaged, or it has another record.
    """
    check_record(path, read_settings(path), record)
    try:
        with zipfile.ZipFile(path) as archive:
            damage = archive.testzip()
            if damage is not None:
                raise ValueError(f"{damage} does not match its checksum")
            entries = [_stored(path, archive, entry) for entry in archive.infolist()]
    except DAMAGE as error:
        raise damaged(path, error) from error
    return {name: stored for name, stored in entries if name != SETTINGS}


def _stored(
    path: str | Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo
) -> tuple[str, Stored]:
    with archive.open(entry) as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        header = file.tell()
    with open(path, "rb") as file:  # names and extra fields go before the content
        file.seek(entry.header_offset + 26)
        lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(
            file.read(2), "little"
        )
    offset = entry.header_offset + 30 + lengths + header
    return entry.filename.removesuffix(".npy"), Stored(str(path), dtype, shape, offset)


def is_whole(path: str | Path, record: Mapping) -> bool:
    """Whether an artefact of `write_npz` has this record and no damaged byte."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None and has_record(path, record)
    except DAMAGE:
        return False


def write_record(path: str | Path, record: Mapping) -> None:
    """Write a JSON object with a digest of its content, atomically.

    JSON has no nan, which becomes null.
    """
    plain = json.loads(json.dumps(record), parse_constant=lambda _: None)
    write_json(path, {**plain, DIGEST: content_digest(plain)})


def read_record(path: str | Path) -> dict:
    """Read a file of `write_record`; UserError if it is missing or damaged."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if record.pop(DIGEST) != content_digest(record):
            raise ValueError("its content does not match its digest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error
    return record


def damaged(path: str | Path, error: Exception, expected: str = "") -> UserError:
    """UserError for a file whose content is not as it should be, or not readable.

    Only of files that can be made again it asks to delete them. expected: the kind of
    file that a user was to name.
    """
    try:
        with open(path, "rb"):
            pass
    except OSError as reason:
        return unreadable(path, reason)
    if expected:
        return UserError(f"{path}: is not {expected} ({error}); name another file")
    if is_artefact(path):
        return UserError(f"{path}: damaged ({error}); delete it and run again")
    return UserError(f"{path}: damaged, or no file of this program ({error})")


def unreadable(
    path: str | Path, error: OSError, missing: str = "no such file"
) -> UserError:
    """UserError for a file that cannot be opened: `missing`, or without permission."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: {missing}")
    return UserError(f"{path}: cannot be read ({error.strerror})")


def is_folder(path: str | Path) -> bool:
    """Whether there is such a folder; UserError where permissions forbid to look."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; UserError where permissions forbid to look."""
    return stat.S_ISREG(_mode(path))


def _mode(path: str | Path) -> int:
    """Mode of a file or folder, 0 if there is none."""
    try:
        return os.stat(path).st_mode
    except PermissionError as error:
        raise unreadable(path, error) from None
    except (OSError, ValueError):
        return 0
