"""Slots of GPUs, taken by processes of their own; no GPU is needed."""

import errno
import os
import select
import signal
import subprocess
import sys

import pytest

from fsad.errors import UserError
from fsad.jobs import gpus
from fsad.jobs.gpus import VISIBLE, gpu_slot, visible_gpus

HOLDER = """
import os, sys
from fsad.jobs.gpus import VISIBLE, gpu_slot
config = {"gpus": [0, 1], "jobs_per_gpu": 2, "results": sys.argv[1]}
print("ready", flush=True)
with gpu_slot(config):
    print(os.environ[VISIBLE], flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def hold(tmp_path):
    """Starts processes that take a slot, say which GPU, and keep it until told."""
    started = []

    def start():
        command = [sys.executable, "-c", HOLDER, tmp_path]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        environment = os.environ | {VISIBLE: "7,GPU-b"}
        process = subprocess.Popen(command, env=environment, bufsize=0, **pipes)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_each_job_has_a_slot_and_a_killed_one_frees_it(hold):
    holders = [hold() for _ in range(4)]
    gpus = [process.stdout.readline().strip() for process in holders]
    assert sorted(gpus) == ["7", "7", "GPU-b", "GPU-b"]
    waiting = hold()
    assert select.select([waiting.stdout], [], [], 1)[0] == []
    holders[2].send_signal(signal.SIGKILL)
    assert waiting.stdout.readline().strip() == gpus[2]


def test_an_ended_job_frees_its_slot(hold):
    holders = [hold() for _ in range(4)]
    gpus = [process.stdout.readline().strip() for process in holders]
    holders[1].communicate("\n")
    assert holders[1].returncode == 0
    assert hold().stdout.readline().strip() == gpus[1]


def test_without_gpus_nothing_is_held(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "3")
    with gpu_slot({"gpus": [], "jobs_per_gpu": 1, "results": tmp_path}):
        assert os.environ[VISIBLE] == "3"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("visible", "names"), [(None, ["0", "2"]), ("5,6,GPU-x", ["5", "GPU-x"])]
)
def test_gpus_count_those_that_the_parent_shows(visible, names):
    assert visible_gpus([0, 2], visible) == names


def test_a_gpu_that_the_parent_hides_is_told():
    with pytest.raises(UserError, match="gpus: 2 asked for, CUDA_VISIBLE_DEVICES=4,5"):
        visible_gpus([0, 2], "4,5")


def test_slots_need_a_file_system_with_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(gpus.fcntl, "flock", refuse)
    config = {"gpus": [0], "jobs_per_gpu": 1, "results": tmp_path}
    refused = pytest.raises(UserError, match=r"gpus: .*lock cannot be locked")
    with refused, gpu_slot(config):
        pass
