"""One run at a time in a folder of results, and none of its files from the future."""

import fcntl
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from promptad.errors import UserError

NAME = ".lock"
STEP = 1e-5  # seconds, by which dates brought back differ


def hold(folder: str | Path) -> None:
    """Keep other runs out of `folder` until this process ends, however it ends.

    Raises UserError if another one is at work there, or it cannot be written. The
    kernel lets go of the lock with the process, so that none is left over after a kill
    or a power cut. On a file system without locks it goes on with a warning.
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
    except OSError as error:
        logging.warning(
            "results: nothing keeps a second run out of %s (%s)", folder, error.strerror
        )


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
    now, dates = time.time(), _dates(folder)
    ahead = sorted((date, path) for path, date in dates.items() if date > now)
    for rank, (_, path) in enumerate(ahead):
        date = now - (len(ahead) - rank) * STEP
        with suppress(OSError):
            os.utime(path, (date, date), follow_symlinks=False)


def _dates(folder: str | Path) -> dict[str, float]:
    """When each file and folder below `folder` was last changed.

    Other runs may work in folders below: what vanishes meanwhile is left out.
    """
    dates = {}
    for place, folders, files in os.walk(folder):
        for path in (os.path.join(place, name) for name in (*folders, *files)):
            with suppress(OSError):
                dates[path] = os.lstat(path).st_mtime
    return dates
