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

import gc
import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from offbeat.config import EnvConfig
from offbeat.robots.base import Placement
from offbeat.robots.filming import Painter, WristCamera
from offbeat.robots.link import CRASHED, READY, Cells
from offbeat.robots.sim import SimRobot, SimWorld
from offbeat.robots.watchdog import Watchdog
from offbeat.robots.world import SceneConfig
from offbeat.timing.clock import VirtualClock
from offbeat.timing.profile import load_profile
from offbeat.types import ImageArray

_STAND_S = 2.0  # the longest wait for a stand before leaving; a ramp from the arm's top speed takes half of it
_SWITCH_S = 0.0005  # the drawing thread gives way after this long, a quarter of a physics step


@dataclass(frozen=True)
class Order:
    """What a server is told when it starts: see `served.ServedRig`; and the process (id) it does not outlive."""

    config: EnvConfig
    epoch_s: float
    watchdog_s: float
    log: Path | None
    parent: int


class Server:
    """A simulated arm and its camera, at the service of whoever has the other end of cells and channel."""

    def __init__(self, order: Order, cells: Cells, channel: Connection) -> None:
        """Raises: OSError when the log cannot be opened; what a renderer raises that does not work here."""
        self._order, self._cells, self._channel = order, cells, channel
        config = order.config
        self._log = None if order.log is None else order.log.open("a", buffering=1, encoding="utf-8")
        self._start_s, self._steps = self._wall_s(), 0
        self._clock = VirtualClock(load_profile("zero"), seed=0)
        self._clock.sleep_until(self._start_s)
        self._world = SimWorld(self._clock, config.camera_rate_hz, SceneConfig(robot=config.robot))
        self._robot = SimRobot(self._world, self._clock)
        self._painter = Painter(self._world.model, config)
        self._camera = WristCamera(self._world, self._painter, config.camera_latency_s, cells.image)
        self._watchdog = Watchdog(self._world, self._clock, order.watchdog_s, self._report)
        self._step_s = self._world.scene.timestep_s
        self._command, self._seen = np.empty(1, cells.command.dtype), 0
        self._changes: dict[str, Callable[[Any], None]] = {
            "place": self._world.place,
            "restart": self._restart,
            "load_state_dict": self._load,
        }
        self._pending: list[tuple[int, Callable[[], bool]]] = []
        self._terminated = False
        self._leaving_s = math.inf

    def run(self) -> None:
        """Serve until a request or SIGTERM ends it or the parent has died; leave when the arm stands still."""
        signal.signal(signal.SIGTERM, self._on_terminate)
        self._catch_up()
        self._publish()
        self._channel.send((READY, None))
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
        if self._leaving or self._cells.command.version == self._seen:
            return
        version = self._cells.command.try_read(self._command)
        if version is not None:
            self._seen = version
            record = self._command[0]
            self._watchdog.command(record["joint_rad_s"].copy(), float(record["sent_s"]))

    def _catch_up(self) -> None:
        goal = math.floor((self._wall_s() - self._start_s) / self._step_s + 1e-6)
        while self._steps < goal:
            self._steps += 1
            self._clock.sleep_until(self._start_s + self._steps * self._step_s)
            self._watchdog.step()

    def _publish(self) -> None:
        state = self._robot.read_state()
        self._cells.state.write(stamp_s=state.stamp_s, joint_rad=state.joint_rad, joint_rad_s=state.joint_rad_s)
        self._camera.step(state.stamp_s)

    def _talk(self) -> None:
        """Answer what is ready, take at most one request, and see whether to leave."""
        if self._terminated:
            self._leave("terminated")
        elif os.getppid() != self._order.parent:
            self._leave("parent died")
        try:
            for number, ready in tuple(self._pending):
                if ready():
                    self._pending.remove((number, ready))
                    self._channel.send((number, None))
            if self._channel.poll():
                self._serve(*self._channel.recv())
        except (EOFError, ConnectionError):
            self._leave("parent died")

    def _serve(self, number: int, request: str, *arguments: Any) -> None:
        if request == "close":
            self._leave("closed")
        elif request == "render":
            scene = self._painter.scene(self._world.data.qpos.copy())
            self._pending.append((number, partial(self._show, scene)))
        elif request == "state_dict":
            self._channel.send((number, self._world.state_dict()))
        else:
            try:
                self._changes[request](*arguments)
            except (LookupError, TypeError, ValueError) as error:
                self._channel.send((number, error))
                return
            # What was commanded before it is void, seen or not.
            self._seen = self._cells.command.version
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

    def _on_terminate(self, *_: object) -> None:
        self._terminated = True

    def _leave(self, cause: str) -> None:
        if not self._leaving:
            self._leaving_s = self._clock.now()
            self._watchdog.stop(cause)

    def _report(self, event: str, **times_s: float) -> None:
        if self._log is None:
            return
        times_s["late_s"] = self._wall_s() - self._clock.now()
        line = {"event": event} | {name: round(value, 6) for name, value in times_s.items()}
        with suppress(OSError):  # a full disk must not cost the arm its guard
            self._log.write(json.dumps(line) + "\n")


def serve(order: Order, cells: Cells, channel: Connection) -> None:
    """The process. An error goes to the other side with its traceback, and the process ends with code 1."""
    # These two go to every process of a terminal; what becomes of the arm then is for the parent to say.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_S)
    try:
        server = Server(order, cells, channel)
        gc.freeze()  # what lives as long as the process need not be looked through between two steps
        server.run()
    except Exception:
        with suppress(OSError):
            channel.send((CRASHED, traceback.format_exc()))
        raise SystemExit(1) from None
