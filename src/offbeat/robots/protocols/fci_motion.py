"""A Franka controller's mind: which setpoints it takes, when it stops by itself, and how it is recovered.

    idle --move--> move --finished, stopped: brakes--> idle
                     |--a limit, 20 lost packets: brakes--> reflex --recover--> recovery --stands--> idle
    any  --user stop: brakes--> user stopped --released--> idle

A packet that does not come is one lost: the controller goes on with the last acceleration. So is one that comes late:
taken after all, it would throw the arm back to where it was when its state was sent. Setpoints are judged by their mean
change over the time between the states that they answer. Source: Franka Control Interface documentation,
"Packet Handling" and "Time Constraints".
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from offbeat.robots.protocols.fci import ERRORS, JOINTS, Command, Controller, Error, Generator, RobotMode, Status
from offbeat.robots.protocols.fci_limits import START_RAD, MotionLimits
from offbeat.robots.protocols.plant import STEP_S
from offbeat.types import FloatArray

LOST_IN_A_ROW = 20
"""So many lost packets, one after the other, end a motion."""

_ROUND_TRIP = 2  # periods within which an answer counts: a real controller takes one, and asks for a real-time kernel
_WINDOW = 100  # packets that the success rate is about
_RECOVERY_PERIODS = 50
_SETPOINT = {Generator.JOINT_POSITION: "q_c", Generator.JOINT_VELOCITY: "dq_c"}


@dataclass
class _Stream:
    """Setpoints of one motion as they come.

    answered, accepted: ids of the states that the newest command and the last accepted one answer. last: position,
    velocity and acceleration of the latter, (7,) each, and passed_s: its time from the one before. came: a bit for each
    packet, the newest lowest.
    """

    answered: int
    accepted: int
    last: tuple[FloatArray, FloatArray, FloatArray]
    passed_s: float = STEP_S
    setpoint: NDArray[np.float64] = field(default_factory=lambda: np.zeros(JOINTS))
    fresh: bool = False
    begun: bool = False
    finished: bool = False
    lost_in_a_row: int = 0
    came: int = (1 << _WINDOW) - 1


class Motion:
    """Setpoints of an arm that begins at rest, one a period of a millisecond."""

    joint_rad: NDArray[np.float64]
    """Desired positions (7,) rad."""
    joint_rad_s: NDArray[np.float64]
    """Desired velocities (7,) rad/s."""
    joint_rad_s2: NDArray[np.float64]
    """Desired accelerations (7,) rad/s2."""
    answers: list[tuple[Command, int, Status]]
    """What has become of commands that took their time, by their ids; for the server to send and to clear."""

    def __init__(self, limits: MotionLimits, joint_rad: FloatArray, counters: dict[str, int]) -> None:
        self._limits, self._counters = limits, counters
        self.joint_rad = np.array(joint_rad, float)
        self.joint_rad_s, self.joint_rad_s2 = np.zeros(JOINTS), np.zeros(JOINTS)
        self.mode, self.generator, self.controller = RobotMode.IDLE, Generator.IDLE, Controller.OTHER
        self.errors, self.last_errors = np.zeros(ERRORS, np.uint8), np.zeros(ERRORS, np.uint8)
        self.answers = []
        self._pending: tuple[Command, int] | None = None  # a command that is not yet answered
        self._ending: Status | None = None  # what to answer once the arm stands
        self._recovery = 0  # periods it still takes
        self._brake = limits.arm.acceleration_limit_rad_s2 * STEP_S
        self._stream = self._new_stream(0)

    @property
    def success_rate(self) -> float:
        """Share of the last 100 packets that came; 0.0 when no motion is under way."""
        return self._stream.came.bit_count() / _WINDOW if self.generator is not Generator.IDLE else 0.0

    def start(self, command_id: int, controller: int, generator: int, message_id: int) -> Status:
        """Begin a motion, for commands that answer states later than `message_id`."""
        if self.mode is not RobotMode.IDLE:
            return Status.NOT_POSSIBLE
        if controller not in (Controller.JOINT_IMPEDANCE, Controller.CARTESIAN_IMPEDANCE) or generator not in _SETPOINT:
            return Status.INVALID_ARGUMENT  # no torques and no Cartesian setpoints here
        self.mode, self.controller, self.generator = RobotMode.MOVE, Controller(controller), Generator(generator)
        self.last_errors[:] = 0
        self._pending = Command.MOVE, command_id
        self._stream = self._new_stream(message_id)
        return Status.MOTION_STARTED

    def stop(self) -> Status:
        """Brake, and end the motion where there is one."""
        if self.mode is RobotMode.USER_STOPPED:
            return Status.EMERGENCY
        if self.mode in (RobotMode.REFLEX, RobotMode.RECOVERY):
            return Status.REFLEX
        if self.mode is RobotMode.MOVE and self._ending is None:
            self._ending = Status.PREEMPTED
        return Status.SUCCESS

    def recover(self, command_id: int) -> Status | None:
        """Clear the errors; None when the answer comes later."""
        if self.mode is RobotMode.IDLE:
            return Status.SUCCESS
        if self.mode is RobotMode.USER_STOPPED:
            return Status.EMERGENCY
        if self.mode is not RobotMode.REFLEX:
            return Status.NOT_POSSIBLE
        self.mode, self._recovery = RobotMode.RECOVERY, _RECOVERY_PERIODS
        self._pending = Command.RECOVER, command_id
        return None

    def reflex(self, error: Error) -> None:
        """Stop by itself, for this error."""
        self._counters["reflexes"] += 1
        self.errors[error] = 1
        self.last_errors[:] = self.errors
        self._abort(RobotMode.REFLEX, Status.REFLEX)

    def user_stop(self) -> None:
        """Somebody pressed the stop button."""
        self._abort(RobotMode.USER_STOPPED, Status.EMERGENCY)

    def release(self) -> None:
        """Somebody released the stop button."""
        if self.mode is RobotMode.USER_STOPPED:
            self.mode = RobotMode.IDLE
            self.errors[:] = 0

    def leave(self) -> None:
        """The client has gone."""
        self._pending = None
        if self.mode is RobotMode.MOVE:
            self._abort(RobotMode.IDLE, Status.PREEMPTED)

    def receive(self, command: NDArray[np.void], message_id: int) -> None:
        """Take a command (of length 1) that answers state `message_id`, the newest, or the one before it."""
        stream, answered = self._stream, int(command["message_id"][0])
        if not self._listens or not max(stream.answered, message_id - _ROUND_TRIP) < answered <= message_id:
            return
        self._counters["commands"] += 1
        stream.answered = answered
        stream.setpoint[:] = command[_SETPOINT[self.generator]][0]
        stream.finished |= bool(command["motion_generation_finished"][0])
        stream.fresh = True

    def advance(self) -> None:
        """Go on by a period."""
        if self._listens and self._stream.fresh:
            self._accept()
        elif self._listens and self._stream.begun:
            self._extrapolate()
        else:
            self._slow_down()
        if not self.joint_rad_s.any():
            self._settle()

    @property
    def _listens(self) -> bool:
        return self.mode is RobotMode.MOVE and self._ending is None

    def _accept(self) -> None:
        stream = self._stream
        stream.fresh = False
        passed_s = (stream.answered - stream.accepted if stream.begun else 1) * STEP_S
        # A difference belongs to the middle of its time.
        between_s = (passed_s + stream.passed_s) / 2
        by_velocity = self.generator is Generator.JOINT_VELOCITY
        if by_velocity:
            velocity = stream.setpoint.copy()
            position = self.joint_rad + velocity * STEP_S
            acceleration = (velocity - stream.last[1]) / passed_s
        else:
            position = stream.setpoint.copy()
            velocity = (position - stream.last[0]) / passed_s
            acceleration = (velocity - stream.last[1]) / between_s
        jerk = (acceleration - stream.last[2]) / between_s
        error = self._limits.check(position, velocity, acceleration, jerk, by_velocity)
        if not (by_velocity or stream.begun or (np.abs(position - self.joint_rad) <= START_RAD).all()):
            error = Error.START_POSE_INVALID
        if error is not None:
            self.reflex(error)
            self._slow_down()
            return
        self.joint_rad, self.joint_rad_s, self.joint_rad_s2 = position, velocity, acceleration
        stream.last, stream.passed_s = (position, velocity, acceleration), passed_s
        stream.begun, stream.accepted = True, stream.answered
        stream.came = (stream.came << 1 | 1) & ((1 << _WINDOW) - 1)
        if stream.finished:
            self._ending = Status.SUCCESS

    def _extrapolate(self) -> None:
        """One packet is lost: the acceleration goes on for its period."""
        stream = self._stream
        self._counters["lost"] += 1
        stream.lost_in_a_row = stream.lost_in_a_row + 1 if stream.came & 1 == 0 else 1
        stream.came = stream.came << 1 & ((1 << _WINDOW) - 1)
        if stream.lost_in_a_row >= LOST_IN_A_ROW:
            self.reflex(Error.COMMUNICATION_CONSTRAINTS)
            self._slow_down()
            return
        top = self._limits.arm.velocity_limit_rad_s
        self.joint_rad_s = np.clip(self.joint_rad_s + self.joint_rad_s2 * STEP_S, -top, top)
        self.joint_rad = self.joint_rad + self.joint_rad_s * STEP_S

    def _slow_down(self) -> None:
        """Brake as fast as the arm may."""
        change = np.clip(-self.joint_rad_s, -self._brake, self._brake)
        self.joint_rad_s = self.joint_rad_s + change
        self.joint_rad_s2 = change / STEP_S
        self.joint_rad = self.joint_rad + self.joint_rad_s * STEP_S

    def _settle(self) -> None:
        """The arm stands: end what waited for it."""
        if self._ending is not None:
            self._abort(RobotMode.IDLE, self._ending)
        elif self.mode is RobotMode.RECOVERY:
            self._recovery -= 1
            if self._recovery <= 0:
                self.errors[:] = 0
                self._abort(RobotMode.IDLE, Status.SUCCESS)

    def _abort(self, mode: RobotMode, status: Status) -> None:
        """No motion from now on, and this mode; whatever is pending gets this answer."""
        self.mode, self.generator, self.controller = mode, Generator.IDLE, Controller.OTHER
        self._ending = None
        if self._pending is not None:
            self.answers.append((*self._pending, status))
            self._pending = None

    def _new_stream(self, message_id: int) -> _Stream:
        return _Stream(message_id, message_id, (self.joint_rad, self.joint_rad_s, self.joint_rad_s2))
