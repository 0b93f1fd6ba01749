"""An arm in numbers: kinematics, inertias and limits, and its flange's pose and Jacobian.

Frames follow the modified Denavit-Hartenberg convention (Craig): joint i turns about the z axis of frame i, which lies
in frame i - 1 at Rx(twist) Tx(a) Rz(q) Tz(d), with twists of quarter turns. The flange lies beyond the last joint,
along its axis. N is the number of joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import cos, sin
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from offbeat.types import FloatArray

_REACH_STEPS, _REACH_DAMPING = 10, 0.02


def constant(*values: float) -> NDArray[np.float64]:
    """An array that cannot be written."""
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


@dataclass(frozen=True, slots=True)
class Shape:
    """What a link looks like in part: a capsule or cylinder from one end (3,) to the other (3,), in its joint's frame.

    ends_m: both ends (6,).
    """

    ends_m: tuple[float, ...]
    radius_m: float
    rgb: tuple[float, float, float]
    kind: Literal["capsule", "cylinder"] = "capsule"


@dataclass(frozen=True, eq=False)
class ArmModel:
    """An arm, base first.

    dh: rows of its joints. flange_m: from the last frame to the flange, along the last axis. links: the moving ones.
    base: what stands on the table, in the base frame. shapes: what each link looks like.
    camera_up: where the camera's mount points the image's up, x and y in the flange's frame, of any length.
    Limits, (N,) each. lever_m: no configuration puts the flange further from the axis of joint i than this (N,).
    flange_position: x, y, z of the flange (m) for N joint positions (rad); a list is faster than an array.
    """

    dh: tuple[DHRow, ...]
    flange_m: float
    links: tuple[Link, ...]
    base: tuple[Shape, ...]
    shapes: tuple[tuple[Shape, ...], ...]
    camera_up: tuple[float, float]
    joint_lower_rad: NDArray[np.float64]
    joint_upper_rad: NDArray[np.float64]
    velocity_limit_rad_s: NDArray[np.float64]
    acceleration_limit_rad_s2: NDArray[np.float64]
    torque_limit_nm: NDArray[np.float64]
    lever_m: NDArray[np.float64]
    flange_position: Callable[[Sequence[float]], tuple[float, float, float]]

    @property
    def joints(self) -> int:
        """Number of joints, N."""
        return len(self.dh)

    @cached_property
    def _chain(self) -> tuple[tuple[float, float, int], ...]:
        return tuple((row.a_m, row.d_m, (row.twist_rad > 0) - (row.twist_rad < 0)) for row in self.dh)

    def kinematics(self, joint_rad: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pose (4, 4) and geometric Jacobian (6, N) of the flange in the base frame, both in one pass.

        joint_rad: (N,) rad. The Jacobian maps joint velocities (rad/s) to the flange's linear (m/s, rows 0-2) and
        angular velocity (rad/s, rows 3-5): column i is (z_i x (p - o_i), z_i) for axis z_i through the origin o_i of
        frame i.
        """
        # Plain floats and an unrolled chain: numpy's call overhead would cost ten times the arithmetic. x, y, z are
        # the axes of the current frame, p its origin; a twist of a quarter turn only swaps and negates y and z.
        xx, xy, xz = 1.0, 0.0, 0.0
        yx, yy, yz = 0.0, 1.0, 0.0
        zx, zy, zz = 0.0, 0.0, 1.0
        px, py, pz = 0.0, 0.0, 0.0
        axes: list[tuple[float, float, float]] = []
        origins: list[tuple[float, float, float]] = []
        for (a, d, turn), q in zip(self._chain, joint_rad.tolist(), strict=True):
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
        reach = self.flange_m
        px, py, pz = px + reach * zx, py + reach * zy, pz + reach * zz
        columns: list[float] = []
        for (ax, ay, az), (ox, oy, oz) in zip(axes, origins, strict=True):
            rx, ry, rz = px - ox, py - oy, pz - oz
            columns += (ay * rz - az * ry, az * rx - ax * rz, ax * ry - ay * rx, ax, ay, az)
        pose = np.array((xx, yx, zx, px, xy, yy, zy, py, xz, yz, zz, pz, 0.0, 0.0, 0.0, 1.0)).reshape(4, 4)
        return pose, np.array(columns).reshape(-1, 6).T

    def forward_kinematics(self, joint_rad: FloatArray) -> NDArray[np.float64]:
        """Pose (4, 4) of the flange in the base frame (m), for joint positions (N,) rad."""
        return self.kinematics(np.asarray(joint_rad, float))[0]

    def jacobian(self, joint_rad: FloatArray) -> NDArray[np.float64]:
        """Geometric Jacobian (6, N) of the flange in the base frame, for joint positions (N,) rad; see `kinematics`."""
        return self.kinematics(np.asarray(joint_rad, float))[1]

    def reach(self, joint_rad: FloatArray, position_m: FloatArray) -> NDArray[np.float64]:
        """Joint positions (N,) rad near `joint_rad` that put the flange at `position_m` (3,) and keep its orientation.

        Damped least squares from the Jacobian (Wampler 1986), for distances of a few centimetres; limits are not
        looked at.
        """
        joints = np.array(joint_rad, float)
        for _ in range(_REACH_STEPS):
            pose, jac = self.kinematics(joints)
            gap = np.concatenate([np.asarray(position_m) - pose[:3, 3], np.zeros(3)])
            joints += jac.T @ np.linalg.solve(jac @ jac.T + _REACH_DAMPING**2 * np.eye(6), gap)
        return joints
