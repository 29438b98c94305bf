"""One thread for all numerical libraries, whatever else runs on the machine."""

import pytest
import threadpoolctl
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other by spinning take long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        yield
    torch.set_num_threads(threads)
