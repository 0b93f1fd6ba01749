"""The Franka Emika Panda in numbers: kinematics, inertias and limits, and its flange's pose and Jacobian.

Frames follow the modified Denavit-Hartenberg convention (Craig): joint i turns about the z axis of frame i, which lies
in frame i - 1 at Rx(twist) Tx(a) Rz(q) Tz(d). The flange is `FLANGE_M` beyond joint 7 along its axis; no hand.

Sources: Franka Control Interface documentation, "Robot and interface specifications" (kinematics, limits); C. Gaz,
M. Cognetti, A. Oliva, P. Robuffo Giordano, A. De Luca, "Dynamic Identification of the Franka Emika Panda Robot With
Retrieval of Feasible Parameters Using Penalty-Based Optimization", IEEE RA-L 4(4), 2019 (inertias).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from offbeat.types import FloatArray


def _constant(*values: float) -> NDArray[np.float64]:
    array = np.array(values)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True)
class DHRow:
    """From frame i - 1 to frame i at zero angle: offset along x (m), offset along the new z (m), turn about x (rad)."""

    a_m: float
    d_m: float
    twist_rad: float


@dataclass(frozen=True, slots=True)
class Link:
    """A rigid body in its joint's frame.

    mass_kg; com_m: centre of mass (3,); inertia_kg_m2: about the centre of mass, axes of the joint's frame, ordered
    xx, yy, zz, xy, xz, yz.
    """

    mass_kg: float
    com_m: tuple[float, float, float]
    inertia_kg_m2: tuple[float, float, float, float, float, float]


DH = (
    DHRow(0.0, 0.333, 0.0),
    DHRow(0.0, 0.0, -pi / 2),
    DHRow(0.0, 0.316, pi / 2),
    DHRow(0.0825, 0.0, pi / 2),
    DHRow(-0.0825, 0.384, -pi / 2),
    DHRow(0.0, 0.0, pi / 2),
    DHRow(0.088, 0.0, pi / 2),
)
"""Rows of the seven joints, base first."""

FLANGE_M = 0.107
"""From frame 7 to the flange, along the axis of joint 7 (m)."""

LINKS = (
    Link(
        mass_kg=4.970684,
        com_m=(3.875e-3, 2.081e-3, -4.762e-2),
        inertia_kg_m2=(7.0337e-1, 7.0661e-1, 9.117e-3, -1.39e-4, 6.772e-3, 1.9169e-2),
    ),
    Link(
        mass_kg=0.646926,
        com_m=(-3.141e-3, -2.872e-2, 3.495e-3),
        inertia_kg_m2=(7.962e-3, 2.811e-2, 2.5995e-2, -3.925e-3, 1.0254e-2, 7.04e-4),
    ),
    Link(
        mass_kg=3.228604,
        com_m=(2.7518e-2, 3.9252e-2, -6.6502e-2),
        inertia_kg_m2=(3.7242e-2, 3.6155e-2, 1.083e-2, -4.761e-3, -1.1396e-2, -1.2805e-2),
    ),
    Link(
        mass_kg=3.587895,
        com_m=(-5.317e-2, 1.04419e-1, 2.7454e-2),
        inertia_kg_m2=(2.5853e-2, 1.9552e-2, 2.8323e-2, 7.796e-3, -1.332e-3, 8.641e-3),
    ),
    Link(
        mass_kg=1.225946,
        com_m=(-1.1953e-2, 4.1065e-2, -3.8437e-2),
        inertia_kg_m2=(3.5549e-2, 2.9474e-2, 8.627e-3, -2.117e-3, -4.037e-3, 2.29e-4),
    ),
    Link(
        mass_kg=1.666555,
        com_m=(6.0149e-2, -1.4117e-2, -1.0517e-2),
        inertia_kg_m2=(1.964e-3, 4.354e-3, 5.433e-3, 1.09e-4, -1.158e-3, 3.41e-4),
    ),
    Link(
        mass_kg=0.735522,
        com_m=(1.0517e-2, -4.252e-3, 6.1597e-2),
        inertia_kg_m2=(1.2516e-2, 1.0027e-2, 4.815e-3, -4.28e-4, -1.196e-3, -7.41e-4),
    ),
)
"""The seven moving links, base first (Gaz et al. 2019)."""

JOINT_LOWER_RAD = _constant(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
"""Lower joint limits (7,) rad."""
JOINT_UPPER_RAD = _constant(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
"""Upper joint limits (7,) rad."""
VELOCITY_LIMIT_RAD_S = _constant(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
"""Joint velocity limits (7,) rad/s."""
ACCELERATION_LIMIT_RAD_S2 = _constant(15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)
"""Joint acceleration limits (7,) rad/s^2."""
JERK_LIMIT_RAD_S3 = _constant(7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0)
"""Joint jerk limits (7,) rad/s^3."""
TORQUE_LIMIT_NM = _constant(87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
"""Joint torque limits (7,) Nm."""

LEVER_M = _constant(0.858, 0.858, 0.614, 0.532, 0.139, 0.139, 0.0)
"""No configuration puts the flange further from the axis of joint i than this (7,) m: the chain beyond it stretched."""


def flange_position(joint_rad: Sequence[float]) -> tuple[float, float, float]:
    """Position x, y, z of the flange in the base frame (m).

    joint_rad: seven joint positions (rad); a list is faster than an array. The flange's point is carried from frame to
    frame towards the base, which costs a tenth of pose and Jacobian. Joint 7 does not move it.
    """
    # Twists are quarter turns: Rx(+pi/2) maps (x, y, z) to (x, -z, y), and Rx(-pi/2) to (x, z, -y).
    q1, q2, q3, q4, q5, q6, _ = joint_rad
    c, s = cos(q6), sin(q6)
    x, y, z = 0.088 * c + FLANGE_M * s, 0.0, 0.088 * s - FLANGE_M * c
    c, s = cos(q5), sin(q5)
    x, y, z = c * x - s * y - 0.0825, z + 0.384, -(s * x + c * y)
    c, s = cos(q4), sin(q4)
    x, y, z = c * x - s * y + 0.0825, -z, s * x + c * y
    c, s = cos(q3), sin(q3)
    x, y, z = c * x - s * y, -(z + 0.316), s * x + c * y
    c, s = cos(q2), sin(q2)
    x, y, z = c * x - s * y, z, -(s * x + c * y)
    c, s = cos(q1), sin(q1)
    return c * x - s * y, s * x + c * y, z + 0.333


def kinematics(joint_rad: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pose (4, 4) and geometric Jacobian (6, 7) of the flange in the base frame, both in one pass.

    joint_rad: (7,) rad. The Jacobian maps joint velocities (rad/s) to the flange's linear (m/s, rows 0-2) and angular
    velocity (rad/s, rows 3-5): column i is (z_i x (p - o_i), z_i) for axis z_i through the origin o_i of frame i.
    """
    # Plain floats and an unrolled chain: numpy's call overhead would cost ten times the arithmetic. x, y, z are the
    # axes of the current frame, p its origin; a twist of a quarter turn only swaps and negates y and z.
    xx, xy, xz = 1.0, 0.0, 0.0
    yx, yy, yz = 0.0, 1.0, 0.0
    zx, zy, zz = 0.0, 0.0, 1.0
    px, py, pz = 0.0, 0.0, 0.0
    axes: list[tuple[float, float, float]] = []
    origins: list[tuple[float, float, float]] = []
    for (a, d, turn), q in zip(_CHAIN, joint_rad.tolist(), strict=True):
        if turn > 0:
            yx, yy, yz, zx, zy, zz = zx, zy, zz, -yx, -yy, -yz
        elif turn < 0:
            yx, yy, yz, zx, zy, zz = -zx, -zy, -zz, yx, yy, yz
        px, py, pz = px + a * xx + d * zx, py + a * xy + d * zy, pz + a * xz + d * zz
        c, s = cos(q), sin(q)
        xx, yx = c * xx + s * yx, c * yx - s * xx
        xy, yy = c * xy + s * yy, c * yy - s * xy
        xz, yz = c * xz + s * yz, c * yz - s * xz
        axes.append((zx, zy, zz))
        origins.append((px, py, pz))
    px, py, pz = px + FLANGE_M * zx, py + FLANGE_M * zy, pz + FLANGE_M * zz
    columns: list[float] = []
    for (ax, ay, az), (ox, oy, oz) in zip(axes, origins, strict=True):
        rx, ry, rz = px - ox, py - oy, pz - oz
        columns += (ay * rz - az * ry, az * rx - ax * rz, ax * ry - ay * rx, ax, ay, az)
    pose = np.array((xx, yx, zx, px, xy, yy, zy, py, xz, yz, zz, pz, 0.0, 0.0, 0.0, 1.0)).reshape(4, 4)
    return pose, np.array(columns).reshape(7, 6).T


_REACH_STEPS, _REACH_DAMPING = 10, 0.02
_CHAIN = tuple((row.a_m, row.d_m, (row.twist_rad > 0) - (row.twist_rad < 0)) for row in DH)


def forward_kinematics(joint_rad: FloatArray) -> NDArray[np.float64]:
    """Pose (4, 4) of the flange in the base frame (m), for joint positions (7,) rad."""
    return kinematics(np.asarray(joint_rad, float))[0]


def jacobian(joint_rad: FloatArray) -> NDArray[np.float64]:
    """Geometric Jacobian (6, 7) of the flange in the base frame, for joint positions (7,) rad; see `kinematics`."""
    return kinematics(np.asarray(joint_rad, float))[1]


def reach(joint_rad: FloatArray, position_m: FloatArray) -> NDArray[np.float64]:
    """Joint positions (7,) rad near `joint_rad` that put the flange at `position_m` (3,) and keep its orientation.

    Damped least squares from the Jacobian (Wampler 1986), for distances of a few centimetres; limits are not looked at.
    """
    joints = np.array(joint_rad, float)
    for _ in range(_REACH_STEPS):
        pose, jac = kinematics(joints)
        gap = np.concatenate([np.asarray(position_m) - pose[:3, 3], np.zeros(3)])
        joints += jac.T @ np.linalg.solve(jac @ jac.T + _REACH_DAMPING**2 * np.eye(6), gap)
    return joints
