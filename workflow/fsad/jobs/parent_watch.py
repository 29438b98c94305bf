"""End of a job together with the Snakemake process that started it."""

import os
import threading
import time

import psutil

SNAKEMAKE_PID = "FSAD_SNAKEMAKE_PID"  # environment variable, set by the Snakefile
POLL_SECONDS = 1


def end_with_snakemake() -> None:
    """Start a thread that ends this process once its Snakemake process is gone."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = os.getppid()
    snakemake = int(os.environ.get(SNAKEMAKE_PID, parent))
    while os.getppid() == parent and psutil.pid_exists(snakemake):
        time.sleep(POLL_SECONDS)
    os._exit(1)
