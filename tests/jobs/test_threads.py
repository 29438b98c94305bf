import json
import os
import subprocess
import sys

import pytest

from fsad.jobs import threads
from fsad.jobs.threads import POOL_VARIABLES, keep_to_cores

LIMITED = """
import json
{before}
from fsad.jobs.threads import limit_threads, limit_torch_threads
{call}
{call}
{after}
import cv2, threadpoolctl
pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
print(json.dumps({{"opencv": cv2.getNumThreads(), "pools": pools, **report}}))
"""
TORCH = """
report = {
    "within": torch.get_num_threads(), "between": torch.get_num_interop_threads()
}
"""
PLAIN = """
import os, sys, numpy
report = {"torch": "torch" in sys.modules, "omp": os.environ["OMP_NUM_THREADS"]}
"""


def report(**parts):
    environment = {n: v for n, v in os.environ.items() if n not in POOL_VARIABLES}
    command = [sys.executable, "-c", LIMITED.format(**parts)]
    run = subprocess.run(command, env=environment, capture_output=True, check=True)
    return json.loads(run.stdout)


def test_torch_and_pools_that_are_loaded_keep_to_one_thread():
    before, call = "import numpy, torch", "limit_torch_threads(1)"
    found = report(before=before, call=call, after=TORCH)
    assert (found["within"], found["between"], found["opencv"]) == (1, 1, 1)
    assert set(found["pools"]) == {1}


def test_pools_that_are_loaded_later_keep_to_one_thread_without_torch():
    found = report(before="", call="limit_threads(1)", after=PLAIN)
    assert found == {"torch": False, "omp": "1", "opencv": 1, "pools": found["pools"]}
    assert set(found["pools"]) == {1}


@pytest.mark.parametrize(("cores", "kept"), [(1, 1), (3, 3), (64, 4)])
def test_a_process_keeps_to_its_cores(monkeypatch, cores, kept):
    allowed, chosen = {1, 2, 5, 6}, []
    system = {"sched_getaffinity": lambda _: allowed}
    system["sched_setaffinity"] = lambda _, cpus: chosen.extend(cpus)
    for name, function in system.items():
        monkeypatch.setattr(threads.os, name, function, raising=False)
    keep_to_cores(cores)
    assert len(chosen) == len(set(chosen)) == kept
    assert set(chosen) <= allowed
