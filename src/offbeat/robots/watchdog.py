"""The guard of an arm: it stands still when nobody steers it any more, however that came about."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from offbeat.robots.base import Robot
from offbeat.timing.clock import Clock
from offbeat.types import FloatArray

STILL_RAD_S = 0.005
"""An arm none of whose joints is faster than this (rad/s) stands still; what the bag's swing does to it is less."""


class Watchdog:
    """Holds an arm's velocity while commands are fresh, and ramps it to a stand when they are not.

    Every stop is told to `report(event, time_s=..., stale_s=...)`: the event is "watchdog", or what `stop` was given,
    and `stale_s` the age of the newest command. When the arm stands, "still" follows with `time_s` and
    `still_after_s`, counted from that command, or 0.0 when the arm was standing before; or, when a fresh command
    moves the arm again, "resumed" with `time_s` and `stale_s`.
    """

    def __init__(
        self,
        robot: Robot,
        speeds: Callable[[], FloatArray],
        clock: Clock,
        limit_s: float,
        report: Callable[..., None],
    ) -> None:
        """speeds: the arm's joint velocities (N,) rad/s now. limit_s: the age (s) at which a command is not fresh."""
        self._robot, self._speeds, self._clock = robot, speeds, clock
        self._limit_s, self._report = limit_s, report
        self._command: tuple[FloatArray, float] | None = None  # not yet obeyed
        self._sent_s = clock.now()
        self._moving = False  # what the arm was told, not what it does
        self._stopped = False  # by a stop of this guard
        self._stand_is_due = False

    @property
    def standing(self) -> bool:
        """Whether the arm was told to stand, and does."""
        return not self._moving and float(np.abs(self._speeds()).max()) <= STILL_RAD_S

    def command(self, joint_rad_s: FloatArray, sent_s: float) -> None:
        """Hold this velocity (N,) rad/s from the first step after `sent_s` (s) on, unless it is not fresh then."""
        self._command = joint_rad_s, sent_s

    def step(self) -> None:
        """To be called at every step of the arm. Raises: what the arm's `command_velocity` raises."""
        now_s = self._clock.now()
        if self._command is not None and self._command[1] <= now_s:
            self._obey(*self._command)
        if self._moving and now_s - self._sent_s >= self._limit_s:
            self.stop("watchdog")
        elif self._stand_is_due and self.standing:
            self._stand_is_due = False
            self._report("still", time_s=now_s, still_after_s=now_s - self._sent_s)

    def stop(self, event: str, **facts: str) -> None:
        """Ramp to a stand, and tell so as this event, with these facts as well."""
        now_s, stood = self._clock.now(), self.standing
        self._report(event, time_s=now_s, stale_s=now_s - self._sent_s, **facts)
        self._rest()
        self._stopped, self._stand_is_due = True, not stood
        if stood:
            self._report("still", time_s=now_s, still_after_s=0.0)

    def forget(self) -> None:
        """The arm was put somewhere, where it stands: whatever it was told before is void."""
        self._rest()
        self._stopped = self._stand_is_due = False

    def _obey(self, joint_rad_s: FloatArray, sent_s: float) -> None:
        self._command = None
        now_s = self._clock.now()
        if now_s - sent_s >= self._limit_s:
            return
        self._sent_s, self._moving = sent_s, bool(np.any(joint_rad_s))
        self._robot.command_velocity(joint_rad_s)
        if self._moving and self._stopped:
            self._stopped = self._stand_is_due = False
            self._report("resumed", time_s=now_s, stale_s=now_s - sent_s)

    def _rest(self) -> None:
        self._command, self._moving = None, False
        self._robot.stop()
