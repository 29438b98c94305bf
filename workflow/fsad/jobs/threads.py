"""Keep one job within its thread budget."""

import os
import random

import cv2
import threadpoolctl

POOL_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def limit_threads(threads: int) -> None:
    """Limit OpenMP and BLAS, loaded already or later, to `threads`, OpenCV to one.

    Environment variables reach the libraries that are loaded afterwards,
    threadpoolctl those that are loaded. OpenCV heeds neither, and works within a
    pool of `threads` image decoders already.
    """
    for variable in POOL_VARIABLES:
        os.environ[variable] = str(threads)
    cv2.setNumThreads(1)
    threadpoolctl.threadpool_limits(threads)


def limit_torch_threads(threads: int) -> None:
    """Limit torch to `threads` within an operation and one operation at a time."""
    limit_threads(threads)
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)


def keep_to_cores(cores: int) -> None:
    """Let this process and what it starts use but `cores` of its CPUs, any of them.

    For a job with more threads than cores: its numbers stay those of its threads, and
    its load that of its cores. Does nothing where the system cannot (macOS).
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, random.sample(allowed, min(cores, len(allowed))))
