"""The profiles: a shared server, its GPUs, and a cluster with qsub."""

import os
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata
from itertools import chain

import pytest
from packaging.requirements import Requirement

from helpers import REPOSITORY

PROFILES = REPOSITORY / "profiles"
CLUSTER = REPOSITORY / "tests/clusters/gridengine.sh"
IMAGE = "data/bolt/test/hole/001.png"


@pytest.mark.parametrize(
    ("profile", "provided"),
    [
        ("workstation", {'mem_mb=Resource("mem_mb", 64000)'}),
        ("gpu", {'mem_mb=Resource("mem_mb", 64000)', 'gpu=Resource("gpu", 6)'}),
    ],
)
def test_a_server_shares_out_cores_memory_and_gpus(project, profile, provided):
    target = "results/cache/own/bolt/masks_r32.npz"
    run = project.run(project.command("--profile", PROFILES / profile, target))
    assert "Provided cores: 40\n" in run.stderr
    found = re.search(r"Provided resources: (.*)\n", run.stderr)[1]
    assert set(re.findall(r"\w+=\w+\(.*?\)", found)) == provided


def test_options_that_replace_those_of_the_gpus_are_told(project):
    profile = PROFILES / "gpu"
    given = "--profile", profile, "--dry-run", "--config", "epochs=3"
    run = project.run(project.command(*given), check=False)
    assert run.returncode == 1
    assert "config: device: is cpu, with GPUs among the resources" in run.stdout


@pytest.fixture
def gridengine(tmp_path, monkeypatch):
    """A folder that becomes a Grid Engine's, with its commands on PATH."""
    folder = tmp_path / "gridengine"
    folder.mkdir()
    for name in ("qsub", "qstat", "qacct", "qdel"):
        (folder / name).symlink_to(CLUSTER)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("GRIDENGINE", str(folder))
    return folder


def requests(gridengine, group):
    """Slots, memory in MB and seconds asked for by the cluster jobs of a group."""
    pattern = r"-pe smp (\d+) -l mem_free=(\d+)M -l h_rt=(\d+) "
    jobs = sorted(gridengine.glob("*.script"))
    calls = [j.with_suffix(".call") for j in jobs if f'"{group}"' in j.read_text()]
    return [
        tuple(map(int, re.search(pattern, call.read_text()).groups())) for call in calls
    ]


def test_a_cluster_gives_the_tables_of_this_machine(
    project, finished, plugins, gridengine
):
    project.environment["PYTHONPATH"] = plugins
    profile = ["--profile", PROFILES / "cluster-generic", "--retries", "1"]
    profile += ["--seconds-between-status-checks", "1", "--latency-wait", "5"]
    image = project.folder / IMAGE
    whole = image.read_bytes()
    image.write_bytes(whole[:100])

    failed = project.snakemake(*profile, check=False)
    assert failed.returncode == 1
    assert f"error: {IMAGE}: cannot be read" in failed.stdout + failed.stderr
    done = (project.folder / "results/runs").rglob("metrics.json")
    assert {path.parts[-5] for path in done} == {"metal_nut"}
    (slots, memory, seconds), again = requests(gridengine, "prepare_own_bolt")
    assert slots == 2
    assert again[1] > memory
    assert again[2] == 2 * seconds

    image.write_bytes(whole)
    project.snakemake(*profile)
    assert project.tables() == finished.tables()
    for group, jobs in {"prepare": 3, "embed": 1, "train": 1}.items():
        assert len(requests(gridengine, f"{group}_own_bolt")) == jobs
        assert len(requests(gridengine, f"{group}_own_metal_nut")) == 1


def test_a_cluster_job_asks_for_one_gpu(project, finished, plugins, gridengine):
    for name in (".snakemake", "results"):
        shutil.copytree(finished.folder / name, project.folder / name)
    project.environment["PYTHONPATH"] = plugins
    submit = "echo {resources.gpu} {threads} >>gpus; false"
    profile = ["--profile", PROFILES / "cluster-generic", "--retries", "0"]
    profile += ["--cluster-generic-submit-cmd", submit, "--config", "device=cuda"]
    project.snakemake(*profile, check=False)
    # Of either class one job.
    assert (project.folder / "gpus").read_text() == 2 * "1 1\n"


def status_of(script, job):
    """What a status script of the profile prints."""
    command = [PROFILES / "cluster-generic" / script, job]
    return subprocess.check_output(command, text=True).strip()


@pytest.mark.parametrize(
    ("command", "status"), [("exit 0", "success"), ("exit 3", "failed")]
)
def test_status_of_a_job_of_grid_engine(gridengine, command, status):
    script = gridengine / "job.sh"
    script.write_text(
        f"while ! test -e {gridengine}/end; do sleep 0.1; done; {command}"
    )
    job = subprocess.check_output(["qsub", script], text=True).strip()
    assert status_of("gridengine_status.sh", job) == "running"
    (gridengine / "end").touch()
    while (gridengine / f"{job}.running").exists():
        time.sleep(0.1)
    assert status_of("gridengine_status.sh", job) == status


def test_a_deleted_job_has_failed(gridengine):
    script = gridengine / "job.sh"
    script.write_text("sleep 600")
    job = subprocess.check_output(["qsub", script], text=True).strip()
    subprocess.run(["qdel", job], check=True)
    assert status_of("gridengine_status.sh", job) == "failed"


@pytest.mark.parametrize(
    ("account", "status"),
    [
        ("job_state = Q", "running"),
        ("job_state = R", "running"),
        ("job_state = F\nExit_status = 0", "success"),
        ("job_state = F\nExit_status = 271", "failed"),
        ("", "failed"),
    ],
)
def test_status_of_a_job_of_pbs(tmp_path, monkeypatch, account, status):
    (tmp_path / "qstat").write_text(f"#!/bin/sh\nprintf '{account}\\n'\n")
    (tmp_path / "qstat").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert status_of("pbs_status.sh", "7.server") == status


def test_what_the_executors_for_clusters_require_is_in_the_environment(plugins):
    path = [plugins.split(os.pathsep)[-1], *sys.path]
    executors = list(metadata.distributions(path=path[:1]))
    assert len(executors) == 3
    found = {
        d.name.lower().replace("_", "-"): d for d in metadata.distributions(path=path)
    }
    for text in chain.from_iterable(executor.requires for executor in executors):
        wanted = Requirement(text)
        assert found[wanted.name.lower()].version in wanted.specifier, text
