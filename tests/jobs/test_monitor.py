import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest

from fsad.jobs import monitor

BUSY = "import time\nwhile time.process_time() < {}: pass"
PIPELINE = """
import os, subprocess, sys
sys.stdin.readline()
for name in ("train_cls/a", "train_cls/b"):
    log = os.path.join(sys.argv[1], "logs", name + ".log")
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "w") as file:
        for _ in range(2):
            subprocess.run([sys.executable, "-c", sys.argv[2]], stdout=file, check=True)
print("done", flush=True)
sys.stdin.readline()
"""
SPENT = 0.6


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A monitored process that starts four busy ones, two for each of two logs."""
    folder = tmp_path_factory.mktemp("monitor")
    process = subprocess.Popen(
        [sys.executable, "-c", PIPELINE, folder, BUSY.format(SPENT)],
        **dict.fromkeys(("stdin", "stdout"), subprocess.PIPE),
        text=True,
    )
    command = [sys.executable, "-m", "fsad.cli", "monitor", str(process.pid)]
    watcher = subprocess.Popen([*command, "--out", folder / "out", "--cores", "2"])
    while not (folder / "out/timeline.csv").exists():
        assert watcher.poll() is None
        time.sleep(0.05)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"
    watcher.terminate()
    assert watcher.wait() == 0
    process.communicate("\n")
    return folder / "out"


def test_no_cpu_time_is_lost(watched):
    jobs = pd.read_csv(watched / "jobs.csv", index_col="job")
    assert jobs.loc["all", "cpu_seconds"] >= 4 * SPENT * 0.95
    assert jobs.loc["all", "mean_cores"] <= 1.3


def test_jobs_are_named_by_their_logs(watched):
    timeline = pd.read_csv(watched / "timeline.csv")
    assert tuple(timeline.columns) == monitor.COLUMNS
    assert {"all", "snakemake", "train_cls/a", "train_cls/b"} <= set(timeline["job"])
    named = timeline[timeline["job"].str.startswith("train_cls/")]
    assert len(named) > 4
    assert (timeline.groupby("job")["memory_mb"].max().loc["all"]) > 5


def test_the_plot_is_drawn(watched):
    assert "<svg" in (watched / "timeline.svg").read_text()


def test_processes_that_ended_are_counted():
    busy = [sys.executable, "-c", BUSY.format(0.2)]
    before = monitor.measure(psutil.Process())["all"].cpu
    for _ in range(3):
        subprocess.run(busy, check=True)
    assert monitor.measure(psutil.Process())["all"].cpu - before >= 0.57
