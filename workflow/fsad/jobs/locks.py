"""Lock of a results folder, and reset of modification times in the future."""

import fcntl
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from fsad.errors import UserError

NAME = ".lock"
STEP = 1e-5  # seconds between consecutive reset times


def lock_results(folder: str | Path) -> None:
    """Lock a results folder against other runs until this process ends.

    The kernel releases the lock with the process, so none remains after a kill or a
    power cut. Logs a warning if the file system has no locks. Raises UserError if
    another run holds the lock, or the folder cannot be written.
    """
    path = Path(folder, NAME)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(
            f"results: {folder} cannot be written ({error.strerror})"
        ) from None
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


def reset_future_mtimes(folder: str | Path) -> None:
    """Set modification times in the future to the present, in the same order.

    A clock that was set back leaves such times. Snakemake would take everything made
    from such a file for out of date.
    """
    now, mtimes = time.time(), []
    for place, folders, files in os.walk(folder):
        for path in (os.path.join(place, name) for name in (*folders, *files)):
            with suppress(OSError):  # other runs may delete files meanwhile
                mtimes.append((os.lstat(path).st_mtime, path))
    ahead = sorted(entry for entry in mtimes if entry[0] > now)
    for rank, (_, path) in enumerate(ahead):
        mtime = now - (len(ahead) - rank) * STEP
        with suppress(OSError):
            os.utime(path, (mtime, mtime), follow_symlinks=False)
