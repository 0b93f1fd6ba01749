"""A simulated camera for a real arm: a scene of its own, in which a simulated arm moves as the real one does.

The arm may be anything that publishes its joints, a protocol server or iron; bag, thread and images are simulated, so
a whole training run can be rehearsed before there is a camera.

    state cell --> speed of the state + gain x (where it is by now - where the shadow is) --> physics step (2 ms)
                                                                       image cell <-- camera's ticks
"""

from __future__ import annotations

import math
import time
from concurrent.futures import Future
from typing import Any

import numpy as np

from offbeat.errors import RobotError
from offbeat.robots.base import Placement
from offbeat.robots.filming import Painter, WristCamera
from offbeat.robots.link import MAX_STATE_AGE_S, Cells, Order
from offbeat.robots.models import MODELS
from offbeat.robots.service import LEAVE, Line
from offbeat.robots.sim import SimWorld
from offbeat.robots.world import SceneConfig
from offbeat.timing.clock import VirtualClock
from offbeat.timing.profile import load_profile
from offbeat.timing.realtime import raise_priority
from offbeat.timing.wall import WallClock
from offbeat.types import FloatArray, ImageArray

GAIN_PER_S = 20.0
"""Speed (rad/s) with which the shadow makes up for each rad it is off; a third of what is left in 20 ms."""

_FIRST_S = 60.0  # the longest wait for the arm's first state


class Shadow:
    """A scene that follows an arm, at the service of whoever has the other end of cells and line."""

    def __init__(self, order: Order, cells: Cells, line: Line) -> None:
        """Raises: what a renderer raises that does not work here."""
        config = order.config
        self._cells, self._line = cells, line
        self._wall = WallClock(order.epoch_s)
        self._clock = VirtualClock(load_profile("zero"), seed=0)
        self._start_s, self._steps = self._wall.now(), 0
        self._clock.sleep_until(self._start_s)
        self._world = SimWorld(self._clock, config.camera_rate_hz, SceneConfig(robot=config.robot))
        self._arm, self._forward_m = MODELS[config.robot], config.arm.bag_forward_m
        self._step_s = self._world.scene.timestep_s
        # A thread without priority would keep Python's lock from the one that has it.
        self._painter = Painter(self._world.model, config, raise_priority)
        self._camera = WristCamera(self._world, self._painter, config.camera_latency_s, cells.image)
        self._drawing: tuple[int, Future[ImageArray]] | None = None

    def run(self) -> None:
        """Serve until a request or SIGTERM ends it or the parent has died. Raises: RobotError without an arm."""
        leaving, ready = self._wait_for_arm(), False
        while not leaving:
            time.sleep(max(0.0, self._start_s + (self._steps + 1) * self._step_s - self._wall.now()))
            self._follow()
            self._camera.step(self._clock.now())
            self._cells.pulse.write(now_s=self._clock.now())
            if not ready and self._cells.image.version:
                ready = True
                self._line.ready()
            leaving = self._talk()
        self._painter.close()

    def _wait_for_arm(self) -> bool:
        """Begin where the arm is; whether somebody says to leave before it is there."""
        while self._cells.state.version == 0:
            if (request := self._line.take()) is not None and request[0] == LEAVE:
                return True
            if self._wall.now() - self._start_s > _FIRST_S:
                raise RobotError(f"The arm gave no state within {_FIRST_S:g} s.")
            self._cells.pulse.write(now_s=self._wall.now())
            time.sleep(self._step_s)
        self._start_s = self._wall.now()
        self._clock.sleep_until(self._start_s)
        self._world.restart()
        joint_rad = self._cells.state.read()[1]["joint_rad"]
        flange_m = self._arm.flange_position(joint_rad.tolist())
        self._world.place(Placement(joint_rad, np.array([flange_m[0] + self._forward_m, flange_m[1]]), 0.0))
        return False

    def _follow(self) -> None:
        """Go on to the wall clock's time, each step towards where the arm is at its end."""
        goal = math.floor((self._wall.now() - self._start_s) / self._step_s + 1e-6)
        state = self._cells.state.read()[1]
        while self._steps < goal:
            self._world.data.ctrl[:] = self._wanted(state)
            self._steps += 1
            self._clock.sleep_until(self._start_s + self._steps * self._step_s)
            self._world.advance()

    def _wanted(self, state: Any) -> FloatArray:
        """Joint velocity (N,) rad/s of the next step."""
        ahead_s = self._clock.now() - float(state["stamp_s"])
        speed = state["joint_rad_s"] if ahead_s <= MAX_STATE_AGE_S else np.zeros_like(state["joint_rad_s"])
        off_rad = state["joint_rad"] + ahead_s * speed - self._world.joints()[0]
        limit_rad_s = self._arm.velocity_limit_rad_s
        return np.clip(speed + GAIN_PER_S * off_rad, -limit_rad_s, limit_rad_s)

    def _talk(self) -> bool:
        """Answer a request to draw the scene; whether somebody says to leave."""
        if self._drawing is not None and self._drawing[1].done():
            number, image = self._drawing
            self._cells.scene.write(image=image.result())
            self._line.answer(number)
            self._drawing = None
        request = self._line.take()
        if request is None:
            return False
        if request[0] == LEAVE:
            return True
        self._drawing = request[0], self._painter.scene(self._world.data.qpos.copy())
        return False
