"""Jobs of worker processes that need no torch; a spawned process imports this module by its name."""

from __future__ import annotations

import time
from pathlib import Path

from offbeat.schedules.processes import Job
from offbeat.timing.clock import Clock
from offbeat.timing.profile import Stage


class Ticker:
    """A worker that is always ready, and raises at its n-th stage."""

    stage = Stage.SAMPLE

    def __init__(self, fails_at: int | None = None) -> None:
        self._left = fails_at

    def ready(self) -> bool:
        return True

    def start(self) -> None:
        time.sleep(0.005)
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                raise ValueError("broken on purpose")

    def finish(self) -> None:
        pass


def idle(clock: Clock) -> Job:
    """Nothing to do."""
    return Job([], time.sleep)


def ticking(clock: Clock) -> Job:
    """A stage every 5 ms."""
    return Job([Ticker()], time.sleep)


def failing(clock: Clock) -> Job:
    """A stage that raises the third time."""
    return Job([Ticker(fails_at=3)], time.sleep)


def unbuildable(clock: Clock) -> Job:
    """Raises before it is ready."""
    raise OSError("no such device")


def saving(path: Path, clock: Clock) -> Job:
    """Counts its checkpoints in a file."""

    def save() -> None:
        count = int(path.read_text()) if path.exists() else 0
        path.write_text(str(count + 1))

    return Job([Ticker()], time.sleep, save)
