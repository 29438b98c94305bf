"""One run at a time in a folder of results."""

import fcntl
import os
from pathlib import Path

from promptad.errors import UserError

NAME = ".lock"


def hold(folder: str | Path) -> None:
    """Keep other runs out of `folder` until this process ends, however it ends.

    Raises UserError if another one is at work there, or it cannot be written. The
    kernel lets go of the lock with the process, so that none is left over after a kill
    or a power cut.
    """
    descriptor = _opened(Path(folder))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(
            f"results: another run is at work in {folder}; wait for its end, or name "
            "another folder"
        ) from None


def _opened(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f"results: {folder} cannot be written ({error.strerror})"
        ) from None
