"""Limits on the threads and cores of a job."""

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
    """Limit OpenMP and BLAS to `threads`, and OpenCV to one thread.

    Environment variables limit libraries that are loaded later, threadpoolctl those
    that are loaded already. Neither limits OpenCV, which runs in a pool of `threads`
    image decoders.
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
    """Restrict this process and its children to `cores` randomly chosen CPUs.

    For a job with more threads than cores: its results depend on the number of its
    threads, its load must not. Does nothing where this is not supported (macOS).
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, random.sample(allowed, min(cores, len(allowed))))
