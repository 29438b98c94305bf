"""Snakemake's command line in processes that share its import."""

import atexit
import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["snakemake.cli", "pandas", "jsonschema"])


def snakemake(
    folder: Path, arguments: list, environment: Mapping[str, str]
) -> CompletedProcess:
    """Run `snakemake` with these arguments in a folder, and wait for its end."""
    words = [str(word) for word in arguments]
    with TemporaryDirectory() as outputs:
        logs = [Path(outputs, name) for name in ("stdout", "stderr")]
        process = SERVER.Process(target=_main, args=(folder, logs, words, environment))
        process.start()
        process.join()
        texts = [log.read_text(errors="replace") for log in logs]
    return CompletedProcess(words, process.exitcode, *texts)


def _main(folder: Path, logs: list, words: list, environment: Mapping) -> None:
    for stream, log in enumerate(logs, start=1):
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, stream)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    from snakemake.cli import main

    sys.argv = ["snakemake", *words]
    try:
        main(words)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
