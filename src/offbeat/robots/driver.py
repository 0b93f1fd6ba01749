"""The process that drives a real arm: it hands states and commands through, and watches over the arm.

    every 4 ms    read_state ------> state cell
                  command cell ----> command_velocity, when it is new and fresh
                                     stop, when none has been fresh for the watchdog's time

An arm that stops by itself (RobotFaultError) is recovered as soon as it stands, up to so many times a minute:

    driving --fault--> braking --stands--> recovering (a thread: the driver's library may take seconds) --> driving

Meanwhile no command reaches it, and the state cell says where it stands. Everything goes into the log, as in
`served.ServedRig`, with two events more:

    {"event": "fault", "time_s": 3.2, "stale_s": 0.01, "cause": "...", "late_s": 0.0}
    {"event": "recovered", "time_s": 3.4, "after_s": 0.2, "late_s": 0.0}
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Any

import numpy as np

from offbeat.errors import RobotError, RobotFaultError
from offbeat.robots.base import RobotSetup
from offbeat.robots.link import MAX_STATE_AGE_S, Cells, Commands, Order
from offbeat.robots.registry import make_robot
from offbeat.robots.service import LEAVE, EventLog, Line
from offbeat.robots.vendor import let_go
from offbeat.robots.watchdog import STILL_RAD_S, Watchdog
from offbeat.timing.wall import WallClock
from offbeat.types import RobotState

PERIOD_S = 0.004
"""Time between two looks at the arm and at the command cell (s)."""

_STAND_S = 2.0  # the longest wait for a stand, before leaving and before recovering
_BLIND_S = 0.1  # the same, before recovering an arm that gives no state meanwhile: its reflex is faster
_RAMP_S = 0.25  # from a policy's speed to a stand, when the state of the arm cannot be read any more
_MINUTE_S = 60.0


class Driver:
    """An arm of a driver of the registry, at the service of whoever has the other end of cells and line."""

    def __init__(self, order: Order, cells: Cells, line: Line) -> None:
        """Raises: OSError when the log cannot be opened; DriverError, and what the driver raises."""
        self._cells, self._line = cells, line
        self._clock = WallClock(order.epoch_s, spin_s=0.0)
        self._late_s = 0.0
        self._log = EventLog(order.log)
        hardware, name = order.hardware, order.config.robot
        setup = RobotSetup(name, hardware.host, self._clock, order.watchdog_s, hardware)
        self._robot: Any = make_robot(hardware.driver, setup)
        self._shape = (order.config.joints,)
        self._speed = np.zeros(self._shape)
        self._state: RobotState | None = None  # the newest
        self._watchdog = Watchdog(self._robot, lambda: self._speed, self._clock, order.watchdog_s, self._report)
        self._commands = Commands(cells.command)
        self._fault: _Fault | None = None
        self._recoveries = _Allowance(hardware.recoveries_per_min)
        self._leaving_s = math.inf

    def run(self) -> None:
        """Serve until a request or SIGTERM ends it or the parent has died; leave when the arm stands still.

        Raises: RobotError when the arm cannot be used any more; it is told to stop.
        """
        ready = False
        start_s, tick = self._clock.now(), 0
        try:
            while not self._may_leave():
                self._cycle()
                if not ready and self._fault is None and self._state is not None:
                    ready = True
                    self._line.ready()
                tick = max(tick + 1, math.floor((self._clock.now() - start_s) / PERIOD_S))
                self._late_s = self._clock.sleep_until(start_s + tick * PERIOD_S)
        finally:
            if not self._recovering:
                self._let_go()

    def _cycle(self) -> None:
        if self._fault is None:
            try:
                self._look()
                self._line.say("" if self._age_s() <= MAX_STATE_AGE_S else "its controller sends no fresh state.")
                if math.isinf(self._leaving_s) and (command := self._commands.take()) is not None:
                    self._watchdog.command(*command)
                self._watchdog.step()
            except RobotFaultError as error:
                self._begin_fault(error)
        else:
            self._follow_fault(self._fault)
        request = self._line.take() if math.isinf(self._leaving_s) else None
        if request is not None and request[0] == LEAVE:
            self._leaving_s = self._clock.now()
            if self._recovering:
                self._report(request[1], time_s=self._leaving_s)
            else:
                self._watchdog.stop(request[1])

    def _let_go(self) -> None:
        """Stop the arm, give it the time where nobody has, and close its driver."""
        self._robot.stop()
        if float(np.abs(self._speed).max()) > STILL_RAD_S:
            self._clock.sleep_until(self._clock.now() + _RAMP_S)
        let_go(self._robot)

    @property
    def _recovering(self) -> bool:
        """Whether the arm, which stands, is in the hands of the thread that recovers it."""
        return self._fault is not None and self._fault.begun

    def _may_leave(self) -> bool:
        """Whether somebody said to leave, and the arm stands or has had the time to."""
        waited_s = self._clock.now() - self._leaving_s
        return waited_s > _STAND_S or (waited_s >= 0.0 and (self._recovering or self._watchdog.standing))

    def _age_s(self) -> float:
        return math.inf if self._state is None else self._clock.now() - self._state.stamp_s

    def _look(self) -> None:
        """Read the arm's state and publish it. Raises: what the arm raises; RobotError when the state is none."""
        state = self._robot.read_state()
        for values in (state.joint_rad, state.joint_rad_s):
            if np.shape(values) != self._shape or not np.isfinite(values).all():
                raise RobotError(
                    f"The arm's state has to be {self._shape[0]} finite numbers each for position and velocity, "
                    f"and the driver gave {np.asarray(values).tolist()}."
                )
        self._publish(state)

    def _publish(self, state: RobotState) -> None:
        self._state, self._speed = state, np.asarray(state.joint_rad_s, float)
        self._cells.state.write(stamp_s=state.stamp_s, joint_rad=state.joint_rad, joint_rad_s=state.joint_rad_s)

    def _begin_fault(self, error: RobotFaultError) -> None:
        """Raises: RobotError when the arm cannot or must not be recovered."""
        now_s = self._clock.now()
        self._watchdog.stop("fault", cause=str(error))
        if not hasattr(self._robot, "recover"):
            raise RobotError(f"The arm has stopped by itself, and its driver cannot recover it: {error}")
        if not self._recoveries.take(now_s):
            raise RobotError(
                f"The arm has stopped by itself ({error}) more often than the {self._recoveries.number} times a minute "
                "that it may: look what it touches, or allow more with --hardware.recoveries-per-min."
            )
        self._line.say(f"the arm has stopped by itself and is being recovered: {error}")
        self._fault = _Fault(self._robot, now_s)
        self._see(error)

    def _see(self, error: RobotFaultError) -> None:
        """Publish the state that came with a fault; without one nothing is known of the arm."""
        if error.state is None:
            self._state = None
        else:
            self._publish(error.state)

    def _follow_fault(self, fault: _Fault) -> None:
        """Recover the arm when it stands. Raises: RobotError when that fails."""
        now_s = self._clock.now()
        if fault.begun:
            if self._state is not None:  # nothing is read from the arm now, and it stands
                self._publish(RobotState(self._state.joint_rad, np.zeros(self._shape), now_s))
            if fault.over:
                self._fault = None
                fault.check()
                self._commands.void()
                self._report("recovered", time_s=now_s, after_s=now_s - fault.since_s)
        else:
            try:
                self._look()
            except RobotFaultError as error:
                self._see(error)
            still = self._state is not None and float(np.abs(self._speed).max()) <= STILL_RAD_S
            patience_s = _BLIND_S if self._state is None else _STAND_S
            if math.isinf(self._leaving_s) and (still or now_s - fault.since_s > patience_s):
                fault.recover()
        self._watchdog.step()

    def _report(self, event: str, **facts: Any) -> None:
        self._log.write(event, **facts, late_s=self._late_s)


class _Fault:
    """An arm that has stopped by itself, and its recovery in a thread."""

    begun: bool
    """Whether the recovery has begun; the thread alone has the arm until it is over."""

    def __init__(self, robot: Any, since_s: float) -> None:
        self.since_s, self.begun = since_s, False
        self._robot = robot
        self._thread = threading.Thread(target=self._work, name="recovery", daemon=True)
        self._error: Exception | None = None

    def recover(self) -> None:
        """Begin to recover it."""
        self.begun = True
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether the recovery has ended."""
        return self.begun and not self._thread.is_alive()

    def check(self) -> None:
        """Raises: what the recovery raised."""
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self._robot.recover()
        except Exception as error:  # raised again by `check`, in the thread of the loop
            self._error = error


class _Allowance:
    """So many times within any minute."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._taken_s: deque[float] = deque(maxlen=max(1, number))

    def take(self, now_s: float) -> bool:
        """Whether it may happen once more now."""
        if self.number == 0 or (len(self._taken_s) == self.number and now_s - self._taken_s[0] < _MINUTE_S):
            return False
        self._taken_s.append(now_s)
        return True
