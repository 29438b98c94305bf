"""Set-up of every pipeline job: log file, thread budget, one-line errors."""

import atexit
import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fsad.errors import UserError
from fsad.jobs.parent_watch import end_with_snakemake
from fsad.jobs.threads import keep_to_cores, limit_threads, limit_torch_threads

DONE = "done"  # last line of the log of a job that succeeded


@contextmanager
def job(log: str, cores: int, torch: int | None = None) -> Iterator[None]:
    """Run a block as the only work of this process, on this number of cores.

    torch: number of threads of torch, for a block that uses it. The last digits of a
    sum depend on it, so it is kept even if the job gets fewer cores.

    All output goes to `log`, including that of C libraries. A UserError becomes one
    line there and exit status 1. The process ends with the Snakemake process that
    started it: a job left over from a killed call would use cores that the next call
    counts on, and could overwrite its results.
    """
    _redirect_output(log)
    end_with_snakemake()
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    if torch is None:
        limit_threads(cores)
    else:
        if torch > cores:
            keep_to_cores(cores)
        limit_torch_threads(torch)
    with program():
        yield
    print(DONE, flush=True)


@contextmanager
def program() -> Iterator[None]:
    """Run a block as the only work of this process.

    A UserError becomes `error: ...` on standard error and exit status 1.
    """
    # At exit Python would search all objects for cycles: half a second with torch.
    atexit.register(gc.freeze)
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:
        # Of `fsad methods | head`. At exit Python would print it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _redirect_output(log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)
