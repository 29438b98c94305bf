"""Slots of GPUs; no GPU is needed."""

import errno
import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from fsad.errors import UserError
from fsad.jobs import gpus
from fsad.jobs.gpus import VISIBLE, gpu_slot, visible_gpus

HOLDER = """
import sys
from fsad.jobs.gpus import gpu_slot
with gpu_slot({"gpus": [0], "jobs_per_gpu": 1, "results": sys.argv[1]}):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def config(tmp_path):
    return {"gpus": [0, 1], "jobs_per_gpu": 2, "results": tmp_path}


@pytest.fixture
def take(config, monkeypatch):
    """Takes a slot; returns its GPU, and a function that frees it."""
    with ExitStack() as stack:

        def slot():
            monkeypatch.setenv(VISIBLE, "7,GPU-b")
            held = stack.enter_context(ExitStack())
            held.enter_context(gpu_slot(config))
            return os.environ[VISIBLE], held.close

        yield slot


def test_each_job_has_a_slot_and_waits_while_all_are_taken(take, monkeypatch):
    taken = [take() for _ in range(4)]
    assert sorted(gpu for gpu, _ in taken) == ["7", "7", "GPU-b", "GPU-b"]
    gpu, free = taken[2]
    pauses = []
    monkeypatch.setattr(gpus.time, "sleep", lambda _: pauses.append(1) or free())
    assert take()[0] == gpu
    assert len(pauses) == 1


def test_jobs_are_spread_over_all_gpus_first(take):
    assert [take()[0] for _ in range(2)] == ["7", "GPU-b"]


def test_a_killed_job_frees_its_slot(tmp_path, monkeypatch):
    command = [sys.executable, "-c", HOLDER, tmp_path]
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    environment = os.environ | {VISIBLE: "0"}
    process = subprocess.Popen(command, env=environment, **pipes)
    assert process.stdout.readline() == b"held\n"

    def kill(_):
        process.kill()
        process.communicate()

    monkeypatch.setattr(gpus.time, "sleep", kill)
    monkeypatch.setenv(VISIBLE, "0")
    with gpu_slot({"gpus": [0], "jobs_per_gpu": 1, "results": tmp_path}):
        assert process.returncode is not None


def test_without_gpus_nothing_is_held(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "3")
    with gpu_slot({"gpus": [], "jobs_per_gpu": 1, "results": tmp_path}):
        assert os.environ[VISIBLE] == "3"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("visible", "names"), [(None, ["0", "2"]), ("5,6,GPU-x", ["5", "GPU-x"])]
)
def test_gpus_are_indices_among_the_visible_ones(visible, names):
    assert visible_gpus([0, 2], visible) == names


@pytest.mark.parametrize(("visible", "count"), [("4,5", 2), ("-1", 0), ("4,-1,5", 1)])
def test_a_gpu_that_is_not_visible_is_named(visible, count):
    message = f"gpus: 2 asked for, CUDA_VISIBLE_DEVICES={visible} shows {count};"
    with pytest.raises(UserError, match=message):
        visible_gpus([0, 2], visible)


def test_slots_need_a_file_system_with_locks(config, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(gpus.fcntl, "flock", refuse)
    monkeypatch.setenv(VISIBLE, "0,1")
    refused = pytest.raises(UserError, match=r"gpus: .*lock cannot be locked")
    with refused, gpu_slot(config):
        pass


@pytest.mark.parametrize("name", ["MIG-GPU-89/1/2", "../../outside", "a" * 300])
def test_a_slot_is_held_whatever_the_name_of_the_gpu(config, monkeypatch, name):
    monkeypatch.setenv(VISIBLE, f"0,{name}")
    with gpu_slot(config | {"gpus": [1], "jobs_per_gpu": 1}):
        assert os.environ[VISIBLE] == name
        locks = [*config["results"].rglob("*.lock")]
        assert locks == [config["results"] / "locks/gpu1_0.lock"]
