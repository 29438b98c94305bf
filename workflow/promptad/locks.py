"""One run at a time in a folder of results, and none of its files from the future."""

import fcntl
import os
import time
from pathlib import Path

from promptad.errors import UserError

NAME = ".lock"
STEP = 1e-5  # seconds, by which dates brought back differ


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


def bring_back(folder: str | Path) -> None:
    """Date files in `folder` that a clock, since set back, dated in the future to now.

    Snakemake takes what is made from them for older than they are. Their order stays.
    """
    now, paths = time.time(), Path(folder).rglob("*")
    dates = {path: path.lstat().st_mtime for path in paths}
    ahead = sorted((date, path) for path, date in dates.items() if date > now)
    for rank, (_, path) in enumerate(ahead):
        date = now - (len(ahead) - rank) * STEP
        os.utime(path, (date, date), follow_symlinks=False)
