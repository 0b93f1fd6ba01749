"""What holds for every arm: its chain against products of matrices, its Jacobian, levers and links."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from offbeat.arms import ARMS
from offbeat.robots.models import MODELS

both_arms = pytest.mark.parametrize("robot", ["panda", "ur5e"])


def joints_of(robot):
    """Joint positions anywhere within the arm's own limits."""
    lower, upper = MODELS[robot].joint_lower_rad, MODELS[robot].joint_upper_rad
    shares = arrays(float, len(lower), elements=st.floats(-1, 1))
    return shares.map(lambda share: (lower + upper) / 2 + share * (upper - lower) / 2)


any_pose = st.sampled_from(sorted(MODELS)).flatmap(lambda robot: st.tuples(st.just(MODELS[robot]), joints_of(robot)))


def chain(arm, joint_rad):
    """The frames of all joints and the flange by 4x4 products of the DH rows: Rx(twist) Tx(a) Rz(q) Tz(d)."""
    pose, frames = np.eye(4), []
    for row, q in zip(arm.dh, joint_rad, strict=True):
        c, s, ct, st_ = math.cos(q), math.sin(q), math.cos(row.twist_rad), math.sin(row.twist_rad)
        about_x = np.array([[1, 0, 0, row.a_m], [0, ct, -st_, 0], [0, st_, ct, 0], [0, 0, 0, 1]])
        about_z = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, row.d_m], [0, 0, 0, 1]])
        pose = pose @ about_x @ about_z
        frames.append(pose)
    return [*frames, pose @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, arm.flange_m], [0, 0, 0, 1]])]


@given(any_pose)
@settings(max_examples=100, deadline=None)
def test_unrolled_chain_equals_the_matrix_product(drawn):
    arm, joint_rad = drawn
    *frames, flange = chain(arm, joint_rad)
    pose, jac = arm.kinematics(joint_rad)
    np.testing.assert_allclose(pose, flange, atol=1e-12)
    np.testing.assert_allclose(arm.flange_position(joint_rad.tolist()), flange[:3, 3], atol=1e-12)
    for i, frame in enumerate(frames):
        axis = frame[:3, 2]
        np.testing.assert_allclose(jac[:3, i], np.cross(axis, flange[:3, 3] - frame[:3, 3]), atol=1e-12)
        np.testing.assert_allclose(jac[3:, i], axis, atol=1e-12)


@given(any_pose)
@settings(max_examples=60, deadline=None)
def test_jacobian_against_finite_differences(drawn):
    arm, joint_rad = drawn
    jac, step = arm.jacobian(joint_rad), 1e-6
    for i, move in enumerate(np.eye(arm.joints) * step):
        ahead, behind = arm.forward_kinematics(joint_rad + move), arm.forward_kinematics(joint_rad - move)
        slope = (ahead - behind) / (2 * step)
        spin = slope[:3, :3] @ arm.forward_kinematics(joint_rad)[:3, :3].T
        np.testing.assert_allclose(jac[:3, i], slope[:3, 3], atol=1e-8)
        np.testing.assert_allclose(jac[3:, i], [spin[2, 1], spin[0, 2], spin[1, 0]], atol=1e-8)


@given(any_pose)
@settings(max_examples=100, deadline=None)
def test_rotation_is_orthonormal_and_levers_bound_the_jacobian(drawn):
    arm, joint_rad = drawn
    pose, jac = arm.kinematics(joint_rad)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert (np.linalg.norm(jac[:3], axis=0) <= arm.lever_m + 1e-12).all()


@both_arms
def test_links_are_physical(robot):
    arm = MODELS[robot]
    assert len(arm.links) == len(arm.dh) == len(arm.shapes) == arm.joints == ARMS[robot].joints
    for link in arm.links:
        xx, yy, zz, xy, xz, yz = link.inertia_kg_m2
        moments = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        assert link.mass_kg > 0 and moments[0] > 0
        assert moments[2] <= moments[0] + moments[1], "moments of a body keep the triangle inequality"


@both_arms
def test_bounds_and_poses_of_the_task_lie_within_the_arms_limits(robot):
    arm, model = ARMS[robot], MODELS[robot]
    limits, bounds = (model.joint_lower_rad, model.joint_upper_rad), (arm.joint_lower_rad, arm.joint_upper_rad)
    # The lift, a move of the reset alone, may pass the bounds that hold in an episode, as the authors' does.
    inside = ((bounds, limits), *((ends_of(pose), bounds) for pose in (arm.look_rad, arm.first_rad)))
    for (lower, upper), (least, most) in (*inside, (ends_of(arm.lift_rad), limits)):
        assert (np.asarray(lower) >= least).all() and (np.asarray(upper) <= most).all()


def ends_of(pose):
    """The lowest and the highest position of every joint."""
    return zip(*(angle if isinstance(angle, tuple) else (angle, angle) for angle in pose), strict=True)


@both_arms
def test_reach_moves_the_flange_and_keeps_its_orientation(robot):
    arm, start = MODELS[robot], np.array(ARMS[robot].first_rad)
    before = arm.forward_kinematics(start)
    goal = before[:3, 3] + (0.02, -0.03, -0.02)
    after = arm.forward_kinematics(arm.reach(start, goal))
    np.testing.assert_allclose(after[:3, 3], goal, atol=1e-4)
    np.testing.assert_allclose(after[:3, :3], before[:3, :3], atol=5e-3)


@both_arms
def test_limits_cannot_be_written(robot):
    with pytest.raises(ValueError):
        MODELS[robot].velocity_limit_rad_s[0] = 3.0
