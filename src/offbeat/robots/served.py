"""A simulated arm served by a process of its own, as a real one is by its controller: who uses it may die, it does not.

`server.py` is the other side, `link.py` what lies between. Reading a state or an image and sending a command copy a
record in shared memory and wait for nobody; everything else asks the server and waits for its answer, which belongs
outside of action cycles.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np

from offbeat.config import EnvConfig
from offbeat.errors import RobotError, StaleFrameError
from offbeat.robots.base import Placement
from offbeat.robots.link import CRASHED, READY, Cells
from offbeat.robots.models import MODELS
from offbeat.robots.moves import move_by_velocity
from offbeat.robots.server import Order, serve
from offbeat.timing.clock import Clock
from offbeat.types import FloatArray, Frame, ImageArray, RobotState

MAX_STATE_AGE_S = 0.2
"""A state older than this (s) is none: it is published every 2 ms, so the server is stuck or dead."""

_START_S = 60.0  # a process starts in a second, and asking a bad OpenGL driver may take half a minute
_ANSWER_S = 5.0
_LEAVE_S = 3.0  # more than the server takes to bring the arm to a stand


class ServedRobot:
    """The arm of a `ServedRig`, driven by joint velocities. Implements `Robot`."""

    def __init__(self, cells: Cells, clock: Clock, explain: Callable[[], str]) -> None:
        """explain: says why the server does not answer."""
        self._cells, self._clock, self._explain = cells, clock, explain
        self._limit_rad_s = MODELS[cells.robot].velocity_limit_rad_s
        # A cell has one writer, and a supervisor's thread or a signal's handler may stop the arm at any time.
        self._sending = threading.RLock()

    def read_state(self) -> RobotState:
        """The newest joint positions and velocities. Raises: RobotError when they are over 0.2 s old."""
        state = self._cells.state.read()[1]
        age_s = self._clock.now() - state["stamp_s"]
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
    """The camera of a `ServedRig`. Implements `Camera`."""

    def __init__(self, cells: Cells, clock: Clock) -> None:
        self._cell, self._clock = cells.image, clock
        self._version = 0
        self._frame = Frame(np.zeros((0, 0, 3), np.uint8), -np.inf)

    def read_latest(self, max_age_s: float) -> Frame:
        """The newest image that has arrived, (H, W, 3) uint8 RGB.

        Raises: StaleFrameError when its light was captured over `max_age_s` ago.
        """
        if self._cell.version != self._version:
            self._version, record = self._cell.read()
            self._frame = Frame(record["image"], float(record["captured_s"]))
        age_s = self._clock.now() - self._frame.captured_s
        if age_s > max_age_s:
            raise StaleFrameError(
                f"The newest image is {age_s:.3f} s old and {max_age_s:g} s is allowed: "
                "check the camera's rate, its latency and what else this machine is busy with."
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

    process: SpawnProcess
    """The server."""

    def __init__(
        self, config: EnvConfig, clock: Clock, epoch_s: float, watchdog_s: float, log: Path | None = None
    ) -> None:
        """Start the server and wait until the arm can be used.

        clock: a wall clock, and epoch_s what `time.monotonic()` said when it was at 0. watchdog_s: the age at which a
        command is no longer fresh (s). log: the file to append to. Raises: RobotError when the server does not start.
        """
        context = get_context("spawn")
        cells, (self._channel, theirs) = Cells.make(config), context.Pipe()
        self._cells, self._number, self._traceback = cells, READY, ""
        self.robot = ServedRobot(cells, clock, self._explain)
        self.camera = ServedCamera(cells, clock)
        order = Order(config, epoch_s, watchdog_s, log, os.getpid())
        # A daemon, so that a program that ends without close() ends it, by SIGTERM: it stops the arm first.
        self.process = context.Process(target=serve, args=(order, cells, theirs), name="offbeat-robot", daemon=True)
        with _interrupt_blocked():
            self.process.start()
        theirs.close()
        try:
            self._answer(READY, _START_S)
        except BaseException:
            self.close()
            raise

    def place(self, placement: Placement) -> None:
        """Put arm and bag at rest where told, now; returns when an image of it has arrived."""
        self._ask("place", placement)

    def restart(self, placement: Placement) -> None:
        """`place`, in a world that counts its steps and ticks from now."""
        self._ask("restart", placement)

    def render(self) -> ImageArray:
        """The second camera's view of the scene now, (360, 480, 3) uint8 RGB."""
        self._ask("render")
        image: ImageArray = self._cells.scene.read()[1]["image"]
        return image

    def state_dict(self) -> dict[str, Any]:
        """The world's state."""
        state: dict[str, Any] = self._ask("state_dict")
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`, with an arm that holds no command: the time since then has passed for others only.

        Raises: LookupError, TypeError, ValueError when the state does not fit.
        """
        self._ask("load_state_dict", state)

    def close(self) -> None:
        """Stop the arm and end the server, by force when it does not leave; does nothing the second time."""
        self.robot.stop()
        with suppress(OSError, RobotError):
            self.robot.read_state()  # a server that publishes nothing does not listen either
            self._channel.send((self._number, "close"))
            self.process.join(_LEAVE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self._channel.close()

    def beats(self) -> int:
        """States that the server has published; grows all the time while it lives and gets on."""
        return self._cells.state.version

    def _ask(self, request: str, *arguments: Any) -> Any:
        self._number += 1
        try:
            self._channel.send((self._number, request, *arguments))
        except OSError as error:
            raise RobotError(f"The arm cannot be asked to {request}: {self._explain()}") from error
        return self._answer(self._number, _ANSWER_S)

    def _answer(self, number: int, timeout_s: float) -> Any:
        """The answer to a request. Answers that come after their time-out are passed over."""
        deadline_s = time.monotonic() + timeout_s
        try:
            while self._channel.poll(max(0.0, deadline_s - time.monotonic())):
                which, value = self._channel.recv()
                if which == CRASHED:
                    self._traceback = value
                    break
                if which == number:
                    if isinstance(value, Exception):
                        raise value
                    return value
        except (EOFError, ConnectionError) as error:
            raise RobotError(f"The arm gave no answer: {self._explain()}") from error
        raise RobotError(f"The arm gave no answer within {timeout_s:g} s: {self._explain()}")

    def _explain(self) -> str:
        """Why the server does not do what it should, and its own traceback where it left one."""
        with suppress(EOFError, OSError):
            while not self._traceback and self._channel.poll():
                which, value = self._channel.recv()
                self._traceback = value if which == CRASHED else ""
        if self._traceback:
            return f"the process that serves it has failed.\n{self._traceback}"
        # A process that has just been killed needs a moment to be known as dead.
        self.process.join(0.05)
        if self.process.is_alive():
            return f"the process that serves it (pid {self.process.pid}) is stopped or kept from running."
        return f"the process that serves it has ended with exit code {self.process.exitcode}."


@contextmanager
def _interrupt_blocked() -> Iterator[None]:
    """Keep SIGINT from a process from its first instant on; here it arrives a moment later."""
    resource_tracker.ensure_running()  # starting it on the way would unblock SIGINT
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
