"""What every test relies on: one torch thread, and tests of absent devices skipped by name."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch start their pools

import signal
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# A shell that starts the tests in the background has them ignore Ctrl-C, and every process they start as well.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)

# Two test processes share two cores, so a slow example says nothing about the code; failures must repeat.
settings.register_profile("offbeat", deadline=None, derandomize=True)
settings.load_profile("offbeat")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --hardware, without which no test moves a real robot."""
    parser.addoption("--hardware", action="store_true", help="run tests that move a real robot")
    parser.addoption("--train-minutes", type=float, default=0.5, help="how long a slow test trains on a served arm")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests whose device is not there."""
    for item in items:
        if "hardware" in item.keywords and not config.getoption("--hardware"):
            item.add_marker(pytest.mark.skip(reason="moves a real robot: give --hardware"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _scheduler_is_left_alone() -> Iterator[None]:
    """A thread raised by one test, as the makers' libraries do, would have the next ones' processes raised as well."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before
