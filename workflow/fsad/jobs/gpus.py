"""Slots of local GPUs, one for each job, freed when its process ends."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product, takewhile
from pathlib import Path
from typing import IO

from fsad.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
PAUSE = 0.2  # seconds until a taken slot is tried again


@contextmanager
def gpu_slot(config: Mapping) -> Iterator[None]:
    """Hold a slot of one of the configured `gpus` and make only that GPU visible.

    Waits while all slots are taken; must be entered before the first use of CUDA.
    Without `gpus` no slot is held, and the visible GPUs stay those of the environment.
    """
    if not config["gpus"]:
        yield
        return
    folder = Path(config["results"]) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    gpus = visible_gpus(config["gpus"], os.environ.get(VISIBLE))
    # Locks have the numbers of `gpus`, since names may hold slashes (MIG).
    numbered = zip(config["gpus"], gpus, strict=True)
    slots = [
        (folder / f"gpu{number}_{index}.lock", gpu)
        for index, (number, gpu) in product(range(config["jobs_per_gpu"]), numbered)
    ]  # first one of each GPU
    with _first_free(slots) as gpu:
        os.environ[VISIBLE] = gpu
        yield


def visible_gpus(gpus: Sequence[int], visible: str | None) -> list[str]:
    """CUDA names of GPUs, given by their indices among the visible ones."""
    if visible is None:
        return [str(gpu) for gpu in gpus]
    given = filter(None, map(str.strip, visible.split(",")))
    names = [*takewhile(lambda name: name[0] != "-", given)]  # CUDA ends at -1
    if max(gpus) >= len(names):
        raise UserError(
            f"gpus: {max(gpus)} asked for, {VISIBLE}={visible} shows {len(names)}; "
            "they are counted from 0 among these"
        )
    return [names[gpu] for gpu in gpus]


@contextmanager
def _first_free(slots: Sequence[tuple[Path, str]]) -> Iterator[str]:
    """GPU of a free slot, given by its lock file and GPU.

    The kernel frees the slot when this process ends.
    """
    while True:
        for path, gpu in slots:
            with open(path, "w") as file:
                if _locked(file):
                    yield gpu
                    return
        time.sleep(PAUSE)


def _locked(file: IO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"gpus: {file.name} cannot be locked ({error.strerror}); put `results` on "
            "a file system with locks, or give no `gpus`"
        ) from None
    return True
