"""What holds for the whole suite."""

import multiprocessing
import os

import pytest

SANITIZED = os.environ.get("TIGHTBATCH_SANITIZED") == "1"


def pytest_configure(config):
    config.addinivalue_line("markers", "forks: forks a process that may have threads")
    if SANITIZED:
        # A child forked while another thread allocates waits for AddressSanitizer's lock forever.
        multiprocessing.set_start_method("spawn")


def pytest_collection_modifyitems(items):
    reason = "AddressSanitizer's allocator does not survive a fork beside other threads"
    for item in items:
        if SANITIZED and item.get_closest_marker("forks"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def one_thread():
    """Two threads that wait for each other take many times longer on a machine that is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
