"""One thread for all numerical libraries, whatever else runs on the machine."""

import pytest
import threadpoolctl


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other by spinning are slow on a busy machine."""
    with threadpoolctl.threadpool_limits(1):
        yield
