"""A real Slurm of two nodes, a job that is cancelled and a node that vanishes."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import pandas as pd
import psutil
import pytest
import yaml

from fsad.evaluation.metrics import METRICS, SELECTIONS
from helpers import REPOSITORY

CLUSTER = REPOSITORY / "tests/clusters/slurm.sh"
PROFILE = REPOSITORY / "profiles/slurm"
NAMESPACES = ("--mount", "--net", "--pid")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> list:
    """A running Slurm: what starts a command on its login node."""
    if shutil.which("slurmctld") is None or shutil.which("munged") is None:
        pytest.skip("Slurm is not installed: Debian's packages slurm-wlm and munge")
    if os.geteuid() != 0:
        pytest.skip("only root can start a Slurm in namespaces of its own")
    folder = tmp_path_factory.mktemp("slurm")
    options = [*NAMESPACES, "--fork", "--kill-child", "--mount-proc"]
    with (folder / "output").open("w") as output:
        command = ["setpriv", "--pdeathsig=KILL", "unshare", *options, CLUSTER, folder]
        cluster = subprocess.Popen(command, stdout=output, stderr=output)
    wait_for(lambda: (folder / "ready").exists() or cluster.poll() is not None)
    assert cluster.poll() is None, (folder / "output").read_text()
    (first,) = psutil.Process(cluster.pid).children()
    yield ["nsenter", "--target", str(first.pid), *NAMESPACES]
    cluster.kill()
    cluster.wait()


@pytest.fixture
def login(project, plugins, slurm):
    """The micro project on the login node."""
    project.launcher = slurm
    project.environment["PYTHONPATH"] = plugins
    return project


def wait_for(condition: Callable[[], object], seconds: int = 600):
    """The first result of `condition` that holds; fails when none does in time."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return result


def start(login, *arguments) -> subprocess.Popen:
    """Start the pipeline on the cluster; it looks at its jobs more often than usual."""
    options = ["--profile", PROFILE, "--cores", "2", "--latency-wait", "10"]
    options += ["--slurm-init-seconds-before-status-checks", "1"]
    options += ["--seconds-between-status-checks", "1", *arguments]
    with (login.folder / "output").open("w") as output:
        return subprocess.Popen(
            login.command(*options),
            cwd=login.folder,
            stdout=output,
            stderr=output,
            env=os.environ | login.environment,
        )


def finish(login, run: subprocess.Popen) -> tuple[int, str]:
    """Exit status and output of a run, once it has ended."""
    return run.wait(timeout=900), (login.folder / "output").read_text()


def squeue(login, *arguments) -> str:
    """The answer of `squeue`."""
    return login.run([*login.launcher, "squeue", "--noheader", *arguments]).stdout


def training_job(login) -> list[str]:
    """Number and node of a cluster job that is training."""
    logs = login.folder / "results/logs"
    wait_for(lambda: [*logs.glob("train*/**/*.log")])
    jobs = squeue(login, "--states=RUNNING", "--format=%i %N %k").splitlines()
    return next(job.split()[:2] for job in jobs if "train" in job)


def state(login, job: str) -> str:
    """How a job has ended."""
    return squeue(login, "--states=all", f"--jobs={job}", "--format=%T").strip()


def vanish(login, job: str, node: str) -> None:
    """Kill the daemon of a node and all that runs there."""
    first = psutil.Process(int(login.launcher[2]))
    for process in first.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            command = " ".join(process.cmdline())
            if (
                command == f"slurmd -N {node}"
                or command.startswith(f"slurmstepd: [{job}.")
                or process.environ().get("SLURM_JOB_ID") == job
            ):
                process.kill()


def test_the_demo_runs(login):
    """With and without training; a class and one shot do."""
    (login.folder / "config").symlink_to(REPOSITORY / "config")
    login.fsad("demo-data", "results/demo/data")
    demo = yaml.safe_load((REPOSITORY / "config/demo.yaml").read_text())
    methods = {name: demo["experiments"][name] for name in ("promptad", "patchcore")}
    demo["datasets"]["demo"]["classes"] = ["woven_fabric"]
    short = {"shots": [1], "epochs": 5, "vis": False, "experiments": methods}
    login.config.write_text(yaml.safe_dump(demo | short))
    status, output = finish(login, start(login))
    assert status == 0, output
    table = pd.read_csv(login.folder / "results/demo/tables/metrics.csv")
    metrics, selections = len(METRICS["cls"] + METRICS["seg"]), len(SELECTIONS)
    assert table["value"].notna().sum() == len(methods) * metrics * selections


@pytest.fixture
def without_runs(login, finished):
    """A finished project on the login node whose runs are to be made."""
    for name in (".snakemake", "results"):
        shutil.copytree(finished.folder / name, login.folder / name)
    for name in ("runs", "tables", "logs"):
        shutil.rmtree(login.folder / "results" / name)
    return login


def test_a_cancelled_job_runs_again(without_runs, finished):
    login, run = without_runs, start(without_runs)
    job, _ = training_job(login)
    login.run([*login.launcher, "scancel", job])
    status, output = finish(login, run)
    assert status == 0, output
    assert state(login, job) == "CANCELLED"
    assert login.tables() == finished.tables()
    # Of either class one, and one again.
    assert output.count("has been submitted with SLURM jobid") == 2 + 1


def test_after_a_node_has_vanished_a_second_run_completes_the_first(
    without_runs, finished
):
    login, run = without_runs, start(without_runs, "--retries", "0")
    job, node = training_job(login)
    vanish(login, job, node)
    status, output = finish(login, run)
    assert status == 1, output
    assert state(login, job) == "NODE_FAIL"

    status, output = finish(login, start(login))
    assert status == 0, output
    assert login.tables() == finished.tables()
