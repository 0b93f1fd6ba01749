"""A Panda (FER): the driver's end of the process that talks to it at 1 kHz, `panda_loop.py`."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from offbeat.errors import RobotError, RobotFaultError
from offbeat.robots.base import RobotSetup
from offbeat.robots.franka import JOINTS, refuse_closed
from offbeat.robots.models.franka import PANDA_TRAVEL
from offbeat.robots.moves import move_by_velocity
from offbeat.robots.panda_loop import (
    BEGUN,
    CLOSED,
    ENDED,
    LEAVE,
    LOST,
    MEASURED,
    PACKET,
    RECOVER,
    STATE,
    TARGET,
    VELOCITY,
)
from offbeat.robots.vendor import checked, wait_until
from offbeat.types import FloatArray, RobotState

_START_S, _RECOVERY_S, _LEAVE_S = 30.0, 30.0, 3.0
_WAITING = "it waits for control"


class PandaArm:
    """A Panda, driven by joint velocities. Implements `Robot` and `Recoverable`."""

    def __init__(self, setup: RobotSetup) -> None:
        """Connect, set the thresholds of the collision reflexes, and take control of an arm that stands.

        Raises: RobotError when the connection fails or the arm cannot be moved.
        """
        self._setup, self._clock = setup, setup.clock
        self._epoch_s = time.monotonic() - setup.clock.now()
        self._state: RobotState | None = None  # the newest
        self._ended, self._closed, self._lost = _WAITING, "", ""  # "": it is not so
        hardware = setup.hardware
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.setblocking(False)
        told = (theirs.fileno(), setup.host, hardware.collision_torque_nm, hardware.collision_force_n)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "offbeat.robots.panda_loop", *map(str, told)],
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a terminal's Ctrl-C is for who steers it
            )
        try:
            self._await_control(_START_S)
        except RobotError:
            self.close()
            raise

    def read_state(self) -> RobotState:
        """Joint positions and velocities, and when they arrived.

        Raises: RobotFaultError when the arm has stopped by itself; RobotError when it cannot be recovered from here.
        """
        self._hear()
        refuse_closed(self._closed)
        if self._lost:
            raise RobotError(
                f"The Panda cannot be used ({self._lost}): check its cable, its power and what Desk says, and start "
                "again."
            )
        if self._ended:
            raise RobotFaultError(f"The Panda has stopped by itself: {self._ended}.", self._state)
        assert self._state is not None
        return self._state

    def command_velocity(self, joint_rad_s: FloatArray) -> FloatArray:
        """Ramp to this velocity (7,) rad/s, clipped to the arm's limits, and hold it; returns what was sent.

        Raises: RobotError when it is not seven finite numbers; as `read_state`.
        """
        command = checked(joint_rad_s, JOINTS)
        sent = PANDA_TRAVEL.clip(command, self.read_state().joint_rad, self._setup.hold_s)
        self._send(VELOCITY + TARGET.pack(*sent, time.monotonic() + self._setup.hold_s))
        return sent

    def move_to(self, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float = 0.02) -> None:
        """Move to a joint position (7,) rad and stop. Raises: MoveTimeoutError when it did not arrive in time."""
        move_by_velocity(self, self._clock, joint_rad, timeout_s, tolerance_rad)

    def stop(self) -> None:
        """Ramp to a stand."""
        self._send(VELOCITY + TARGET.pack(*(0.0,) * JOINTS, 0.0))

    def recover(self) -> None:
        """Clear the controller's error and take control again. Raises: RobotError when it does not let us."""
        self._ended = _WAITING
        self._send(RECOVER)
        self._await_control(_RECOVERY_S)

    def close(self) -> None:
        """Stand, and give up control."""
        self._send(LEAVE)
        try:
            self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._link.close()

    def _await_control(self, timeout_s: float) -> None:
        """Raises: RobotError when the loop does not get control in time."""

        def answered() -> bool:
            self._hear()
            return self._ended != _WAITING or bool(self._closed or self._lost)

        if not wait_until(answered, self._clock, timeout_s):
            raise RobotError(f"The Panda gave no control within {timeout_s:g} s: look what Desk says, and start again.")
        self.read_state()

    def _hear(self) -> None:
        """Take what the loop has said."""
        newest = b""
        for packet in self._packets():
            kind, text = packet[:1], packet[1:]
            if kind == STATE:
                newest = text
            elif kind == BEGUN:
                self._ended = ""
            elif kind == ENDED:
                self._ended = text.decode()
            elif kind == CLOSED:
                self._closed = text.decode()
            elif kind == LOST:
                self._lost = text.decode()
        if newest:
            stamp_s, *numbers = MEASURED.unpack(newest)
            position, velocity = np.array(numbers[:JOINTS]), np.array(numbers[JOINTS:])
            self._state = RobotState(position, velocity, stamp_s - self._epoch_s)

    def _packets(self) -> Iterator[bytes]:
        while True:
            try:
                packet = self._link.recv(PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:  # the process has ended
                if not (self._closed or self._lost):
                    self._lost = f"the process that talks to it has ended with exit code {self._process.poll()}"
                return
            yield packet

    def _send(self, packet: bytes) -> None:
        with suppress(OSError):  # of a process that has ended: `read_state` says so
            self._link.send(packet)
