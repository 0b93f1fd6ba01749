"""The process that talks to a Panda (FER) through panda-python: a callback a millisecond, and nothing else.

libfranka runs the callback, and waits for the network in between, while it holds Python's global lock: whatever else
ran in the same process would make it late, and a controller stops an arm whose commands are late. So it has a process
of its own, started and steered by `panda_arm.py` over a pair of sockets, packet by packet:

    panda_arm.py  -- VELOCITY, RECOVER, LEAVE -->  Loop
                  <- STATE every ms, BEGUN, ENDED, CLOSED, LOST --

It ramps to the newest velocity and, when nothing new came in time or the other side has died, to a stand.

    python -m offbeat.robots.panda_loop SOCKET HOST TORQUE_NM FORCE_N
"""

from __future__ import annotations

import gc
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any

from offbeat.robots.franka import CLOSED_MODES, JOINTS, REFLEX, has_realtime_kernel
from offbeat.robots.models.panda import PANDA
from offbeat.robots.ramp import Ramp
from offbeat.robots.vendor import one_line
from offbeat.timing.realtime import raise_priority

VELOCITY, RECOVER, LEAVE = b"v", b"r", b"l"
"""First bytes of what the loop is told: a velocity (with TARGET), to recover the arm, to stand and leave."""
STATE, BEGUN, ENDED, CLOSED, LOST = b"s", b"b", b"e", b"c", b"x"
"""First bytes of what it says: a state (with MEASURED); it has control; the arm has stopped by itself, in libfranka's
words; the arm is in a mode that takes no commands, by its name; the arm cannot be used, and why."""
TARGET = struct.Struct("<7dd")
"""Joint velocities (rad/s), and until when they hold (s, `time.monotonic`)."""
MEASURED = struct.Struct("<d7d7d")
"""When the state arrived (s, `time.monotonic`), joint positions (rad), joint velocities (rad/s)."""
PACKET = 1024
"""No packet is longer (bytes)."""

# A fifth of the acceleration is left to what one joint's motion does to another, and a ramp takes 10 ms to build up,
# with a fifth of the jerk that the controller allows.
_ACCELERATION_SHARE, _BUILD_UP_S = 0.8, 0.01
_REST = (0.0,) * JOINTS
_PERIOD_S = 0.004  # between two states out of control


class Loop:
    """The arm's side of the sockets."""

    def __init__(self, link: socket.socket, host: str, torque_nm: float, force_n: float) -> None:
        """Connect to the controller at `host` and set the thresholds of its collision reflexes.

        Raises: RuntimeError, of libfranka, when that fails.
        """
        from panda_py import libfranka

        self._franka, self._link = libfranka, link
        acceleration = _ACCELERATION_SHARE * PANDA.acceleration_limit_rad_s2
        self._ramp = Ramp(acceleration.tolist(), (acceleration / _BUILD_UP_S).tolist())
        self._target, self._until_s = _REST, 0.0
        self._leaving = self._recovering = self._begun = False
        config = libfranka.RealtimeConfig
        self._robot = libfranka.Robot(host, config.kEnforce if has_realtime_kernel() else config.kIgnore)
        torques, forces = [torque_nm] * JOINTS, [force_n] * 6
        self._robot.set_collision_behavior(torques, torques, forces, forces)

    def run(self) -> None:
        """Control the arm until told to leave. Raises: RuntimeError when the connection is lost."""
        mode = self._look()
        if mode == REFLEX:
            self._robot.automatic_error_recovery()
        while not self._leaving and mode not in CLOSED_MODES:
            ended = self._control()
            mode = self._look()
            if ended and mode not in CLOSED_MODES:
                insist(self._link, ENDED + ended.encode())
            while not self._leaving and not self._recovering and mode not in CLOSED_MODES:
                time.sleep(_PERIOD_S)
                mode = self._look()
                self._listen()
            if self._recovering and mode not in CLOSED_MODES:
                self._robot.automatic_error_recovery()
        if mode in CLOSED_MODES:
            insist(self._link, CLOSED + mode.encode())

    def _control(self) -> str:
        """Answer the controller until the arm stops by itself, and why it did; or stands and may leave, then ""."""
        self._ramp.rest()
        self._until_s = 0.0
        self._recovering = self._begun = False
        try:
            # libfranka's own limits of the rates stay on: after lost packets the arm is not where the ramp thinks.
            self._robot.control_joint_velocity(self._answer)
        except RuntimeError as error:
            if "command" not in str(error):  # "Move command aborted: ...": anything else comes from the network
                raise
            return one_line(error)
        return ""

    def _answer(self, state: Any, passed: Any) -> Any:
        """The callback: what to do in the next millisecond."""
        now_s = self._publish(state)
        self._listen()
        target = _REST if self._leaving or now_s >= self._until_s else self._target
        velocity = self._ramp.velocity_rad_s
        for _ in range(passed.to_msec()):  # several after lost packets, none the first time
            velocity = self._ramp.step(target)
        answer = self._franka.JointVelocities(velocity)
        if self._leaving and not any(velocity):
            return self._franka.motion_finished(answer)
        if not self._begun:
            self._begun = self._say(BEGUN)
        return answer

    def _look(self) -> str:
        """Read and publish a state out of control; the arm's mode."""
        state = self._robot.read_once()
        self._publish(state)
        return str(state.robot_mode.name).removeprefix("k")

    def _publish(self, state: Any) -> float:
        now_s = time.monotonic()
        self._say(STATE + MEASURED.pack(now_s, *state.q, *state.dq))
        return now_s

    def _listen(self) -> None:
        """Take what has come."""
        try:
            while True:
                packet = self._link.recv(PACKET)
                kind = packet[:1]
                if kind == VELOCITY:
                    *target, self._until_s = TARGET.unpack_from(packet, 1)
                    self._target = tuple(target)
                elif kind == RECOVER:
                    self._recovering = True
                else:  # LEAVE, or nothing: the other side has died
                    self._leaving = True
                    return
        except BlockingIOError:
            pass
        except OSError:
            self._leaving = True

    def _say(self, packet: bytes) -> bool:
        """Whether there was room for it; a side that does not read loses states."""
        try:
            return self._link.send(packet) > 0
        except OSError:
            return False


def insist(link: socket.socket, packet: bytes) -> None:
    """Say what must not get lost, and wait for a side that does not read."""
    link.setblocking(True)
    with suppress(OSError):  # it has died
        link.send(packet[:PACKET])
    link.setblocking(False)


def main(fd: int, host: str, torque_nm: float, force_n: float) -> None:
    """The process."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    gc.disable()  # nothing here makes cycles, and a collection takes some milliseconds
    raise_priority()  # where it is granted
    with socket.socket(fileno=fd) as link:
        link.setblocking(False)
        try:
            Loop(link, host, torque_nm, force_n).run()
        except RuntimeError as error:
            insist(link, LOST + one_line(error).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
