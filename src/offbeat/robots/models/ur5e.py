"""The Universal Robots UR5e in numbers; no tool.

Sources: Universal Robots, "DH Parameters for calculations of kinematics and dynamics" (kinematics, masses, centres of
mass), "Max. joint torques" and the UR5e user manual (limits). The published table is in the original
Denavit-Hartenberg convention, whose frame i lies at Tx(a) Rx(alpha) in frame i of ours. Universal Robots calls the
inertias negligible and gives none: ours are those of solid cylinders.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin

from offbeat.robots.models.arm import ArmModel, DHRow, Link, Shape, constant

_UPPER_ARM_M, _FOREARM_M = -0.425, -0.3922
_SHOULDER_M, _WRIST_1_M, _WRIST_2_M, _FLANGE_M = 0.1625, 0.1333, 0.0997, 0.0996

_SILVER, _GREY, _BLUE = (0.77, 0.79, 0.81), (0.52, 0.54, 0.57), (0.33, 0.60, 0.79)


def flange_position(joint_rad: Sequence[float]) -> tuple[float, float, float]:
    """Position x, y, z of the flange in the base frame (m).

    joint_rad: six joint positions (rad); a list is faster than an array. Joints 2 to 4 turn about parallel axes, so
    they move the flange in a plane, which joint 1 turns. Joint 6 does not move it.
    """
    q1, q2, q3, q4, q5, _ = joint_rad
    elbow = q2 + q3
    wrist = elbow + q4
    c, s = cos(wrist), sin(wrist)
    beside = _FLANGE_M * sin(q5)
    out = _UPPER_ARM_M * cos(q2) + _FOREARM_M * cos(elbow) + _WRIST_2_M * s - beside * c
    up = _UPPER_ARM_M * sin(q2) + _FOREARM_M * sin(elbow) - _WRIST_2_M * c - beside * s
    side = _WRIST_1_M + _FLANGE_M * cos(q5)
    c, s = cos(q1), sin(q1)
    return c * out + s * side, s * out - c * side, up + _SHOULDER_M


def _link(mass_kg: float, com_m: tuple[float, float, float], radius_m: float, length_m: float, axis: int) -> Link:
    """A link with the inertia of a solid cylinder along axis 0 (x), 1 (y) or 2 (z)."""
    moments = [mass_kg * (3 * radius_m**2 + length_m**2) / 12] * 3
    moments[axis] = mass_kg * radius_m**2 / 2
    return Link(mass_kg, com_m, (moments[0], moments[1], moments[2], 0.0, 0.0, 0.0))


def _housing(ends_m: tuple[float, ...], radius_m: float, cap_m: tuple[float, ...] = ()) -> tuple[Shape, ...]:
    """A joint's grey housing and, where it has one, its blue cap."""
    cap = (Shape(cap_m, radius_m, _BLUE, "cylinder"),) if cap_m else ()
    return (Shape(ends_m, radius_m, _GREY, "cylinder"), *cap)


UR5E = ArmModel(
    dh=(
        DHRow(0.0, _SHOULDER_M, 0.0),
        DHRow(0.0, 0.0, pi / 2),
        DHRow(_UPPER_ARM_M, 0.0, 0.0),
        DHRow(_FOREARM_M, _WRIST_1_M, 0.0),
        DHRow(0.0, _WRIST_2_M, pi / 2),
        DHRow(0.0, 0.0, -pi / 2),
    ),
    flange_m=_FLANGE_M,
    links=(
        _link(3.761, (0.0, -0.00193, -0.02561), 0.06, 0.15, 2),
        _link(8.058, (-0.2125, 0.0, 0.11336), 0.06, 0.5, 0),
        _link(2.846, (-0.2422, 0.0, 0.0265), 0.045, 0.45, 0),
        _link(1.37, (0.0, -0.01634, -0.0018), 0.045, 0.12, 2),
        _link(1.3, (0.0, 0.01634, -0.0018), 0.045, 0.12, 2),
        _link(0.365, (0.0, 0.0, _FLANGE_M - 0.001159), 0.0375, 0.046, 2),
    ),
    base=(
        Shape((0, 0, 0, 0, 0, 0.03), 0.085, _GREY, "cylinder"),
        Shape((0, 0, 0.03, 0, 0, 0.1), 0.07, _SILVER, "cylinder"),
    ),
    shapes=(
        (
            Shape((0, 0, -0.065, 0, 0, 0), 0.066, _SILVER, "cylinder"),
            *_housing((0, 0.065, 0, 0, -0.07, 0), 0.066, (0, 0.085, 0, 0, 0.065, 0)),
        ),
        (
            *_housing((0, 0, 0.07, 0, 0, 0.195), 0.066, (0, 0, 0.195, 0, 0, 0.212)),
            Shape((0, 0, 0.138, -0.425, 0, 0.138), 0.05, _SILVER),
            *_housing((-0.425, 0, 0.065, -0.425, 0, 0.19), 0.057, (-0.425, 0, 0.19, -0.425, 0, 0.206)),
        ),
        (
            *_housing((0, 0, -0.045, 0, 0, 0.065), 0.057, (0, 0, -0.06, 0, 0, -0.045)),
            Shape((0, 0, 0.007, -0.3922, 0, 0.007), 0.04, _SILVER),
            *_housing((-0.3922, 0, -0.04, -0.3922, 0, 0.07), 0.045, (-0.3922, 0, -0.052, -0.3922, 0, -0.04)),
        ),
        (
            *_housing((0, 0, -0.063, 0, 0, 0.042), 0.045, (0, 0, 0.042, 0, 0, 0.054)),
            Shape((0, 0, 0, 0, -0.05, 0), 0.045, _SILVER, "cylinder"),
        ),
        (
            *_housing((0, 0, -0.05, 0, 0, 0.042), 0.045, (0, 0, 0.042, 0, 0, 0.054)),
            Shape((0, 0, 0, 0, 0.05, 0), 0.045, _SILVER, "cylinder"),
        ),
        (Shape((0, 0, 0.05, 0, 0, 0.085), 0.0375, _GREY, "cylinder"),),
    ),
    camera_up=(0.0, -1.0),
    joint_lower_rad=constant(-2 * pi, -2 * pi, -pi, -2 * pi, -2 * pi, -2 * pi),
    joint_upper_rad=constant(2 * pi, 2 * pi, pi, 2 * pi, 2 * pi, 2 * pi),
    velocity_limit_rad_s=constant(*[pi] * 6),
    # Not published. With 150 Nm the shoulder lifts the stretched arm (4 kg m2, 60 Nm of gravity) at over 20 rad/s2.
    acceleration_limit_rad_s2=constant(*[15.0] * 6),
    torque_limit_nm=constant(150.0, 150.0, 150.0, 28.0, 28.0, 28.0),
    # The chain beyond each joint, stretched; joint 2's is 0.425 + 0.3922 + |(0.0997, 0.0996)|, all in its plane.
    lever_m=constant(0.987, 0.959, 0.534, 0.141, 0.0996, 0.0),
    flange_position=flange_position,
)
"""The second arm."""
