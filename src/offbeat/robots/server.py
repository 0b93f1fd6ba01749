"""The process that serves a simulated arm: it keeps the arm's time, has its images drawn, and watches over it.

The arm's own time is virtual and goes in whole physics steps (2 ms) up to the wall clock's:

    wall clock   ----|-.-----|-.-----|-------|------.|-.---
    arm's time       0       1                     2,3 4     a late wake makes up for the steps it slept over

So a command is obeyed in the first step after it was sent and the watchdog stops the arm in the very step its time is
over, as an arm's own controller would, even when this process is held up; its log says by how much it was (`late_s`).

Nothing makes that loop wait for the other side: cells never do, and a request or an answer is some kilobytes, written
and read whole. Images may take longer than a cycle to draw and are drawn in a thread beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from offbeat.robots.base import Placement
from offbeat.robots.filming import Painter, WristCamera
from offbeat.robots.link import Cells, Commands, Order
from offbeat.robots.service import LEAVE, EventLog, Line
from offbeat.robots.sim import SimRobot, SimWorld
from offbeat.robots.watchdog import Watchdog
from offbeat.robots.world import SceneConfig
from offbeat.timing.clock import VirtualClock
from offbeat.timing.profile import load_profile
from offbeat.types import FloatArray, ImageArray

_STAND_S = 2.0  # the longest wait for a stand before leaving; a ramp from the arm's top speed takes half of it


class Server:
    """A simulated arm and its camera, at the service of whoever has the other end of cells and line."""

    def __init__(self, order: Order, cells: Cells, line: Line) -> None:
        """Raises: OSError when the log cannot be opened; what a renderer raises that does not work here."""
        self._order, self._cells, self._line = order, cells, line
        config = order.config
        self._log = EventLog(order.log)
        self._start_s, self._steps = self._wall_s(), 0
        self._clock = VirtualClock(load_profile("zero"), seed=0)
        self._clock.sleep_until(self._start_s)
        self._world = SimWorld(self._clock, config.camera_rate_hz, SceneConfig(robot=config.robot))
        self._robot = SimRobot(self._world, self._clock)
        self._painter = Painter(self._world.model, config)
        self._camera = WristCamera(self._world, self._painter, config.camera_latency_s, cells.image)
        self._watchdog = Watchdog(self._robot, self._speeds, self._clock, order.watchdog_s, self._report)
        self._step_s = self._world.scene.timestep_s
        self._commands = Commands(cells.command)
        self._changes: dict[str, Callable[[Any], None]] = {
            "place": self._world.place,
            "restart": self._restart,
            "load_state_dict": self._load,
        }
        self._pending: list[tuple[int, Callable[[], bool]]] = []
        self._leaving_s = math.inf

    def run(self) -> None:
        """Serve until a request or SIGTERM ends it or the parent has died; leave when the arm stands still."""
        self._catch_up()
        self._publish()
        self._line.ready()
        while not (self._leaving and (self._watchdog.standing or self._clock.now() > self._leaving_s + _STAND_S)):
            time.sleep(max(0.0, self._start_s + (self._steps + 1) * self._step_s - self._wall_s()))
            self._take_command()
            self._catch_up()
            self._publish()
            if not self._leaving:
                self._talk()
        self._painter.close()

    @property
    def _leaving(self) -> bool:
        return self._leaving_s < math.inf

    def _wall_s(self) -> float:
        return time.monotonic() - self._order.epoch_s

    def _take_command(self) -> None:
        if not self._leaving and (command := self._commands.take()) is not None:
            self._watchdog.command(*command)

    def _catch_up(self) -> None:
        goal = math.floor((self._wall_s() - self._start_s) / self._step_s + 1e-6)
        while self._steps < goal:
            self._steps += 1
            self._clock.sleep_until(self._start_s + self._steps * self._step_s)
            self._world.advance()
            self._watchdog.step()

    def _publish(self) -> None:
        state = self._robot.read_state()
        self._cells.state.write(stamp_s=state.stamp_s, joint_rad=state.joint_rad, joint_rad_s=state.joint_rad_s)
        self._camera.step(state.stamp_s)

    def _talk(self) -> None:
        """Answer what is ready, and take at most one request."""
        for number, ready in tuple(self._pending):
            if ready():
                self._pending.remove((number, ready))
                self._line.answer(number)
        request = self._line.take()
        if request is not None:
            self._serve(*request)

    def _serve(self, number: int, request: str, *arguments: Any) -> None:
        if number == LEAVE:
            self._leaving_s = self._clock.now()
            self._watchdog.stop(request)
        elif request == "render":
            scene = self._painter.scene(self._world.data.qpos.copy())
            self._pending.append((number, partial(self._show, scene)))
        elif request == "state_dict":
            self._line.answer(number, self._world.state_dict())
        else:
            try:
                self._changes[request](*arguments)
            except (LookupError, TypeError, ValueError) as error:
                self._line.answer(number, error)
                return
            # What was commanded before it is void, seen or not.
            self._commands.void()
            self._watchdog.forget()
            self._camera.restart(self._clock.now())
            self._pending.append((number, lambda: not self._camera.blank))

    def _show(self, scene: Future[ImageArray]) -> bool:
        if scene.done():
            self._cells.scene.write(image=scene.result())
        return scene.done()

    def _restart(self, placement: Placement) -> None:
        self._world.restart()
        self._world.place(placement)

    def _load(self, state: dict[str, Any]) -> None:
        """Go on from a state as if the time since had not been; wall-clock time is never the saved one."""
        saved_s = state["origin_s"] + state["steps"] * self._step_s
        self._world.load_state_dict(state | {"origin_s": state["origin_s"] + self._clock.now() - saved_s})

    def _speeds(self) -> FloatArray:
        return self._world.joints()[1]

    def _report(self, event: str, **times_s: float) -> None:
        self._log.write(event, **times_s, late_s=self._wall_s() - self._clock.now())
