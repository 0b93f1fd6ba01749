"""A Franka controller's mind, period by period, without a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offbeat.arms import ARMS
from offbeat.robots.protocols.fci import WIRES, Command, Controller, Error, Generator, RobotMode, Status
from offbeat.robots.protocols.fci_limits import LIMITS
from offbeat.robots.protocols.fci_motion import LOST_IN_A_ROW, Motion

HOME = np.array(ARMS["panda"].first_rad)
DT = 1e-3


class Bench:
    """A motion and its periods."""

    def __init__(self, version: int = 10, generator: Generator = Generator.JOINT_VELOCITY) -> None:
        self.counters = {"commands": 0, "lost": 0, "reflexes": 0}
        self.motion = Motion(LIMITS[version], HOME, self.counters)
        self.now = 0
        self.wire = WIRES[version]
        assert self.motion.start(7, Controller.JOINT_IMPEDANCE, generator, self.now) is Status.MOTION_STARTED

    def period(self, finished: bool = False, **setpoint: Any) -> None:
        """A period in which this setpoint arrives, or none."""
        self.now += 1
        if setpoint:
            command = np.zeros(1, self.wire.command)
            command["message_id"], command["motion_generation_finished"] = self.now, finished
            for name, value in setpoint.items():
                command[name] = value
            self.motion.receive(command, self.now)
        self.motion.advance()

    def ramp(self, top: float, acceleration: float = 2.0, jerk: float = 1000.0) -> float:
        """Bring joint 1 to a speed (rad/s); the speed."""
        speed = change = 0.0
        while speed < top:
            change = min(change + jerk * DT, acceleration)
            speed = min(speed + change * DT, top)
            self.period(dq_c=[speed, 0, 0, 0, 0, 0, 0])
        return speed

    @property
    def raised(self) -> list[Error]:
        return [Error(number) for number in np.flatnonzero(self.motion.errors)]


@pytest.mark.parametrize("version", [5, 10])
def test_velocities_within_the_limits_are_followed(version: int) -> None:
    bench = Bench(version)
    bench.ramp(0.5)
    for _ in range(100):
        bench.period(dq_c=[0.5, 0, 0, 0, 0, 0, 0])
    assert bench.raised == [] and bench.motion.mode is RobotMode.MOVE
    assert bench.motion.joint_rad_s.tolist() == [0.5, 0, 0, 0, 0, 0, 0]
    assert bench.motion.joint_rad[0] - HOME[0] == pytest.approx(0.5 * 0.1 + 0.5**2 / (2 * 2.0), abs=2e-3)
    assert bench.motion.success_rate == 1.0


@pytest.mark.parametrize(
    ("setpoint", "error"),
    [
        ([0.5, 0, 0, 0, 0, 0, 0], Error.ACCELERATION_DISCONTINUITY),  # 500 rad/s2
        ([0.009, 0, 0, 0, 0, 0, 0], Error.ACCELERATION_DISCONTINUITY),  # 9 rad/s2 are allowed, 9000 rad/s3 are not
        ([0, 0, 0, 3.0, 0, 0, 0], Error.VELOCITY_LIMITS),
        ([0, 0, 0, 0, np.nan, 0, 0], Error.POSITION_LIMITS),
        ([0, 0, 0, 0, 0, np.inf, 0], Error.POSITION_LIMITS),
    ],
)
def test_a_velocity_beyond_a_limit_ends_in_a_reflex_with_its_name(setpoint: list[float], error: Error) -> None:
    bench = Bench()
    bench.period(dq_c=[0.0] * 7)
    bench.period(dq_c=setpoint)
    assert bench.raised == [error]
    assert bench.motion.mode is RobotMode.REFLEX and bench.motion.generator is Generator.IDLE
    assert bench.motion.answers == [(Command.MOVE, 7, Status.REFLEX)]
    assert bench.counters["reflexes"] == 1
    assert np.isfinite(bench.motion.joint_rad).all() and not bench.motion.joint_rad_s.any()


def test_positions_are_judged_by_their_differences() -> None:
    bench = Bench(5, Generator.JOINT_POSITION)
    for k in range(1, 200):
        bench.period(q_c=HOME + [0.05 * (1 - np.cos(np.pi * k * DT)), 0, 0, 0, 0, 0, 0])
    assert bench.raised == []
    assert bench.motion.joint_rad[0] - HOME[0] == pytest.approx(0.05 * (1 - np.cos(np.pi * 0.199)))
    bench.period(q_c=bench.motion.joint_rad + [0.001, 0, 0, 0, 0, 0, 0])  # from 0.1 rad/s to 1 rad/s
    assert bench.raised == [Error.VELOCITY_DISCONTINUITY]


def test_a_motion_by_positions_begins_where_the_arm_is() -> None:
    bench = Bench(5, Generator.JOINT_POSITION)
    bench.period(q_c=HOME + 0.2)
    assert bench.raised == [Error.START_POSE_INVALID]


def test_an_fr3_is_slower_where_its_joints_end() -> None:
    bench = Bench(10)
    bench.motion.joint_rad = HOME + [0, 0, 0, -0.1458 - 0.06 - HOME[3], 0, 0, 0]  # sqrt(2 4 0.06) - 0.3 = 0.39 rad/s
    for k in range(1, 400):
        bench.period(dq_c=[0, 0, 0, 1.25e-3 * k, 0, 0, 0])
        if bench.raised:
            break
    assert bench.raised == [Error.VELOCITY_LIMITS]
    assert 0.2 < bench.motion.joint_rad_s[3] < 0.39


def test_lost_packets_are_bridged_with_the_last_acceleration() -> None:
    bench = Bench()
    bench.ramp(0.1)
    before = bench.motion.joint_rad_s[0]
    for _ in range(LOST_IN_A_ROW - 1):
        bench.period()
    assert bench.motion.joint_rad_s[0] != before or bench.motion.joint_rad_s2[0] == 0
    assert bench.raised == [] and bench.counters["lost"] == LOST_IN_A_ROW - 1
    assert bench.motion.success_rate == pytest.approx(1 - (LOST_IN_A_ROW - 1) / 100)
    bench.period(dq_c=[0.1, 0, 0, 0, 0, 0, 0])
    assert bench.raised == []
    for _ in range(LOST_IN_A_ROW):
        bench.period()
    assert bench.raised == [Error.COMMUNICATION_CONSTRAINTS]


def test_a_setpoint_after_a_gap_is_judged_by_its_mean_change() -> None:
    bench = Bench()
    bench.ramp(0.1)
    for _ in range(9):
        bench.period()
    bench.period(dq_c=[0.13, 0, 0, 0, 0, 0, 0])  # 3 rad/s2 for 10 ms
    assert bench.raised == []
    for _ in range(9):
        bench.period()
    bench.period(dq_c=[0.33, 0, 0, 0, 0, 0, 0])  # 20 rad/s2
    assert bench.raised == [Error.ACCELERATION_DISCONTINUITY]


def test_packets_are_not_lost_before_the_first_command() -> None:
    bench = Bench()
    for _ in range(100):
        bench.period()
    assert bench.raised == [] and bench.counters["lost"] == 0


def test_old_and_future_answers_are_ignored() -> None:
    bench = Bench()
    bench.period(dq_c=[0.0] * 7)
    command = np.zeros(1, bench.wire.command)
    command["dq_c"] = 1.0
    for message_id in (0, bench.now, bench.now + 5):
        command["message_id"] = message_id
        bench.motion.receive(command, bench.now)
    bench.motion.advance()
    assert bench.raised == [] and bench.counters == {"commands": 1, "lost": 1, "reflexes": 0}


def test_an_answer_that_comes_late_is_lost_and_throws_the_arm_back_no_more() -> None:
    bench = Bench()
    speed = bench.ramp(0.1)
    late = np.zeros(1, bench.wire.command)
    late["message_id"], late["dq_c"][0, 0] = bench.now, speed
    for _ in range(8):
        bench.period()
    gone_on = bench.motion.joint_rad_s[0]
    assert gone_on > speed + 0.005
    bench.motion.receive(late, bench.now)
    bench.motion.advance()
    assert bench.motion.joint_rad_s[0] > gone_on and bench.counters["lost"] == 9


@pytest.mark.parametrize("ends", ["finished", "stopped"])
def test_a_motion_that_ends_brakes_within_the_acceleration_limit(ends: str) -> None:
    bench = Bench()
    speed = bench.ramp(0.5)
    if ends == "finished":
        bench.period(finished=True, dq_c=[speed, 0, 0, 0, 0, 0, 0])
    else:
        assert bench.motion.stop() is Status.SUCCESS
    speeds = [bench.motion.joint_rad_s[0]]
    while bench.motion.mode is RobotMode.MOVE:
        bench.period()
        speeds.append(bench.motion.joint_rad_s[0])
    assert -np.diff(speeds).min() <= 10.0 * DT + 1e-12 and speeds[-1] == 0.0
    assert len(speeds) == pytest.approx(50, abs=3)
    wanted = Status.SUCCESS if ends == "finished" else Status.PREEMPTED
    assert bench.motion.answers == [(Command.MOVE, 7, wanted)]
    assert bench.motion.success_rate == 0.0


def test_recovery_waits_for_the_stand_and_clears_the_errors() -> None:
    bench = Bench()
    bench.ramp(1.0)
    bench.motion.reflex(Error.JOINT_REFLEX)
    assert bench.motion.start(8, 0, Generator.JOINT_VELOCITY, bench.now) is Status.NOT_POSSIBLE
    assert bench.motion.stop() is Status.REFLEX
    assert bench.motion.recover(9) is None
    assert bench.motion.recover(10) is Status.NOT_POSSIBLE
    bench.motion.answers.clear()
    periods = 0
    while not bench.motion.answers:
        bench.period()
        periods += 1
    assert bench.motion.answers == [(Command.RECOVER, 9, Status.SUCCESS)]
    assert 140 < periods < 160  # 0.1 s of braking, 0.05 s of recovery
    assert bench.raised == [] and bench.motion.mode is RobotMode.IDLE
    assert bench.motion.last_errors[Error.JOINT_REFLEX] == 1
    assert bench.motion.start(11, 0, Generator.JOINT_VELOCITY, bench.now) is Status.MOTION_STARTED
    assert not bench.motion.last_errors.any()


def test_a_user_stop_lasts_until_it_is_released() -> None:
    bench = Bench()
    bench.ramp(0.2)
    bench.motion.user_stop()
    assert bench.motion.answers == [(Command.MOVE, 7, Status.EMERGENCY)]
    assert bench.motion.recover(8) is Status.EMERGENCY
    assert bench.motion.stop() is Status.EMERGENCY
    assert bench.motion.start(9, 0, Generator.JOINT_VELOCITY, bench.now) is Status.NOT_POSSIBLE
    for _ in range(100):
        bench.period()
    assert bench.motion.mode is RobotMode.USER_STOPPED and not bench.motion.joint_rad_s.any()
    bench.motion.release()
    assert bench.motion.start(10, 0, Generator.JOINT_VELOCITY, bench.now) is Status.MOTION_STARTED


@pytest.mark.parametrize(
    ("controller", "generator"),
    [
        (Controller.EXTERNAL, Generator.JOINT_VELOCITY),
        (Controller.JOINT_IMPEDANCE, Generator.CARTESIAN_VELOCITY),
        (Controller.EXTERNAL, Generator.NONE),
    ],
)
def test_torques_and_cartesian_setpoints_are_refused(controller: Controller, generator: Generator) -> None:
    motion = Motion(LIMITS[10], HOME, {"commands": 0, "lost": 0, "reflexes": 0})
    assert motion.start(1, controller, generator, 0) is Status.INVALID_ARGUMENT
    assert motion.mode is RobotMode.IDLE
