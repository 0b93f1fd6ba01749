"""A Franka Research 3 (FR3) through franky-control: its C++ loop ramps to each command and holds it for a time.

command_velocity  --motion: velocity, hold-->  franky's thread, 1 kHz: ramp, hold, and ramp to zero after the hold
read_state        <--newest state-----------
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from offbeat.errors import RobotError, RobotFaultError
from offbeat.robots.base import RobotSetup
from offbeat.robots.franka import JOINTS, REFLEX, has_realtime_kernel, refuse_closed
from offbeat.robots.models.franka import FR3_TRAVEL
from offbeat.robots.moves import move_by_velocity
from offbeat.robots.vendor import checked, one_line, wait_until
from offbeat.timing.realtime import keep_scheduler, lend_priority
from offbeat.types import FloatArray, RobotState

# Over lost packets a controller goes on with the last acceleration, and franky then steps back to its own ramp: the
# gentler that is, the smaller the step, and at 5 rad/s2 in a millisecond an FR3 stops. So this is less than the safety
# filter plans with, 6 rad/s2: from 0.2 rad/s a joint goes 1.7 mrad further to a stand. franky's own limits are a
# Panda's, up to 20 rad/s2, which an FR3 does not take.
_ACCELERATION_RAD_S2, _JERK_RAD_S3 = 4.0, 1000.0
_STAND_S = 2.0


class FrankyArm:
    """An FR3, driven by joint velocities. Implements `Robot` and `Recoverable`."""

    def __init__(self, setup: RobotSetup) -> None:
        """Connect and set the thresholds of the collision reflexes.

        Raises: RobotError when the connection fails or the arm cannot be moved.
        """
        import franky

        self._franky, self._setup, self._clock = franky, setup, setup.clock
        # franky's errors have no base in Python but Exception, and some of the network's are none of its own.
        known = (kind for kind in vars(franky).values() if isinstance(kind, type) and issubclass(kind, Exception))
        self._errors: tuple[type[Exception], ...] = (*known, RuntimeError)
        self._hold = franky.Duration(max(1, round(1000 * setup.hold_s)))
        self._time_ms, self._stamp_s = -1, 0.0
        self._fault = ""  # what franky said when its loop ended
        config = franky.RealtimeConfig
        try:
            with keep_scheduler():  # franky gives whoever connects the highest priority there is
                self._robot = franky.Robot(
                    setup.host, realtime_config=config.Enforce if has_realtime_kernel() else config.Ignore
                )
            self._robot.joint_acceleration_limit.set([_ACCELERATION_RAD_S2] * JOINTS)
            self._robot.joint_jerk_limit.set([_JERK_RAD_S3] * JOINTS)
            torques, forces = [setup.hardware.collision_torque_nm] * JOINTS, [setup.hardware.collision_force_n] * 6
            self._robot.set_collision_behavior(torques, forces)
            state = self._robot.state
            refuse_closed(state.robot_mode.name)
            if state.robot_mode.name == REFLEX:
                self._robot.recover_from_errors()
        except self._errors as error:
            raise RobotError(f"The FR3 at {setup.host} cannot be used: {one_line(error)}.") from error

    def read_state(self) -> RobotState:
        """Joint positions and velocities, and when they arrived.

        Raises: RobotFaultError when the arm has stopped by itself; RobotError when it cannot be recovered from here.
        """
        try:
            self._hear()
            state = self._robot.state
        except self._errors as error:
            raise RobotError(
                f"The FR3 cannot be used ({one_line(error)}): check its cable, its power and what Desk says, and start "
                "again."
            ) from error
        time_ms = state.time.to_msec()
        if time_ms != self._time_ms:
            self._time_ms, self._stamp_s = time_ms, self._clock.now()
        read = RobotState(np.array(state.q), np.array(state.dq), self._stamp_s)
        mode = state.robot_mode.name
        refuse_closed(mode)
        if self._fault or mode == REFLEX:
            raise RobotFaultError(f"The FR3 has stopped by itself: {self._fault or state.current_errors}.", read)
        return read

    def command_velocity(self, joint_rad_s: FloatArray) -> FloatArray:
        """Ramp to this velocity (7,) rad/s, clipped to the arm's limits, and hold it; returns what was sent.

        Raises: RobotError when it is not seven finite numbers; as `read_state`.
        """
        command = checked(joint_rad_s, JOINTS)
        sent = FR3_TRAVEL.clip(command, self.read_state().joint_rad, self._setup.hold_s)
        self._move(self._franky.JointVelocityMotion(sent, self._hold))
        return sent

    def move_to(self, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float = 0.02) -> None:
        """Move to a joint position (7,) rad and stop. Raises: MoveTimeoutError when it did not arrive in time."""
        move_by_velocity(self, self._clock, joint_rad, timeout_s, tolerance_rad)

    def stop(self) -> None:
        """Ramp to a stand."""
        with suppress(*self._errors, RobotError):  # an arm out of control stands, and `read_state` says why
            if self._robot.is_in_control:
                self._move(self._franky.JointVelocityStopMotion())

    def recover(self) -> None:
        """Clear the controller's error. Raises: RobotError when it does not let us."""
        try:
            self._hear()
            refuse_closed(self._robot.state.robot_mode.name)
            recovered = self._robot.recover_from_errors()
        except self._errors as error:
            raise RobotError(f"The FR3 could not be recovered: {one_line(error)}.") from error
        if not recovered:
            raise RobotError(f"The FR3 could not be recovered: {self._robot.state.current_errors}.")
        self._fault = ""

    def close(self) -> None:
        """Stand, and let go of the arm."""
        self.stop()
        wait_until(lambda: not self._robot.is_in_control, self._clock, _STAND_S)
        del self._robot  # and the connection with it

    def _move(self, motion: Any) -> None:
        """Hand over to franky's loop, or start it. Raises: RobotFaultError when it had ended with an error."""
        try:
            with lend_priority():  # its loop is a thread that begins with a motion, and has a millisecond a turn
                self._robot.move(motion, asynchronous=True)
        except self._errors as error:
            self._fault = one_line(error)
            raise RobotFaultError(f"The FR3 has stopped by itself: {self._fault}.") from error

    def _hear(self) -> None:
        """Take what franky's loop ended with, if it did: it says so once."""
        try:
            self._robot.poll_motion()
        except self._franky.ControlException as error:
            self._fault = one_line(error)
