"""Real time: the clock of runs on hardware, and of simulated ones that have to hold real deadlines.

`sleep_until` sleeps to just before the deadline and spins through the rest, since a sleep ends late by what the
system's scheduler takes and a spin by about a microsecond:

    |check|......sleep......|check|......sleep......|spin|deadline
           '--- 50 ms at most --'                   '- spin_s
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from offbeat.timing.clock import StageListener
from offbeat.timing.profile import Stage

CHECK_S = 0.05
"""The longest sleep without a call of `check` (s)."""


class WallClock:
    """`time.monotonic()` counted from an epoch. Implements Clock.

    The system counts it from one instant for all its processes, so clocks of one epoch agree in every process.
    """

    epoch_s: float
    """What `time.monotonic()` said when this clock was at 0 s."""

    def __init__(
        self,
        epoch_s: float | None = None,
        on_stage: StageListener | None = None,
        spin_s: float = 0.0005,
        check: Callable[[], None] | None = None,
        on_pause: Callable[[bool], None] | None = None,
    ) -> None:
        """A clock whose 0 s is `epoch_s` of `time.monotonic()`, or now.

        on_stage: called with (stage, begin_s, end_s) at the end of every stage. spin_s: how long before a deadline
        sleeping turns into spinning (s). check: called at the beginning of every `sleep_until` and every 50 ms in it,
        never just before a deadline; what it raises (a worker has died) ends the sleep. on_pause: called with the
        new value when `paused` is set.
        """
        self.epoch_s = time.monotonic() if epoch_s is None else epoch_s
        self._on_stage = on_stage
        self._spin_s = spin_s
        self._check = check
        self._on_pause = on_pause
        self._paused = False
        self._blocks = {stage: _Block(self, stage) for stage in Stage}

    @property
    def paused(self) -> bool:
        """True: the workers beside the interaction are asked to start no new stage (running ones end)."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._paused = paused
        if self._on_pause is not None:
            self._on_pause(paused)

    def now(self) -> float:
        """Time since the run began (s)."""
        return time.monotonic() - self.epoch_s

    def sleep_until(self, deadline_s: float) -> float:
        """Sleep, then spin, until `deadline_s`; return how late it is then (s), about 1e-6 when all went well.

        Raises: whatever `check` raises.
        """
        # Deadlines are compared on the run's scale, as `now` gives it: no two roundings of one deadline.
        while True:
            if self._check is not None:
                self._check()
            left_s = deadline_s - self._spin_s - self.now()
            if left_s <= 0.0:
                break
            time.sleep(min(left_s, CHECK_S))
            if left_s <= CHECK_S:
                break
        while (now_s := self.now()) < deadline_s:
            pass
        return now_s - deadline_s

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """A block that costs what it takes; one that raises is not recorded."""
        return self._blocks[stage]

    def record(self, stage: Stage, begin_s: float, end_s: float) -> None:
        """Tell the listener of a stage that ran from `begin_s` to `end_s` (s)."""
        if self._on_stage is not None:
            self._on_stage(stage, begin_s, end_s)


class _Block:
    """The context manager of one stage, made once and entered every cycle; a stage does not nest in itself."""

    def __init__(self, clock: WallClock, stage: Stage) -> None:
        self._clock = clock
        self._stage = stage
        self._begin_s = 0.0

    def __enter__(self) -> None:
        self._begin_s = self._clock.now()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._clock.record(self._stage, self._begin_s, self._clock.now())
