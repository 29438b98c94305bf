"""The frame of every pipeline job: log file, thread budget, one-line errors."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from promptad.errors import UserError
from promptad.orphans import end_with_snakemake
from promptad.threads import limit_threads, limit_torch_threads

DONE = "done"  # the last line of the log of a job that ended well


@contextmanager
def job(log: str, threads: int, torch: bool = False) -> Iterator[None]:
    """Run a block as the whole work of this process.

    All output, progress bars and those of C libraries included, goes to `log`.
    A UserError becomes one line there and exit status 1. The process ends with the
    Snakemake that started it: one left over from a killed call would take cores that
    the next call counts on, and could write over its results.
    """
    _redirect_output(log)
    end_with_snakemake()
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    (limit_torch_threads if torch else limit_threads)(threads)
    with one_line_errors():
        yield
    print(DONE, flush=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a UserError into `error: ...` on standard error and exit status 1."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _redirect_output(log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)
