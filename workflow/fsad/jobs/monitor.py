"""Monitor of a running pipeline: cores and memory of each job and in total."""

import atexit
import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

INTERVAL = 0.25  # seconds between samples
ALL, OWN, STARTING = "all", "snakemake", "starting"  # names for rows without a job name
COLUMNS = "seconds", "job", "cores", "memory_mb"


class Usage(NamedTuple):
    """CPU seconds since the start, and resident bytes, including shared pages."""

    cpu: float
    memory: int

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu + other.cpu, self.memory + other.memory)


def start_monitor(pid: int, folder: str | Path, cores: int) -> None:
    """Start a process that monitors process `pid` until this process ends."""
    command = [sys.executable, "-m", "fsad.cli", "monitor", str(pid)]
    command += ["--out", str(folder), "--cores", str(cores)]
    process = subprocess.Popen(command, start_new_session=True)
    atexit.register(process.wait)  # last
    atexit.register(process.terminate)


def watch(pid: int, folder: str | Path) -> None:
    """Sample a process and its descendants into timeline.csv until it ends.

    SIGTERM ends the sampling after one more sample.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with open(folder / "timeline.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for rows in _samples(pid, stopped):
            writer.writerows(rows)
            file.flush()


def _samples(pid: int, stopped: threading.Event) -> Iterator[list[tuple]]:
    """Rows of each sample after the first, which is only their baseline."""
    root, names, before = psutil.Process(pid), {}, {}
    start = last = time.monotonic()
    while root.is_running():
        with suppress(psutil.NoSuchProcess):
            usage, now = measure(root), time.monotonic()
            _name_jobs(root, names)
            if before:
                yield _rows(usage, before, names, now - start, now - last)
            before, last = usage, now
        if stopped.is_set():
            return
        stopped.wait(INTERVAL)


def _rows(
    usage: dict[int | str, Usage],
    before: dict[int | str, Usage],
    names: dict[int, str],
    time: float,
    step: float,
) -> list[tuple]:
    """Rows of the usage since the last sample.

    The kernel also counts the CPU seconds of ended processes, so that nothing between
    two samples is lost.
    """
    rows = defaultdict(lambda: Usage(0, 0))
    for key, used in usage.items():
        spent = max(0, used.cpu - before.get(key, Usage(0, 0)).cpu)
        name = names.get(key, STARTING) if isinstance(key, int) else key
        rows[name] += Usage(spent / step, used.memory)
    return [
        (round(time, 3), name, round(cpu, 3), round(memory / 2**20, 1))
        for name, (cpu, memory) in rows.items()
    ]


def measure(root: psutil.Process) -> dict[int | str, Usage]:
    """Usage of each job by process ID, of the root (`snakemake`), and of `all`.

    A job is a child of the root with its descendants.
    """
    jobs = {child.pid: _total([child, *_descendants(child)]) for child in _jobs(root)}
    own = _total([root], ended=False)
    return jobs | {OWN: own, ALL: sum(jobs.values(), own + Usage(_ended(root), 0))}


def _jobs(root: psutil.Process) -> list[psutil.Process]:
    return [child for child in root.children() if child.pid != os.getpid()]


def _name_jobs(root: psutil.Process, names: dict[int, str]) -> None:
    """Name each new job by the path of its log file below `logs`."""
    for job in (job for job in _jobs(root) if job.pid not in names):
        for process in (job, *_descendants(job)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                for file in process.open_files():
                    _, found, name = file.path.partition("/logs/")
                    if found:
                        names[job.pid] = str(Path(name).with_suffix(""))


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _total(processes: list[psutil.Process], ended: bool = True) -> Usage:
    total = Usage(0, 0)
    for process in processes:
        with suppress(psutil.NoSuchProcess), process.oneshot():
            times = process.cpu_times()
            cpu = times.user + times.system + (_ended(process) if ended else 0)
            total += Usage(cpu, process.memory_info().rss)
    return total


def _ended(process: psutil.Process) -> float:
    """CPU seconds of the children that have ended."""
    times = process.cpu_times()
    return times.children_user + times.children_system
