"""Ctrl-C and SIGTERM as requests that are answered where nothing can be left half done."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any


class StopSignals:
    """A context in which Ctrl-C and SIGTERM wait for the next `check`; a second one does what it always did."""

    def __init__(self) -> None:
        """Nothing is caught before the context is entered."""
        self._number = 0
        self._before: dict[int, Any] = {}

    def check(self) -> None:
        """Raises: KeyboardInterrupt after Ctrl-C, SystemExit with code 143 after SIGTERM; once."""
        number, self._number = self._number, 0
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number:
            raise SystemExit(128 + number)

    def __enter__(self) -> StopSignals:
        """Catch both, where that is possible: only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        """Give both back."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _catch(self, number: int, _: FrameType | None) -> None:
        self._number = number
        signal.signal(number, self._before.pop(number))


def end_processes(processes: Iterable[subprocess.Popen[bytes]], number: signal.Signals, patience_s: float) -> None:
    """Ask processes to end by a signal, all at once, and kill those that have not ended `patience_s` later each."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(number)
    for process in running:
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
