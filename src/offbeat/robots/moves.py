"""The authors' reset moves: proportional control by joint velocities, for any arm that takes them."""

from __future__ import annotations

import math

import numpy as np

from offbeat.errors import MoveTimeoutError
from offbeat.robots.base import Robot
from offbeat.timing.clock import Clock
from offbeat.types import FloatArray

RATE_HZ = 40.0
GAIN = 2.0
LIMIT_RAD_S = 1.3


def move_by_velocity(robot: Robot, clock: Clock, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float) -> None:
    """Steer to a joint position (N,) rad at 40 Hz with gain 2 and at most 1.3 rad/s, then stop, whatever happens.

    Raises: MoveTimeoutError when a joint is further than the tolerance (rad) from its goal at the time-out (s).
    """
    start = clock.now()
    try:
        for tick in range(1, math.ceil(timeout_s * RATE_HZ) + 1):
            error = np.asarray(joint_rad) - robot.read_state().joint_rad
            if np.abs(error).max() <= tolerance_rad:
                break
            robot.command_velocity(np.minimum(np.maximum(GAIN * error, -LIMIT_RAD_S), LIMIT_RAD_S))
            clock.sleep_until(start + tick / RATE_HZ)
    finally:
        robot.stop()
    worst = float(np.abs(np.asarray(joint_rad) - robot.read_state().joint_rad).max())
    if worst > tolerance_rad:
        raise MoveTimeoutError(
            f"The arm is {worst:.3f} rad from its goal after {timeout_s:g} s, where {tolerance_rad:g} is allowed: "
            "look for an obstacle, or allow more time."
        )
