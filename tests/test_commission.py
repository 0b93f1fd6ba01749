"""Commissioning on the simulated arm in virtual time, and on arms and cameras that misbehave."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from offbeat.arms import ARMS
from offbeat.config import EnvConfig
from offbeat.errors import MoveTimeoutError, RobotError, StaleFrameError
from offbeat.robots.commission import SPEED_RAD_S, Nudge, Spread, glide, go, nudge, plan_way, time_camera, time_states
from offbeat.robots.models import MODELS
from offbeat.robots.sim import SimRig
from offbeat.timing.clock import VirtualClock
from offbeat.timing.profile import load_profile
from offbeat.types import FloatArray, Frame, RobotState

DEGREE = np.pi / 180


def new_clock() -> VirtualClock:
    return VirtualClock(load_profile("zero"), seed=0)


class Arm:
    """Joints that jump to what they are told, as `turn` says: command (N,) rad/s to velocity (N,) rad/s."""

    def __init__(self, clock: VirtualClock, turn: Callable[[FloatArray], FloatArray], joints: int = 7) -> None:
        self._clock, self._turn = clock, turn
        self._joint_rad, self._speed, self._since_s = np.zeros(joints), np.zeros(joints), 0.0
        self.fastest_rad_s, self.stops = 0.0, 0

    def read_state(self) -> RobotState:
        now_s = self._clock.now()
        self._joint_rad = self._joint_rad + self._speed * (now_s - self._since_s)
        self._since_s = now_s
        return RobotState(self._joint_rad.copy(), self._speed.copy(), now_s - 0.003)

    def command_velocity(self, joint_rad_s: FloatArray) -> FloatArray:
        self.read_state()
        self._speed = self._turn(np.asarray(joint_rad_s, float))
        self.fastest_rad_s = max(self.fastest_rad_s, float(np.abs(joint_rad_s).max()))
        return joint_rad_s

    def move_to(self, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float = 0.02) -> None:
        raise AssertionError("commissioning moves slowly, by velocities")

    def stop(self) -> None:
        self.read_state()
        self._speed = np.zeros_like(self._speed)
        self.stops += 1


def obedient(command: FloatArray) -> FloatArray:
    return command


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_each_joint_of_the_simulated_arm_moves_by_a_degree_and_back(robot: str) -> None:
    config = EnvConfig(robot=robot, height=18, width=32)  # type: ignore[arg-type]
    clock = new_clock()
    rig = SimRig(config, clock)
    begin = rig.robot.read_state().joint_rad.copy()
    for joint in range(config.joints):
        result = nudge(rig.robot, clock, joint, DEGREE if joint % 2 else -DEGREE)
        assert result.moved_rad == pytest.approx(result.asked_rad, abs=0.15 * DEGREE)
        assert abs(result.left_rad) < 0.15 * DEGREE
        assert result.others_rad < 0.1 * DEGREE
        assert result.complaint == ""
    np.testing.assert_allclose(rig.robot.read_state().joint_rad, begin, atol=0.2 * DEGREE)
    rig.close()


def test_an_arm_that_turns_the_other_way_is_stopped_at_once() -> None:
    clock = new_clock()
    arm = Arm(clock, lambda command: -command)
    with pytest.raises(RobotError, match=r"Joint 3 was told to move by \+1\.00 degrees and the joints moved by"):
        nudge(arm, clock, 2, DEGREE)
    state = arm.read_state()
    assert (np.abs(state.joint_rad) < 1.5 * DEGREE).all()
    assert not state.joint_rad_s.any()


def test_a_driver_that_mixes_joints_up_is_stopped() -> None:
    clock = new_clock()
    arm = Arm(clock, lambda command: np.roll(command, 1))
    with pytest.raises(RobotError, match="see whether this is the arm that was named"):
        nudge(arm, clock, 2, DEGREE)
    assert (np.abs(arm.read_state().joint_rad) < 3 * DEGREE).all()


def test_a_joint_that_does_not_move_is_named() -> None:
    clock = new_clock()
    held = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    assert nudge(Arm(clock, lambda command: command * held), clock, 2, DEGREE).complaint == "did not move"


@pytest.mark.parametrize(
    ("moved", "left", "others", "complaint"),
    [
        (0.95, 0.02, 0.01, ""),
        (0.1, 0.1, 0.0, "did not move"),
        (0.5, 0.0, 0.0, "moved by another angle"),
        (1.0, 0.5, 0.0, "did not come back"),
        (1.0, 0.0, 0.6, "moved others as well"),
    ],
)
def test_what_is_wrong_with_a_nudge(moved: float, left: float, others: float, complaint: str) -> None:
    for sign in (1, -1):
        angles = (sign * DEGREE, sign * moved * DEGREE, sign * left * DEGREE, others * DEGREE)
        assert Nudge(0, *angles).complaint == complaint


def test_a_glide_is_straight_and_slow() -> None:
    clock = new_clock()
    arm = Arm(clock, obedient)
    goal = np.array([0.4, -0.2, 0.1, 0.0, 0.0, -0.4, 0.3])
    path: list[FloatArray] = []
    end = glide(arm, clock, goal, 10.0, 0.01, look=lambda state: path.append(state.joint_rad))
    assert np.abs(end.joint_rad - goal).max() <= 0.01
    assert arm.fastest_rad_s <= SPEED_RAD_S + 1e-12
    shares = np.array(path)[:, 0] / goal[0]
    np.testing.assert_allclose(np.array(path), shares[:, None] * goal, atol=1e-9)
    assert arm.stops == 1


def test_a_glide_stops_whatever_happens() -> None:
    clock = new_clock()
    arm = Arm(clock, obedient)

    def look(state: RobotState) -> None:
        if state.joint_rad[0] > 0.1:
            raise RobotError("enough")

    with pytest.raises(RobotError, match="enough"):
        glide(arm, clock, np.full(7, 0.5), 10.0, 0.01, look=look)
    assert not arm.read_state().joint_rad_s.any()


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_the_way_home_is_gone_slowly_to_its_end(robot: str) -> None:
    config = EnvConfig(robot=robot, height=18, width=32)  # type: ignore[arg-type]
    clock = new_clock()
    rig = SimRig(config, clock)
    home = np.array(ARMS[config.robot].first_rad)
    away = home + np.linspace(-0.2, 0.2, config.joints)
    way = plan_way(MODELS[config.robot], home, away, floor_m=0.0)
    assert way.seconds == pytest.approx(1.0)
    go(rig.robot, clock, way)
    begin_s = clock.now()
    state = go(rig.robot, clock, plan_way(MODELS[config.robot], rig.robot.read_state().joint_rad, home, floor_m=0.0))
    np.testing.assert_allclose(state.joint_rad, home, atol=0.02)
    assert 1.0 < clock.now() - begin_s < 3.0
    rig.close()


def test_a_way_through_the_table_is_refused_before_anything_moves() -> None:
    arm = MODELS["panda"]
    home = np.array(ARMS["panda"].first_rad)
    down = home.copy()
    down[1] += 0.9
    assert arm.flange_position(down.tolist())[2] < 0.0
    with pytest.raises(RobotError, match=r"would go down to -0\.\d+ m above the base, and 0\.08 m is the lowest"):
        plan_way(arm, home, down, floor_m=0.08)
    # An arm that stands too low is let up, which is the only way out.
    up = plan_way(arm, down, home, floor_m=0.08)
    assert up.lowest_m == pytest.approx(arm.flange_position(down.tolist())[2], abs=0.005)


def test_an_arm_that_does_not_get_home_says_so() -> None:
    clock = new_clock()
    arm = Arm(clock, lambda command: 0.05 * command)
    way = plan_way(MODELS["panda"], np.zeros(7), np.full(7, 0.3), floor_m=-1.0)
    with pytest.raises(MoveTimeoutError, match=r"0\.\d+ rad from its goal after 5\.0 s: look for what is in its way"):
        go(arm, clock, way)


def test_states_are_timed() -> None:
    clock = new_clock()
    timing = time_states(Arm(clock, obedient), clock, 0.5)
    assert timing.rate_hz == pytest.approx(1000.0, rel=0.02)  # a new stamp at each look
    assert timing.age_ms.p50 == pytest.approx(3.0)
    assert timing.read_ms == Spread(0.0, 0.0, 0.0)


class Film:
    """A camera whose images arrive `late_s` after their stamps; none in `gap_s`."""

    def __init__(
        self, clock: VirtualClock, rate_hz: float, late_s: float, gap_s: tuple[float, float] = (9.0, 9.0)
    ) -> None:
        self._clock, self._rate_hz, self._late_s, self._gap_s = clock, rate_hz, late_s, gap_s

    def read_latest(self, max_age_s: float) -> Frame:
        now_s = self._clock.now()
        seen_s = self._gap_s[0] if self._gap_s[0] <= now_s < self._gap_s[1] else now_s
        stamp_s = np.floor((seen_s - self._late_s) * self._rate_hz + 1e-9) / self._rate_hz
        if now_s - stamp_s > max_age_s:
            raise StaleFrameError("none")
        return Frame(np.zeros((4, 4, 3), np.uint8), float(stamp_s))


def test_a_camera_is_timed() -> None:
    clock = new_clock()
    timing = time_camera(Film(clock, 25.0, 0.02), clock, 2.0)
    assert timing.images == pytest.approx(50, abs=2)
    assert timing.rate_hz == pytest.approx(25.0)
    assert (timing.interval_ms.p50, timing.interval_ms.most) == pytest.approx((40.0, 40.0))
    assert timing.latency_ms.p50 == pytest.approx(20.5, abs=0.6)  # looked at every millisecond
    assert timing.complaints(25.0) == []
    assert timing.complaints(30.0)[0].startswith("Slow: 25.0 images a second where 30 were asked for.")


def test_a_camera_that_pauses_is_found_out() -> None:
    clock = new_clock()
    timing = time_camera(Film(clock, 25.0, 0.02, gap_s=(0.5, 1.5)), clock, 2.0)
    assert timing.lost_s == pytest.approx(0.5, abs=0.05)
    uneven, interrupted = timing.complaints(25.0)[-2:]
    assert uneven.startswith("Uneven: 1000 ms between two images where 40 are due.")
    assert interrupted.startswith("Interrupted: there was no image for 0.5 s.")


def test_a_camera_without_images_raises_its_own_words() -> None:
    clock = new_clock()
    with pytest.raises(StaleFrameError, match="none"):
        time_camera(Film(clock, 25.0, 0.7), clock, 0.2)
