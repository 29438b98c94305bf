import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import psutil
import pytest

from fsad.jobs import monitor, timeline

SPENT = 0.1  # CPU seconds of each process
ROUNDING = 0.03  # the kernel counts in hundredths, user and system apart
BUSY = f"""
import os, sys, time
while time.process_time() < {SPENT}: pass
while sys.argv[1:] and not os.path.exists(sys.argv[1]): time.sleep(0.01)
"""
# For each log a process that may end between two samples, and one that is awaited.
PIPELINE = """
import os, subprocess, sys
folder, busy, *names = sys.argv[1:]
sys.stdin.readline()
for name in names:
    log = os.path.join(folder, "logs", name + ".log")
    os.makedirs(os.path.dirname(log))
    with open(log, "w") as file:
        for awaited in [], [log + ".seen"]:
            command = [sys.executable, "-c", busy, *awaited]
            subprocess.run(command, stdout=file, check=True)
print("done", flush=True)
sys.stdin.readline()
"""
NAMES = "train/original/own/bolt/k1_s111_seg", "embed/original/own/bolt"


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A monitored process that starts four busy ones, two for each of two logs."""
    folder = tmp_path_factory.mktemp("monitor")
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    command = [sys.executable, "-c", PIPELINE, folder, BUSY, *NAMES]
    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(command, **pipes, text=True) as process,
    ):
        patch.setattr(monitor, "INTERVAL", 0.05)
        threading.Thread(target=drive, args=(process, folder), daemon=True).start()
        monitor.watch(process.pid, folder)
        process.communicate("\n")
    signal.signal(signal.SIGTERM, before)
    timeline.summarise(folder, 2)
    return folder


def drive(process, folder):
    """Let the pipeline go on once its jobs have been seen, and end the monitor."""
    wait_for("", folder / "timeline.csv", process)
    process.stdin.write("\n")
    process.stdin.flush()
    for name in NAMES:
        wait_for(name, folder / "timeline.csv", process)
        (folder / f"logs/{name}.log.seen").touch()
    process.stdout.readline()
    signal.raise_signal(signal.SIGTERM)


def wait_for(text, path, process):
    """Wait until a file holds a text, or the process that leads to it has ended."""
    while process.poll() is None:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.01)


def test_no_cpu_time_is_lost(watched):
    jobs = pd.read_csv(watched / "jobs.csv", index_col="job")
    assert jobs.loc["all", "cpu_seconds"] >= 4 * (SPENT - ROUNDING)
    assert jobs.loc["all", "mean_cores"] <= 1.3


def test_jobs_are_named_by_their_logs(watched):
    table = pd.read_csv(watched / "timeline.csv")
    assert tuple(table.columns) == monitor.COLUMNS
    assert {"all", "snakemake", *NAMES} <= set(table["job"])
    assert set(table["job"]) <= {"all", "snakemake", "starting", *NAMES}
    assert table.groupby("job")["memory_mb"].max().loc["all"] > 5


def test_the_plot_is_drawn(watched):
    assert "<svg" in (watched / "timeline.svg").read_text()


def test_processes_that_ended_are_counted():
    before = monitor.measure(psutil.Process())["all"].cpu
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert monitor.measure(psutil.Process())["all"].cpu - before >= SPENT - ROUNDING
