"""The Panda's numbers, its flange's pose and Jacobian."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from offbeat.robots.models import panda

PI = math.pi
READY = np.array([0, -PI / 4, 0, -3 * PI / 4, 0, PI / 2, PI / 4])
joints = arrays(float, 7, elements=st.floats(-1, 1)).map(
    lambda share: (
        (panda.JOINT_LOWER_RAD + panda.JOINT_UPPER_RAD) / 2
        + share * (panda.JOINT_UPPER_RAD - panda.JOINT_LOWER_RAD) / 2
    )
)


def chain(joint_rad):
    """Frames 1 to 7 and the flange by 4x4 products of the DH rows: Rx(twist) Tx(a) Rz(q) Tz(d)."""
    pose, frames = np.eye(4), []
    for row, q in zip(panda.DH, joint_rad, strict=True):
        c, s, ct, st_ = math.cos(q), math.sin(q), math.cos(row.twist_rad), math.sin(row.twist_rad)
        about_x = np.array([[1, 0, 0, row.a_m], [0, ct, -st_, 0], [0, st_, ct, 0], [0, 0, 0, 1]])
        about_z = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, row.d_m], [0, 0, 0, 1]])
        pose = pose @ about_x @ about_z
        frames.append(pose)
    return [*frames, pose @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, panda.FLANGE_M], [0, 0, 0, 1]])]


def test_zero_pose_by_hand():
    # Straight up, the hand pointing down: up 0.333 + 0.316 + 0.384, out 0.088, down 0.107.
    expected = [[1, 0, 0, 0.088], [0, -1, 0, 0], [0, 0, -1, 0.333 + 0.316 + 0.384 - 0.107], [0, 0, 0, 1]]
    np.testing.assert_allclose(panda.forward_kinematics(np.zeros(7)), expected, atol=1e-12)


def test_the_base_joint_turns_the_pose_about_z():
    pose = panda.forward_kinematics(np.array([PI / 2, 0, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(pose[:3, 3], [0, 0.088, 0.926], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 0], [0, 1, 0], atol=1e-12)


def test_bent_elbow_by_hand():
    # Elbow at a right angle: from (0.0825, 0, 0.649) the forearm of 0.384 points forward, offset 0.0825 up, and a
    # wrist at a right angle lets the flange hang down 0.107 at 0.088 beyond the forearm's end.
    pose = panda.forward_kinematics(np.array([0, 0, 0, -PI / 2, 0, PI / 2, 0]))
    np.testing.assert_allclose(pose[:3, 3], [0.0825 + 0.384 + 0.088, 0, 0.649 + 0.0825 - 0.107], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 2], [0, 0, -1], atol=1e-12)


def test_published_ready_pose():
    pose = panda.forward_kinematics(READY)
    np.testing.assert_allclose(pose[:3, 3], [0.30689, 0.0, 0.59028], atol=1e-5)
    np.testing.assert_allclose(pose[:3, 2], [0, 0, -1], atol=1e-12)


@given(joints)
@settings(max_examples=60, deadline=None)
def test_unrolled_chain_equals_the_matrix_product(joint_rad):
    *frames, flange = chain(joint_rad)
    pose, jac = panda.kinematics(joint_rad)
    np.testing.assert_allclose(pose, flange, atol=1e-12)
    np.testing.assert_allclose(panda.flange_position(joint_rad.tolist()), flange[:3, 3], atol=1e-12)
    for i, frame in enumerate(frames):
        axis = frame[:3, 2]
        np.testing.assert_allclose(jac[:3, i], np.cross(axis, flange[:3, 3] - frame[:3, 3]), atol=1e-12)
        np.testing.assert_allclose(jac[3:, i], axis, atol=1e-12)


@given(joints)
@settings(max_examples=40, deadline=None)
def test_jacobian_against_finite_differences(joint_rad):
    jac, step = panda.jacobian(joint_rad), 1e-6
    for i in range(7):
        move = np.eye(7)[i] * step
        ahead, behind = panda.forward_kinematics(joint_rad + move), panda.forward_kinematics(joint_rad - move)
        slope = (ahead - behind) / (2 * step)
        spin = slope[:3, :3] @ panda.forward_kinematics(joint_rad)[:3, :3].T
        np.testing.assert_allclose(jac[:3, i], slope[:3, 3], atol=1e-8)
        np.testing.assert_allclose(jac[3:, i], [spin[2, 1], spin[0, 2], spin[1, 0]], atol=1e-8)


@given(joints)
@settings(max_examples=60, deadline=None)
def test_rotation_is_orthonormal_and_levers_bound_the_jacobian(joint_rad):
    pose, jac = panda.kinematics(joint_rad)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert (np.linalg.norm(jac[:3], axis=0) <= panda.LEVER_M + 1e-12).all()


def test_last_joint_turns_but_does_not_move_the_flange():
    jac = panda.jacobian(READY)
    np.testing.assert_allclose(jac[:3, 6], 0, atol=1e-12)
    np.testing.assert_allclose(jac[3:, 6], [0, 0, -1], atol=1e-12)


def test_links_are_physical():
    assert len(panda.LINKS) == len(panda.DH) == 7
    for link in panda.LINKS:
        xx, yy, zz, xy, xz, yz = link.inertia_kg_m2
        moments = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        assert link.mass_kg > 0 and moments[0] > 0
        assert moments[2] <= moments[0] + moments[1], "moments of a body keep the triangle inequality"


def test_limits_are_the_published_ones_and_cannot_be_written():
    assert panda.VELOCITY_LIMIT_RAD_S.tolist() == [2.175] * 4 + [2.61] * 3
    assert panda.ACCELERATION_LIMIT_RAD_S2.tolist() == [15, 7.5, 10, 12.5, 15, 20, 20]
    assert panda.TORQUE_LIMIT_NM.tolist() == [87] * 4 + [12] * 3
    assert (panda.JOINT_LOWER_RAD < panda.JOINT_UPPER_RAD).all()
    with pytest.raises(ValueError):
        panda.VELOCITY_LIMIT_RAD_S[0] = 3.0
