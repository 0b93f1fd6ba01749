"""What Franka's two controllers hold an arm to: the FR3's limits, and the travel of both arms.

An FR3 has the Panda's kinematics and, for our purposes, its looks and inertias; its limits are its own. Source: Franka
Control Interface documentation, "Robot and interface specifications" (limits of the FR3 and of the FER, the Panda).
"""

from __future__ import annotations

from dataclasses import replace

from offbeat.robots.models.arm import constant
from offbeat.robots.models.panda import PANDA
from offbeat.robots.models.travel import Travel

FR3 = replace(
    PANDA,
    joint_lower_rad=constant(-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196),
    joint_upper_rad=constant(2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196),
    velocity_limit_rad_s=constant(2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26),
    acceleration_limit_rad_s2=constant(*(10.0,) * 7),
)
"""The Franka Research 3."""


# The controllers judge what they measure, so nothing is commanded right at their limits.
_SHARE = 0.95

FR3_TRAVEL = Travel(
    FR3.joint_lower_rad,
    FR3.joint_upper_rad,
    _SHARE * FR3.velocity_limit_rad_s,
    constant(0.40, 0.30, 0.30, 0.40, 0.45, 0.45, 0.45),
    constant(6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0),
)
"""The FR3's published limits of velocity by position, which its controller enforces, and 0.1 rad/s more in reserve."""

PANDA_TRAVEL = Travel(
    PANDA.joint_lower_rad,
    PANDA.joint_upper_rad,
    _SHARE * PANDA.velocity_limit_rad_s,
    constant(*(0.2,) * 7),
    constant(*(3.0,) * 7),
)
"""A Panda's controller knows no more than the ends: this brakes at less than half of what the arm can."""
