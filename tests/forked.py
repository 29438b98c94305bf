"""Command lines in processes that share the import of what they use of others."""

import atexit
import multiprocessing
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

# No module of this project: a test may run the command of a changed copy of it.
SHARED = ["snakemake.cli", "pandas", "jsonschema", "torch", "cv2", "scipy.ndimage"]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(SHARED)


def run(
    module: str, folder: Path, arguments: list, environment: Mapping[str, str]
) -> CompletedProcess:
    """Run the `main` of a module with these arguments in a folder; wait for its end."""
    words = [module, *map(str, arguments)]
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
    sys.argv = words
    try:
        import_module(words[0]).main()
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
