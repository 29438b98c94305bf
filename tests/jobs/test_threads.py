import json
import os
import subprocess
import sys

import pytest

from fsad.jobs.threads import POOL_VARIABLES

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
import numpy, torch
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


@pytest.mark.parametrize("before", ["", "import numpy, torch"])
def test_torch_and_all_pools_keep_to_one_thread(before):
    found = report(before=before, call="limit_torch_threads(1)", after=TORCH)
    assert (found["within"], found["between"], found["opencv"]) == (1, 1, 1)
    assert set(found["pools"]) == {1}


def test_without_torch_it_is_not_imported():
    found = report(before="", call="limit_threads(1)", after=PLAIN)
    assert found == {"torch": False, "omp": "1", "opencv": 1, "pools": found["pools"]}
    assert set(found["pools"]) == {1}


CONFINED = """
import os
from fsad.jobs.threads import keep_to_cores
keep_to_cores(1)
print(len(os.sched_getaffinity(0)))
keep_to_cores(64)
print(len(os.sched_getaffinity(0)))
"""


def test_a_process_keeps_to_its_cores():
    command = [sys.executable, "-c", CONFINED]
    run = subprocess.run(command, capture_output=True, check=True)
    assert run.stdout.split() == [b"1", b"1"]
