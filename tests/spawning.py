"""Processes that a test starts and never leaves behind."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any


@contextmanager
def spawned(target: Callable[..., None], *arguments: Any) -> Iterator[BaseProcess]:
    """A process that is dead afterwards, whatever happens."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
