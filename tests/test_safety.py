"""The velocity filter: limits, bounds and box hold under any command, on arms that jump, ramp or lag."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from offbeat.arms import ARMS
from offbeat.errors import ActionError, ConfigError, RobotError, UserError
from offbeat.robots.models import MODELS
from offbeat.robots.models.panda import PANDA
from offbeat.safety import SafetyLimits, VelocityFilter, nearest_velocity, stopping_distance, stopping_time
from offbeat.types import RobotState

LIMITS = SafetyLimits()
BOX_LOWER, BOX_UPPER = np.array(LIMITS.box_lower_m), np.array(LIMITS.box_upper_m)
MIDDLE = np.array([0.0, 0.4, 0.0, -2.0, 0.0, 2.2, 0.0])
# The resets at their highest: z = 0.44 m.
ABOVE = {
    "panda": np.array([0.0, 0.13, 0.02, -1.9, 0.03, 2.15, 0.8]),
    "ur5e": np.array([2.93, -1.38, 1.5, -1.7, -1.57, -0.21]),
}
both_arms = pytest.mark.parametrize("robot", ["panda", "ur5e"])


def flange(joint_rad, robot="panda"):
    return np.array(MODELS[robot].flange_position(joint_rad.tolist()))


def outside_m(joint_rad, robot="panda"):
    place = flange(joint_rad, robot)
    return max((place - BOX_UPPER).max(), (BOX_LOWER - place).max())


def beyond_rad(joint_rad, robot="panda"):
    lower, upper = np.array(ARMS[robot].joint_lower_rad), np.array(ARMS[robot].joint_upper_rad)
    return max((joint_rad - upper).max(), (lower - joint_rad).max())


def random_pose(rng, robot="panda"):
    while True:
        pose = rng.uniform(ARMS[robot].joint_lower_rad, ARMS[robot].joint_upper_rad)
        if outside_m(pose, robot) < 0:
            return pose


def assert_inside(path, robot, every, box_m):
    """Box and joint bounds hold along a path (k, N)."""
    assert max(outside_m(q, robot) for q in path[::every]) < box_m
    assert beyond_rad(path.max(axis=0), robot) < 1e-3 and beyond_rad(path.min(axis=0), robot) < 1e-3


class Arm:
    """Joints that follow the held velocity: at once, by ramps at a limit (rad/s^2), or with a lag of 12 ms."""

    def __init__(self, joint_rad, kind, robot="panda"):
        self.q = np.array(joint_rad, float)
        self.v, self.held = np.zeros_like(self.q), np.zeros_like(self.q)
        self.kind, self.model, self.now_s = kind, MODELS[robot], 0.0
        self.track = [self.q]
        self.ramp = {"ramp": np.full(self.q.shape, 6.0), "arm": self.model.acceleration_limit_rad_s2}.get(kind)

    def run_to(self, time_s):
        steps = max(1, round((time_s - self.now_s) / 0.004))
        h = (time_s - self.now_s) / steps
        for _ in range(steps if h > 0 else 0):
            gap = self.held - self.v
            if self.ramp is not None:
                gap = np.minimum(np.maximum(gap, -self.ramp * h), self.ramp * h)
            elif self.kind == "lag":
                gap = gap * h / 0.012
            before, self.v = self.v, self.v + gap
            self.q = self.q + h * (before + self.v) / 2
            self.track.append(self.q)
        self.now_s = max(self.now_s, time_s)

    def state(self):
        return RobotState(self.q.copy(), self.v.copy(), self.now_s)


def attack(style, rng, arm, k, memory):
    """Commands that try to get out: towards one face with every joint, held extremes, flips, noise."""
    if style == "noise":
        return rng.uniform(-1, 1, arm.q.shape)
    if style == "flip":
        return memory.setdefault("sign", np.sign(rng.normal(size=arm.q.shape))) * (1 if k % 6 < 3 else -1)
    if k % 30 == 0:
        memory["way"], memory["held"] = rng.normal(size=3), rng.uniform(-1, 1, arm.q.shape)
    if style == "held":
        return memory["held"]
    return np.sign(memory["way"] @ arm.model.jacobian(arm.q)[:3])


def drive(arm, filter_, style, scale, cycles, late, seed):
    """Run the loop, commands up to a cycle late, and check the limits of every answer. Returns the path (k, N)."""
    rng, memory, last = np.random.default_rng(seed), {}, np.zeros_like(arm.q)
    cycle = filter_.cycle_s
    for k in range(cycles):
        arm.run_to(k * cycle + cycle * rng.choice([0.0, 0.98, rng.uniform()]) * late)
        sent = filter_.filter(scale * attack(style, rng, arm, k, memory), arm.state())
        assert (np.abs(sent) <= filter_.limits.velocity_rad_s).all()
        assert (np.abs(sent - last) <= np.array(filter_.limits.acceleration_rad_s2) * cycle).all()
        arm.held = last = sent
    arm.run_to((cycles + 1) * cycle)
    return np.array(arm.track)


def test_stopping_time_by_hand():
    change = np.array([0.2, 0.4])
    # One command to a stand: the velocity is held once.
    assert stopping_time(np.array([0.1, 0.0]), change, 0.08) == pytest.approx(0.08)
    # m = 3 (joint 1): held at u, 2/3 u and 1/3 u, each for 80 ms.
    assert stopping_time(np.array([-0.6, 0.4]), change, 0.08) == pytest.approx(0.16)
    # m = 1.5: held at u and at a third of it.
    assert stopping_time(np.array([0.3, 0.1]), change, 0.09) == pytest.approx(0.12)


def test_stopping_distance_by_hand():
    # a = 5, cycle 40 ms: change 0.2. u = 0.6 takes m = 3 commands: 0.6 x 0.16 held, and 0.6^2 / (2 x 5 x 3) in ramps.
    distance = stopping_distance(np.array([0.6, -0.3]), np.array([5.0, 5.0]), 0.04, 0.08)
    np.testing.assert_allclose(distance, [0.096 + 0.012, -(0.048 + 0.003)])


@given(st.floats(-2, 2), st.sampled_from([0.02, 0.04, 0.1]), st.floats(1, 3))
@settings(max_examples=100, deadline=None)
def test_an_arm_braking_as_late_as_allowed_stops_in_its_stopping_distance(speed, cycle_s, late):
    horizon_s, limit = late * cycle_s, 6.0
    moved, velocity = speed * horizon_s, speed
    while velocity:
        told = np.sign(velocity) * max(abs(velocity) - limit * cycle_s, 0.0)
        fall = velocity - told  # ramped at the limit, which ends within the cycle; then the told velocity is held
        moved += told * horizon_s + fall * abs(fall) / (2 * limit)
        velocity = told
    bound = stopping_distance(np.array([speed]), np.array([limit]), cycle_s, horizon_s)[0]
    assert abs(moved) <= abs(bound) * (1 + 1e-9)


def test_free_command_passes_unchanged_and_ramps_by_the_acceleration_limit():
    filter_ = VelocityFilter(LIMITS, 0.04)
    state = RobotState(MIDDLE, np.zeros(7), 0.0)
    gentle = np.array([0.1, -0.1, 0.05, 0.1, -0.2, 0.2, 0.15])
    np.testing.assert_allclose(filter_.filter(gentle, state), gentle)
    filter_.reset()
    gentler = VelocityFilter(replace(LIMITS, acceleration_rad_s2=(1.0,) * 7), 0.04)
    np.testing.assert_allclose(gentler.filter(np.full(7, 0.2), state), np.full(7, 0.04))
    np.testing.assert_allclose(gentler.filter(np.full(7, 0.2), state), np.full(7, 0.08))


def test_change_is_smaller_when_the_last_answer_left_less_than_a_cycle_ago():
    filter_ = VelocityFilter(replace(LIMITS, acceleration_rad_s2=(1.0,) * 7), 0.04)
    filter_.filter(np.zeros(7), RobotState(MIDDLE, np.zeros(7), 1.0))
    sent = filter_.filter(np.full(7, 0.2), RobotState(MIDDLE, np.zeros(7), 1.01))
    np.testing.assert_allclose(sent, np.full(7, 0.01))


def test_reset_sets_the_velocity_that_the_next_answer_starts_from():
    filter_ = VelocityFilter(LIMITS, 0.04)
    filter_.reset(np.full(7, 0.6))
    sent = filter_.filter(np.zeros(7), RobotState(MIDDLE, np.full(7, 0.6), 0.0))
    np.testing.assert_allclose(sent, np.full(7, 0.36))  # 0.6 - 6 x 0.04, though 0.2 is the limit: no jump down


@both_arms
@pytest.mark.parametrize("kind", ["jump", "ramp", "arm", "lag"])
@pytest.mark.parametrize("style", ["face", "held", "flip", "noise"])
def test_nothing_leaves_box_bounds_and_limits(kind, style, robot):
    for seed, cycle_s in enumerate((0.02, 0.04, 0.075, 0.1)):
        rng = np.random.default_rng(100 * seed + len(kind + style))
        arm, filter_ = Arm(random_pose(rng, robot), kind, robot), VelocityFilter(SafetyLimits.of(robot), cycle_s)
        path = drive(arm, filter_, style, rng.choice([0.2, 5.0]), 150, late=seed % 2, seed=seed)
        assert_inside(path, robot, 4, 0.002)


@given(
    st.integers(0, 2**31),
    st.floats(0.02, 0.1),
    st.sampled_from(["jump", "ramp", "arm", "lag"]),
    st.sampled_from(["face", "held", "flip", "noise"]),
    st.floats(-3, 6),
    st.sampled_from(["panda", "ur5e"]),
)
@settings(max_examples=50, deadline=None)
def test_any_sequence_of_any_size_is_held(seed, cycle_s, kind, style, exponent, robot):
    arm = Arm(random_pose(np.random.default_rng(seed), robot), kind, robot)
    filter_ = VelocityFilter(SafetyLimits.of(robot), cycle_s)
    path = drive(arm, filter_, style, 10.0**exponent, 50, late=1.0, seed=seed)
    assert_inside(path, robot, 3, 0.005)


@both_arms
def test_the_box_holds_at_ten_times_the_speed(robot):
    fast = SafetyLimits.of(robot, speed_rad_s=2.0)
    for seed, style in enumerate(("face", "flip", "noise")):
        arm = Arm(random_pose(np.random.default_rng(seed), robot), "arm", robot)
        path = drive(arm, VelocityFilter(fast, 0.04), style, 2.0, 120, late=1.0, seed=seed)
        assert_inside(path, robot, 4, 0.005)


@both_arms
@pytest.mark.parametrize("push", ["none", "up"])
def test_a_flange_above_the_box_is_driven_in_at_the_return_speed_and_stays(push, robot):
    filter_, heights, inside = VelocityFilter(SafetyLimits.of(robot), 0.04), [], False
    arm = Arm(ABOVE[robot], "arm", robot)
    for k in range(75):
        arm.run_to(k * 0.04)
        rise = arm.model.jacobian(arm.q)[2]
        sent = filter_.filter(0.2 * np.sign(rise) if push == "up" else np.zeros_like(rise), arm.state())
        heights.append(flange(arm.q, robot)[2])
        if k > 8 and heights[-1] > BOX_UPPER[2]:
            assert rise @ sent <= -0.099
        arm.held = sent
        inside = inside or outside_m(arm.q, robot) <= 0
        assert not inside or outside_m(arm.q, robot) < 0.001
    assert heights[0] > 0.43 and inside and heights[-1] <= BOX_UPPER[2]


def test_joints_outside_their_bounds_are_driven_back_within_the_limits():
    arm, filter_ = Arm(MIDDLE + [0.6, 0, -0.6, 0, 0.5, 0, 1.0], "ramp"), VelocityFilter(LIMITS, 0.04)
    outward = np.array([0.2, 0, -0.2, 0, 0.2, 0, 0.2])
    drive_back = filter_.filter(outward, arm.state())
    np.testing.assert_allclose(drive_back[[0, 2, 4, 6]], [-0.1, 0.1, -0.1, -0.1], atol=1e-3)
    for k in range(1, 60):
        arm.run_to(k * 0.04)
        arm.held = filter_.filter(outward, arm.state())
    assert beyond_rad(arm.q) < 1e-3


def test_a_push_into_the_table_side_still_slides_along_it():
    arm, filter_ = Arm(MIDDLE, "arm"), VelocityFilter(LIMITS, 0.04)
    for k in range(75):
        arm.run_to(k * 0.04)
        wanted = np.linalg.pinv(PANDA.jacobian(arm.q)[:3]) @ [0.0, 0.05 if k > 40 else 0.0, -0.15]
        arm.held = filter_.filter(wanted, arm.state())
    place = flange(arm.q)
    assert BOX_LOWER[2] < place[2] < BOX_LOWER[2] + 0.005
    assert place[1] > 0.04


def test_a_command_inward_from_a_face_is_not_held_up():
    arm, filter_ = Arm(MIDDLE, "arm"), VelocityFilter(LIMITS, 0.04)
    for k in range(60):
        arm.run_to(k * 0.04)
        arm.held = filter_.filter(-0.2 * np.sign(PANDA.jacobian(arm.q)[2]), arm.state())
    rise = 0.1 * np.sign(PANDA.jacobian(arm.q)[2])
    arm.run_to(60 * 0.04)
    np.testing.assert_allclose(filter_.filter(rise, arm.state()), rise, atol=0.02)


def test_same_inputs_same_bytes():
    paths = [drive(Arm(MIDDLE, "arm"), VelocityFilter(LIMITS, 0.04), "face", 1.0, 60, 1.0, 3) for _ in range(2)]
    assert paths[0].tobytes() == paths[1].tobytes()


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_nearest_velocity_is_nearest(seed):
    rng = np.random.default_rng(seed)
    jac = PANDA.jacobian(random_pose(rng))[:3]
    rows, bounds = np.concatenate([jac, -jac]), rng.uniform(-0.05, 0.15, 6)
    lower, upper = rng.uniform(-0.3, 0.0, 7), rng.uniform(0.0, 0.3, 7)
    wanted = rng.uniform(-0.4, 0.4, 7)

    def cost(u):
        over = np.maximum(rows @ u - bounds, 0)
        return (u - wanted) @ (u - wanted) / 2 + 500 * over @ over, (u - wanted) + 1000 * over @ rows

    found = nearest_velocity(wanted, lower, upper, rows, bounds)
    best = minimize(cost, np.zeros(7), jac=True, bounds=list(zip(lower, upper, strict=True)), method="L-BFGS-B")
    assert (found >= lower).all() and (found <= upper).all()
    assert cost(found)[0] <= best.fun * (1 + 1e-3) + 1e-6


@pytest.mark.parametrize(
    "command, message",
    [
        (np.full(7, np.nan), "finite"),
        (np.array([0, 0, np.inf, 0, 0, 0, 0]), "finite"),
        (np.zeros(6), r"shape \(6,\)"),
        (np.zeros((1, 7)), "shape"),
        (["fast"] * 7, "finite numbers"),
        (None, "shape|finite"),
    ],
)
def test_bad_commands_are_refused_in_one_sentence(command, message):
    filter_ = VelocityFilter(LIMITS, 0.04)
    with pytest.raises(ActionError, match=message) as caught:
        filter_.filter(command, RobotState(MIDDLE, np.zeros(7), 0.0))
    assert isinstance(caught.value, UserError) and "\n" not in str(caught.value)


def test_a_state_that_is_not_finite_is_the_robots_fault():
    with pytest.raises(RobotError, match="finite positions"):
        VelocityFilter(LIMITS, 0.04).filter(np.zeros(7), RobotState(np.full(7, np.nan), np.zeros(7), 0.0))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"velocity_rad_s": (0.2,) * 6}, "7 finite numbers"),
        ({"velocity_rad_s": (3.0,) * 7}, "2.175"),
        ({"acceleration_rad_s2": (8.0,) * 7}, "7.5"),
        ({"acceleration_rad_s2": (0.0,) * 7}, "above 0"),
        ({"box_lower_m": (0.8, -0.3, 0.08)}, r"box_lower_m\[0\] is 0.8"),
        ({"joint_upper_rad": (0.5,) * 7}, "swap or widen"),
        ({"return_speed_m_s": 0.0}, "above 0"),
    ],
)
def test_limits_that_cannot_be_held_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(LIMITS, **change)


@pytest.mark.parametrize("cycle_s, horizon_s", [(0.0, None), (-0.04, None), (0.04, 0.02), (float("nan"), None)])
def test_cycles_that_cannot_be_are_refused(cycle_s, horizon_s):
    with pytest.raises(ConfigError, match="_s is"):
        VelocityFilter(LIMITS, cycle_s, horizon_s)
