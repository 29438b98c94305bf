"""One slot of a local GPU for each job, held until its process ends, in any way."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fsad.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
PAUSE = 0.2  # seconds until a taken slot is tried again


@contextmanager
def gpu_slot(config: Mapping) -> Iterator[None]:
    """Hold a slot of one of the `gpus` of a configuration, and see that GPU alone.

    Waits while all slots are taken; must come before the first use of CUDA. With no
    `gpus` nothing is held, and what the parent or the cluster lets see is used.
    """
    if not config["gpus"]:
        yield
        return
    gpus = visible_gpus(config["gpus"], os.environ.get(VISIBLE))
    with _first_free(_slots(config, gpus)) as gpu:
        os.environ[VISIBLE] = gpu
        yield


def visible_gpus(gpus: Sequence[int], visible: str | None) -> list[str]:
    """Names for CUDA of the GPUs of these numbers, which count those visible."""
    if visible is None:
        return [str(gpu) for gpu in gpus]
    names = [name.strip() for name in visible.split(",") if name.strip()]
    if max(gpus) >= len(names):
        raise UserError(
            f"gpus: {max(gpus)} asked for, {VISIBLE}={visible} shows {len(names)}; "
            "they are counted from 0 among these"
        )
    return [names[gpu] for gpu in gpus]


def _slots(config: Mapping, gpus: Sequence[str]) -> list[tuple[Path, str]]:
    """Lock file and GPU of each slot, first slots of all GPUs first."""
    folder = Path(config["results"]) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(config["jobs_per_gpu"])
    return [(folder / f"gpu{gpu}_{i}.lock", gpu) for i in numbers for gpu in gpus]


@contextmanager
def _first_free(slots: Sequence[tuple[Path, str]]) -> Iterator[str]:
    """The GPU of a free slot; the kernel frees it with this process at the latest."""
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
            f"gpus: {file.name} cannot be locked ({error.strerror}); take `results` to "
            "a file system with locks, or give no `gpus`"
        ) from None
    return True
