"""What a pipeline uses while it runs: cores and memory of each job, and of all."""

import atexit
import csv
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

INTERVAL = 0.25  # seconds between samples
ALL, OWN = "all", "snakemake"
COLUMNS = "seconds", "job", "cores", "memory_mb"


class Usage(NamedTuple):
    """CPU seconds since the start, and resident memory in bytes, shared pages too."""

    cpu: float
    memory: int

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu + other.cpu, self.memory + other.memory)


def start_monitor(pid: int, folder: str | Path, cores: int) -> None:
    """Watch a process from another one, until this one ends."""
    command = [sys.executable, "-m", "promptad.cli", "monitor", str(pid)]
    command += ["--out", str(folder), "--cores", str(cores)]
    process = subprocess.Popen(command, start_new_session=True)
    atexit.register(_finish, process)


def _finish(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait()


def watch(pid: int, folder: str | Path) -> None:
    """Sample a process and all it starts into timeline.csv, until it or this one ends.

    SIGTERM ends it after a last sample.
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
    """Rows of each sample, the first of which only tells where the others start."""
    root, labels, before = psutil.Process(pid), {}, {}
    start = last = time.monotonic()
    while root.is_running():
        with suppress(psutil.NoSuchProcess):
            usage, now = measure(root, labels), time.monotonic()
            if before:
                yield _rows(usage, before, now - start, now - last)
            before, last = usage, now
        if stopped.is_set():
            return
        stopped.wait(INTERVAL)


def _rows(
    usage: dict[str, Usage], before: dict[str, Usage], time: float, step: float
) -> list[tuple]:
    """What was used since the last sample. The kernel counts CPU seconds, those of
    ended processes too, so nothing between two samples is lost."""
    rows = []
    for name, used in usage.items():
        spent = used.cpu - before.get(name, Usage(0, 0)).cpu
        cores = round(max(spent, 0) / step, 3)
        rows.append((round(time, 3), name, cores, round(used.memory / 2**20, 1)))
    return rows


def measure(root: psutil.Process, labels: dict[int, str]) -> dict[str, Usage]:
    """Usage of each job below a process, of the process itself, and of all.

    labels: names of the jobs seen so far, by process; filled here.
    """
    jobs = {}
    for child in root.children():
        if child.pid != psutil.Process().pid:
            tree = [child, *_descendants(child)]
            name = labels.get(child.pid) or _label(tree)
            if name:
                labels[child.pid] = name
            jobs[name or f"process {child.pid}"] = _total(tree)
    own = _total([root], ended=False)
    ended = Usage(_ended(root), 0)
    return jobs | {OWN: own, ALL: sum(jobs.values(), own + ended)}


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _total(processes: list[psutil.Process], ended: bool = True) -> Usage:
    total = Usage(0, 0)
    for process in processes:
        with suppress(psutil.NoSuchProcess), process.oneshot():
            times = process.cpu_times()
            cpu = times.user + times.system
            cpu += _ended(process) if ended else 0
            total += Usage(cpu, process.memory_info().rss)
    return total


def _ended(process: psutil.Process) -> float:
    """CPU seconds of the children that have ended."""
    times = process.cpu_times()
    return times.children_user + times.children_system


def _label(tree: list[psutil.Process]) -> str | None:
    """A job's name: the log file that its process writes, below `logs`."""
    for process in tree:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            for file in process.open_files():
                parts = Path(file.path).parts
                if file.path.endswith(".log") and "logs" in parts:
                    below = parts[parts.index("logs") + 1 :]
                    return "/".join(below).removesuffix(".log")
    return None
