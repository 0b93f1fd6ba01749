"""The Panda's numbers and its flange's pose, by hand."""

from __future__ import annotations

import math

import numpy as np

from offbeat.robots.models.panda import PANDA

PI = math.pi
READY = np.array([0, -PI / 4, 0, -3 * PI / 4, 0, PI / 2, PI / 4])


def test_zero_pose_by_hand():
    # Straight up, the hand pointing down: up 0.333 + 0.316 + 0.384, out 0.088, down 0.107.
    expected = [[1, 0, 0, 0.088], [0, -1, 0, 0], [0, 0, -1, 0.333 + 0.316 + 0.384 - 0.107], [0, 0, 0, 1]]
    np.testing.assert_allclose(PANDA.forward_kinematics(np.zeros(7)), expected, atol=1e-12)


def test_the_base_joint_turns_the_pose_about_z():
    pose = PANDA.forward_kinematics(np.array([PI / 2, 0, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(pose[:3, 3], [0, 0.088, 0.926], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 0], [0, 1, 0], atol=1e-12)


def test_bent_elbow_by_hand():
    # Elbow at a right angle: from (0.0825, 0, 0.649) the forearm of 0.384 points forward, offset 0.0825 up, and a
    # wrist at a right angle lets the flange hang down 0.107 at 0.088 beyond the forearm's end.
    pose = PANDA.forward_kinematics(np.array([0, 0, 0, -PI / 2, 0, PI / 2, 0]))
    np.testing.assert_allclose(pose[:3, 3], [0.0825 + 0.384 + 0.088, 0, 0.649 + 0.0825 - 0.107], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 2], [0, 0, -1], atol=1e-12)


def test_published_ready_pose():
    pose = PANDA.forward_kinematics(READY)
    np.testing.assert_allclose(pose[:3, 3], [0.30689, 0.0, 0.59028], atol=1e-5)
    np.testing.assert_allclose(pose[:3, 2], [0, 0, -1], atol=1e-12)


def test_last_joint_turns_but_does_not_move_the_flange():
    jac = PANDA.jacobian(READY)
    np.testing.assert_allclose(jac[:3, 6], 0, atol=1e-12)
    np.testing.assert_allclose(jac[3:, 6], [0, 0, -1], atol=1e-12)


def test_limits_are_the_published_ones():
    assert PANDA.velocity_limit_rad_s.tolist() == [2.175] * 4 + [2.61] * 3
    assert PANDA.acceleration_limit_rad_s2.tolist() == [15, 7.5, 10, 12.5, 15, 20, 20]
    assert PANDA.torque_limit_nm.tolist() == [87] * 4 + [12] * 3
    assert (PANDA.joint_lower_rad < PANDA.joint_upper_rad).all()
