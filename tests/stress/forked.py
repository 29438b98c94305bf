"""Snakemake's command line in processes that share its import."""

import multiprocessing
import os
import sys
from pathlib import Path
from typing import NamedTuple

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["snakemake.cli"])
LIMIT = 120  # seconds, for a case that would never end


class Ended(NamedTuple):
    """Exit status, None if it did not end in time, and all output."""

    status: int | None
    output: str


def snakemake(folder: Path, *arguments: str) -> Ended:
    """Run `snakemake` with these arguments in a folder."""
    log = folder / ".output"
    process = SERVER.Process(target=_main, args=(folder, log, arguments))
    process.start()
    process.join(LIMIT)
    status = process.exitcode
    process.kill()
    process.join()
    output = log.read_text(errors="replace")
    log.unlink()
    return Ended(status, output)


def _main(folder: Path, log: Path, arguments: tuple) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.chdir(folder)
    from snakemake.cli import main

    sys.argv = ["snakemake", *arguments]
    main(list(arguments))
