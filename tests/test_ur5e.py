"""The UR5e's numbers and its flange's pose, by hand from the published table; and the task on it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_arm_models import chain

from offbeat.arms import ARMS
from offbeat.config import EnvConfig, SACConfig, make_config
from offbeat.env import make_env
from offbeat.robots.models import MODELS
from offbeat.robots.models.ur5e import UR5E
from offbeat.sac.learner import Learner
from offbeat.sac.networks import proprioception_scale
from offbeat.sac.policy import Policy
from offbeat.tasks.servo import ServoPolicy
from offbeat.types import Batch

PI = math.pi
# Joint, as published: a (m), d (m), alpha (rad), mass (kg), centre of mass (m), in the original convention.
TABLE = (
    (0.0, 0.1625, PI / 2, 3.761, (0.0, -0.02561, 0.00193)),
    (-0.425, 0.0, 0.0, 8.058, (0.2125, 0.0, 0.11336)),
    (-0.3922, 0.0, 0.0, 2.846, (0.15, 0.0, 0.0265)),
    (0.0, 0.1333, PI / 2, 1.37, (0.0, -0.0018, 0.01634)),
    (0.0, 0.0997, -PI / 2, 1.3, (0.0, 0.0018, 0.01634)),
    (0.0, 0.0996, 0.0, 0.365, (0.0, 0.0, -0.001159)),
)


def published_frames(joint_rad):
    """Frames 1 to 6 by the published convention: Rz(q) Tz(d) Tx(a) Rx(alpha), row by row."""
    pose, frames = np.eye(4), []
    for q, (a, d, alpha_rad, *_) in zip(joint_rad, TABLE, strict=True):
        c, s, ca, sa = math.cos(q), math.sin(q), math.cos(alpha_rad), math.sin(alpha_rad)
        pose = pose @ [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]]
        frames.append(pose)
    return frames


def test_zero_pose_by_hand():
    # Stretched along -x: back 0.425 + 0.3922, beside 0.1333 + 0.0996, and 0.0997 below the shoulder.
    expected = [[1, 0, 0, -0.8172], [0, 0, -1, -0.2329], [0, 1, 0, 0.0628], [0, 0, 0, 1]]
    np.testing.assert_allclose(UR5E.forward_kinematics(np.zeros(6)), expected, atol=1e-12)


def test_straight_up_by_hand():
    pose = UR5E.forward_kinematics(np.array([0, -PI / 2, 0, -PI / 2, 0, 0]))
    np.testing.assert_allclose(pose[:3, 3], [0, -0.2329, 0.1625 + 0.8172 + 0.0997], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 2], [0, -1, 0], atol=1e-12)


def test_tool_down_by_hand():
    # Turned to +x, upper arm up, forearm level: out 0.3922 + 0.0997, the flange 0.0996 below the elbow's height.
    pose = UR5E.forward_kinematics(np.array([PI, -PI / 2, PI / 2, -PI / 2, -PI / 2, 0]))
    np.testing.assert_allclose(pose[:3, 3], [0.4919, 0.1333, 0.1625 + 0.425 - 0.0996], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 2], [0, 0, -1], atol=1e-12)


def test_pose_is_that_of_the_published_table():
    rng = np.random.default_rng(0)
    for joint_rad in rng.uniform(UR5E.joint_lower_rad, UR5E.joint_upper_rad, (50, 6)):
        np.testing.assert_allclose(UR5E.forward_kinematics(joint_rad), published_frames(joint_rad)[-1], atol=1e-9)


def test_masses_lie_where_the_published_table_puts_them():
    joint_rad = np.array([0.3, -1.1, 0.7, 0.4, -0.9, 1.2])
    *frames, _ = chain(UR5E, joint_rad)
    for link, row, theirs, ours in zip(UR5E.links, TABLE, published_frames(joint_rad), frames, strict=True):
        assert link.mass_kg == row[3]
        np.testing.assert_allclose(ours @ [*link.com_m, 1], theirs @ [*row[4], 1], atol=1e-9)


def test_limits_are_the_published_ones():
    np.testing.assert_allclose(np.degrees(UR5E.velocity_limit_rad_s), 180)
    np.testing.assert_allclose(np.degrees(UR5E.joint_upper_rad), [360, 360, 180, 360, 360, 360])
    np.testing.assert_array_equal(UR5E.joint_lower_rad, -UR5E.joint_upper_rad)
    assert UR5E.torque_limit_nm.tolist() == [150] * 3 + [28] * 3


def test_resets_put_flange_and_camera_where_the_pandas_do():
    ends = {}
    for robot, arm in ARMS.items():
        for name, pose in (("lift", arm.lift_rad), ("look", arm.look_rad)):
            middle = np.array([np.mean(angle) for angle in pose])
            flange = MODELS[robot].forward_kinematics(middle)
            x, y = MODELS[robot].camera_up
            up = flange[:3, :2] @ [x, y] / math.hypot(x, y)
            ends[robot, name] = flange[:3, 3], flange[:3, 2], up
    for name in ("lift", "look"):
        for theirs, ours, tolerance in zip(ends["panda", name], ends["ur5e", name], (0.01, 0.05, 0.05), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=tolerance)


def test_the_start_is_far_from_singular_poses():
    for robot in ("panda", "ur5e"):
        assert np.linalg.cond(MODELS[robot].jacobian(np.array(ARMS[robot].first_rad))) < 15


@pytest.mark.parametrize("fast_reset", [False, True])
def test_the_bag_is_in_view_after_every_reset(fast_reset):
    env = make_env(robot="ur5e", fast_reset=fast_reset)
    shares = [env.reset(seed=0 if episode == 0 else None)[1]["mask_share"] for episode in range(12)]
    assert min(shares) > 0.015
    assert 0.03 <= np.mean(shares) <= 0.05


def test_the_agent_has_six_joints():
    env = EnvConfig(robot="ur5e", height=24, width=32)
    sac = SACConfig(batch_size=4, filters=4, strides=(2, 2), hidden=(8,))
    learner, rng = Learner(sac, env, seed=0), np.random.default_rng(0)
    batch = Batch.empty(4, env.stack, env.height, env.width, joints=env.joints)
    batch.action[:] = rng.uniform(-1, 1, (4, 6))
    batch.proprioception[:, :6] = ARMS["ur5e"].first_rad
    assert np.isfinite(list(learner.update(batch).values())).all()
    image, proprioception = np.zeros((24, 32, 9), np.uint8), batch.proprioception[0]
    assert learner.policy.act({"image": image, "proprioception": proprioception}).shape == (6,)
    assert sac.entropy_target(env.joints) == -6.0


def test_positions_enter_the_networks_as_shares_of_the_tasks_bounds():
    arm = ARMS["ur5e"]
    offset, factor = proprioception_scale(EnvConfig(robot="ur5e"))
    for bound, share in ((arm.joint_lower_rad, -1.0), (arm.joint_upper_rad, 1.0)):
        scaled = (np.array([*bound, *[0.2] * 6, *[1.0] * 6]) - offset.numpy()) * factor.numpy()
        np.testing.assert_allclose(scaled, [share] * 6 + [1.0] * 12, rtol=1e-5)


def returns(env, act, episodes):
    totals = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=0 if episode == 0 else None)
        total, truncated = 0.0, False
        while not truncated:
            observation, reward, _, truncated, _ = env.step(act(observation))
            total += reward
        totals.append(total)
    return totals


def test_scripted_policy_returns_over_300():
    env = make_env(robot="ur5e", preset="paper")
    assert np.mean(returns(env, ServoPolicy(env.config).act, 5)) > 300


@pytest.mark.slow
def test_untrained_policy_returns_as_much_as_on_the_panda():
    env = make_env(robot="ur5e", preset="paper")
    policy = Policy(make_config("async-base", "cpu", "paper").sac, env.config, seed=0)
    assert 40 <= np.mean(returns(env, policy.act, 100)) <= 65
