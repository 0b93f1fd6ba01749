"""Waiting in tests, never for longer than a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], what: str = "what was waited for", timeout_s: float = 20.0) -> Any:
    """Wait for a condition to hold, and return its value."""
    end_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end_s, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.005)
    return value
