"""A simulated arm served by a process of its own, as a real one is by its controller: who uses it may die, it does not.

`server.py` is the other side, `link.py` what lies between. Reading a state or an image and sending a command copy a
record in shared memory and wait for nobody; everything else asks the server and waits for its answer, which belongs
outside of action cycles. A real arm's rig (hardware.py) has the same two ends, with other processes behind them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np

from offbeat.config import EnvConfig, HardwareConfig
from offbeat.errors import RobotError, StaleFrameError
from offbeat.robots.base import Placement
from offbeat.robots.link import MAX_STATE_AGE_S, Cells, Order
from offbeat.robots.models import MODELS
from offbeat.robots.moves import move_by_velocity
from offbeat.robots.server import Server
from offbeat.robots.service import Service
from offbeat.timing.clock import Clock
from offbeat.types import FloatArray, Frame, ImageArray, RobotState

BUSY = "check the camera's rate, its latency and what else this machine is busy with."
"""What to do about images that are late although nobody knows of anything wrong."""


class ServedRobot:
    """An arm that another process serves, driven by joint velocities. Implements `Robot`."""

    def __init__(self, cells: Cells, clock: Clock, explain: Callable[[], str]) -> None:
        """explain: says why the server does not answer."""
        self._cells, self._clock, self._explain = cells, clock, explain
        self._limit_rad_s = MODELS[cells.robot].velocity_limit_rad_s
        # A cell has one writer, and a supervisor's thread or a signal's handler may stop the arm at any time.
        self._sending = threading.RLock()

    @property
    def fresh(self) -> bool:
        """Whether the newest state may be used; who serves it listens, then."""
        return self._clock.now() - self._cells.state.read()[1]["stamp_s"] <= MAX_STATE_AGE_S

    def read_state(self) -> RobotState:
        """The newest joint positions and velocities. Raises: RobotError when they are over 0.2 s old."""
        now_s = self._clock.now()  # first: a process held up after it had read would take a fresh state for an old one
        state = self._cells.state.read()[1]
        age_s = now_s - state["stamp_s"]
        if age_s > MAX_STATE_AGE_S:
            raise RobotError(
                f"The arm's newest state is {age_s:.3f} s old and {MAX_STATE_AGE_S:g} s is allowed: {self._explain()}"
            )
        return RobotState(state["joint_rad"], state["joint_rad_s"], float(state["stamp_s"]))

    def command_velocity(self, joint_rad_s: FloatArray) -> FloatArray:
        """Ramp to this velocity (N,) rad/s, clipped to the arm's limits, and hold it; returns what was sent.

        Raises: RobotError when it is not finite, or the server is stuck or dead.
        """
        sent = np.clip(joint_rad_s, -self._limit_rad_s, self._limit_rad_s)
        if not np.isfinite(sent).all():
            raise RobotError(f"A velocity command must be finite (rad/s), and this one is {sent.tolist()}.")
        self.read_state()
        self._send(sent)
        return sent

    def move_to(self, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float = 0.02) -> None:
        """Move to a joint position (N,) rad and stop. Raises: MoveTimeoutError when it did not arrive in time."""
        move_by_velocity(self, self._clock, joint_rad, timeout_s, tolerance_rad)

    def stop(self) -> None:
        """Ramp to a stand. Never raises: the arm of a dead server has stopped existing."""
        self._send(np.zeros_like(self._limit_rad_s))

    def _send(self, joint_rad_s: FloatArray) -> None:
        with self._sending:
            self._cells.command.write(sent_s=self._clock.now(), joint_rad_s=joint_rad_s)


class ServedCamera:
    """A camera that another process serves. Implements `Camera`."""

    def __init__(self, cells: Cells, clock: Clock, explain: Callable[[], str] = lambda: BUSY) -> None:
        """explain: says why no image comes; by default that is not known."""
        self._cell, self._clock, self._explain = cells.image, clock, explain
        self._version = 0
        self._frame = Frame(np.zeros((0, 0, 3), np.uint8), -np.inf)

    def read_latest(self, max_age_s: float) -> Frame:
        """The newest image that has arrived, (H, W, 3) uint8 RGB.

        Raises: StaleFrameError when its light was captured over `max_age_s` ago.
        """
        now_s = self._clock.now()
        if self._cell.version != self._version:
            self._version, record = self._cell.read()
            self._frame = Frame(record["image"], float(record["captured_s"]))
        age_s = now_s - self._frame.captured_s
        if age_s > max_age_s:
            raise StaleFrameError(
                f"The newest image is {age_s:.3f} s old and {max_age_s:g} s is allowed: {self._explain()}"
            )
        return self._frame


class ServedRig:
    """A simulated arm and camera in a process of their own. Implements `Rig`.

    When no fresh command has come for `watchdog_s`, or the process that made the rig has died, the arm ramps to a
    stand, at 6 rad/s2 or more: in 0.034 s from a policy's 0.2 rad/s, in 0.22 s from the 1.3 rad/s of the reset's moves.
    A fresh command moves it again. `log` tells of it, a JSON object a line:

        {"event": "watchdog", "time_s": 12.404, "stale_s": 0.12, "late_s": 0.0003}
        {"event": "still", "time_s": 12.438, "still_after_s": 0.154, "late_s": 0.0004}

    The first event is "watchdog", "parent died", "terminated" or "closed"; "resumed" is a fresh command after one.
    time_s: when, in the run's time; stale_s: age of the last command then; still_after_s: from the last command to the
    stand, 0.0 for an arm that was standing; late_s: how much later than `time_s` the server came to do it.
    """

    def __init__(
        self, config: EnvConfig, clock: Clock, epoch_s: float, watchdog_s: float, log: Path | None = None
    ) -> None:
        """Start the server and wait until the arm can be used.

        clock: a wall clock, and epoch_s what `time.monotonic()` said when it was at 0. watchdog_s: the age at which a
        command is no longer fresh (s). log: the file to append to. Raises: RobotError when the server does not start.
        """
        cells = Cells.make(config)
        order = Order(config, HardwareConfig(), epoch_s, watchdog_s, log)
        self._cells = cells
        self._service = Service("robot", Server, (order, cells), lambda: cells.state.version)
        self.robot = ServedRobot(cells, clock, self._service.explain)
        self.camera = ServedCamera(cells, clock)
        try:
            self._service.wait_ready()
        except BaseException:
            self.close()
            raise

    @property
    def process(self) -> SpawnProcess:
        """The server."""
        return self._service.process

    @property
    def watched(self) -> Mapping[str, Service]:
        """The processes to keep an eye on, by name."""
        return {"robot": self._service}

    def place(self, placement: Placement) -> None:
        """Put arm and bag at rest where told, now; returns when an image of it has arrived."""
        self._service.ask("place", placement)

    def restart(self, placement: Placement) -> None:
        """`place`, in a world that counts its steps and ticks from now."""
        self._service.ask("restart", placement)

    def render(self) -> ImageArray:
        """The second camera's view of the scene now, (360, 480, 3) uint8 RGB."""
        self._service.ask("render")
        image: ImageArray = self._cells.scene.read()[1]["image"]
        return image

    def state_dict(self) -> dict[str, Any]:
        """The world's state."""
        state: dict[str, Any] = self._service.ask("state_dict")
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`, with an arm that holds no command: the time since then has passed for others only.

        Raises: LookupError, TypeError, ValueError when the state does not fit.
        """
        self._service.ask("load_state_dict", state)

    def close(self) -> None:
        """Stop the arm and end the server, by force when it does not leave; does nothing the second time."""
        self.robot.stop()
        self._service.close(listens=self.robot.fresh)
