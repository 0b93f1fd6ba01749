"""What Franka's controllers demand of the setpoints they are sent, millisecond by millisecond.

Source: Franka Control Interface documentation, "Robot and interface specifications", limits in the joint space of the
FER (the Panda) and of the FR3, and the names of the errors in "Troubleshooting".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offbeat.robots.models.arm import ArmModel, constant
from offbeat.robots.models.franka import FR3
from offbeat.robots.models.panda import PANDA
from offbeat.robots.protocols.fci import Error
from offbeat.types import FloatArray

# An FR3's states are floats: what a client computes from them and sends back is off by as much, and a difference
# over a millisecond, or two, makes it large.
_TOLERANCE, _JERK_TOLERANCE_RAD_S3 = 1.01, 1.0
START_RAD = 0.1
"""No motion by joint positions may begin further away from the arm (rad)."""


@dataclass(frozen=True, eq=False)
class MotionLimits:
    """Limits of one arm's setpoints. jerk_rad_s3: (7,).

    offset_rad_s, braking_rad_s2: (7,) each, where a joint must go slower towards the ends of its travel: at a distance
    d, sqrt(2 braking d) - offset at most. None where only its limit counts.
    """

    arm: ArmModel
    jerk_rad_s3: NDArray[np.float64]
    offset_rad_s: NDArray[np.float64] | None = None
    braking_rad_s2: NDArray[np.float64] | None = None

    def check(
        self, joint_rad: FloatArray, velocity: FloatArray, acceleration: FloatArray, jerk: FloatArray, by_velocity: bool
    ) -> Error | None:
        """The error that a setpoint raises, or None. (7,) each, in rad and seconds; numbers that are none raise one.

        by_velocity: whether velocities are sent, whose steps count as accelerations; of positions, as velocities.
        """
        arm = self.arm
        if not ((joint_rad > arm.joint_lower_rad) & (joint_rad < arm.joint_upper_rad)).all():
            return Error.POSITION_LIMITS
        least, most = self._velocities(joint_rad)
        if not ((velocity >= least) & (velocity <= most)).all():
            return Error.VELOCITY_LIMITS
        if not (np.abs(acceleration) <= _TOLERANCE * arm.acceleration_limit_rad_s2).all():
            return Error.ACCELERATION_DISCONTINUITY if by_velocity else Error.VELOCITY_DISCONTINUITY
        if not (np.abs(jerk) <= _TOLERANCE * self.jerk_rad_s3 + _JERK_TOLERANCE_RAD_S3).all():
            return Error.ACCELERATION_DISCONTINUITY
        return None

    def _velocities(self, joint_rad: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        top = self.arm.velocity_limit_rad_s
        if self.offset_rad_s is None or self.braking_rad_s2 is None:
            return -top, top
        twice = 2.0 * self.braking_rad_s2
        up = np.sqrt(twice * (self.arm.joint_upper_rad - joint_rad)) - self.offset_rad_s
        down = np.sqrt(twice * (joint_rad - self.arm.joint_lower_rad)) - self.offset_rad_s
        return -np.minimum(top, np.maximum(down, 0.0)), np.minimum(top, np.maximum(up, 0.0))


LIMITS = {
    5: MotionLimits(PANDA, constant(7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0)),
    10: MotionLimits(
        FR3,
        constant(*(5000.0,) * 7),
        offset_rad_s=constant(0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35),
        braking_rad_s2=constant(6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0),
    ),
}
"""Limits of the arm that speaks each version of the interface."""
