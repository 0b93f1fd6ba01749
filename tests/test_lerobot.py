"""LeRobot's robots and cameras, by stand-ins with the interface that it publishes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from waiting import until

from offbeat.config import HardwareConfig
from offbeat.errors import DriverError, RobotError, StaleFrameError
from offbeat.robots.base import CameraSetup, RobotSetup
from offbeat.robots.lerobot import LEASH_RAD, LeRobotArm, make_lerobot, make_lerobot_camera
from offbeat.robots.watchdog import STILL_RAD_S
from offbeat.timing.wall import WallClock

JOINTS = ("base", "shoulder", "elbow", "wrist_1", "wrist_2", "wrist_3")


class Follower:
    """A robot of six joints and a gripper that goes where it is told in one step, unless it is held."""

    def __init__(self, velocities: bool = False) -> None:
        self.is_connected, self.is_calibrated, self.held, self.lost = False, True, False, False
        self.degrees = dict(zip(JOINTS, (167.0, -79.0, 90.0, -101.0, -90.0, -12.0), strict=True)) | {"gripper": 40.0}
        self.velocities = velocities
        self.sent: list[dict[str, float]] = []

    @property
    def action_features(self) -> dict[str, type]:
        return {f"{name}.pos": float for name in self.degrees}

    @property
    def observation_features(self) -> dict[str, Any]:
        return self.action_features

    def connect(self, calibrate: bool = True) -> None:
        assert not calibrate, "it would ask at a terminal"
        self.is_connected = True

    def get_observation(self) -> dict[str, Any]:
        if self.lost:
            raise ConnectionError("no status packet")
        seen: dict[str, Any] = {f"{name}.pos": value for name, value in self.degrees.items()}
        return seen | ({f"{name}.vel": 90.0 for name in JOINTS} if self.velocities else {})

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self.sent.append(dict(action))
        if not self.held:
            self.degrees = {name: action[f"{name}.pos"] for name in self.degrees}
        return action

    def disconnect(self) -> None:
        self.is_connected = False


class OwnCamera:
    """A camera that gives 90 rows of 160 RGB pixels, until it is unplugged."""

    def __init__(self) -> None:
        self.is_connected, self.unplugged = False, False
        self.image = np.zeros((90, 160, 3), np.uint8)
        self.image[..., 0] = 200

    def connect(self, warmup: bool = True) -> None:
        self.is_connected = True

    def read(self) -> Any:
        raise AssertionError("async_read is there")

    def async_read(self, timeout_ms: float = 200) -> Any:
        time.sleep(0.01)
        if self.unplugged:
            raise TimeoutError("no frame within 200 ms")
        return self.image

    def disconnect(self) -> None:
        self.is_connected = False


def test_the_stand_ins_have_the_published_interface() -> None:
    robots, cameras = (pytest.importorskip(f"lerobot.{name}") for name in ("robots.robot", "cameras.camera"))
    at_a_terminal = {"calibrate", "configure", "find_cameras"}  # what the adapter has no use for
    assert robots.Robot.__abstractmethods__ - at_a_terminal <= set(dir(Follower()))
    assert cameras.Camera.__abstractmethods__ - at_a_terminal <= set(dir(OwnCamera()))


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LeRobotArm, Follower]]:
    """An arm made from --robot-host, and what it drives."""
    follower = Follower()
    monkeypatch.setattr(sys.modules[__name__], "make_follower", lambda: follower, raising=False)
    monkeypatch.setitem(sys.modules, "stand_in", sys.modules[__name__])
    made = make_lerobot(setup("stand_in:make_follower"))
    yield made, follower
    made.close()
    assert not follower.is_connected


def setup(host: str = "", hold_s: float = 0.5) -> RobotSetup:
    return RobotSetup("ur5e", host, WallClock(), hold_s, HardwareConfig(driver="lerobot", host=host))


def test_goals_go_at_the_velocity_that_was_asked_for(arm: tuple[LeRobotArm, Follower]) -> None:
    robot, follower = arm
    first = robot.read_state()
    np.testing.assert_allclose(np.rad2deg(first.joint_rad), [follower.degrees[name] for name in JOINTS])
    speed = np.array([0.2, -0.2, 0.1, 0.0, 0.3, -0.1])
    np.testing.assert_array_equal(robot.command_velocity(speed), speed)

    def follows() -> bool:
        robot.command_velocity(speed)
        before = robot.read_state()
        time.sleep(0.2)
        now = robot.read_state()
        moved = (now.joint_rad - before.joint_rad) / (now.stamp_s - before.stamp_s)
        return np.allclose(moved, speed, atol=0.02) and np.allclose(now.joint_rad_s, speed, atol=0.1)

    until(follows)  # a busy machine may keep the adapter's thread from it for a while
    assert {action["gripper.pos"] for action in follower.sent} == {40.0}


def test_it_stands_when_it_is_told_to_and_when_nobody_tells_it_anything(arm: tuple[LeRobotArm, Follower]) -> None:
    robot, _ = arm
    for stop in (robot.stop, lambda: None):
        robot.command_velocity(np.full(6, 0.2))
        until(lambda: robot.read_state().joint_rad_s.min() > 0.15)
        stop()
        until(lambda: np.abs(robot.read_state().joint_rad_s).max() < STILL_RAD_S)


def test_a_goal_does_not_run_away_from_an_arm_that_is_held(arm: tuple[LeRobotArm, Follower]) -> None:
    robot, follower = arm
    follower.held = True
    count = len(follower.sent)
    robot.command_velocity(np.full(6, 2.0))
    until(lambda: len(follower.sent) > count + 30)
    goal = np.deg2rad(follower.sent[-1]["base.pos"] - follower.degrees["base"])
    assert goal == pytest.approx(LEASH_RAD)


def test_what_is_no_command_is_refused(arm: tuple[LeRobotArm, Follower]) -> None:
    for wrong in (np.full(6, np.nan), np.zeros(7)):
        with pytest.raises(RobotError, match="must be 6 finite numbers"):
            arm[0].command_velocity(wrong)
    assert arm[0].command_velocity(np.full(6, 99.0)).max() == pytest.approx(np.pi)


def test_a_robot_that_fails_is_an_error_with_its_words(arm: tuple[LeRobotArm, Follower]) -> None:
    robot, follower = arm
    follower.lost = True

    def failed() -> bool:
        try:
            robot.read_state()
        except RobotError as error:
            return "has failed: no status packet" in str(error)
        return False

    until(failed)


def test_velocities_are_taken_where_the_robot_gives_them() -> None:
    robot = LeRobotArm(Follower(velocities=True), setup())
    np.testing.assert_allclose(robot.read_state().joint_rad_s, np.pi / 2)
    robot.close()


def test_robots_that_do_not_fit_are_one_sentence() -> None:
    with pytest.raises(DriverError, match="say --robot-host MODULE:FUNCTION"):
        make_lerobot(setup())
    short = Follower()
    short.degrees = {"base": 0.0, "gripper": 0.0}
    with pytest.raises(DriverError, match=r"has 2 joints \(base.pos, gripper.pos\) and the task's arm 6"):
        LeRobotArm(short, setup())
    raw = Follower()
    raw.is_calibrated = False
    with pytest.raises(DriverError, match="run lerobot-calibrate first"):
        LeRobotArm(raw, setup())


def test_a_camera_gives_its_newest_image_in_the_tasks_size(monkeypatch: pytest.MonkeyPatch) -> None:
    device = OwnCamera()
    monkeypatch.setattr(sys.modules[__name__], "make_own", lambda: device, raising=False)
    monkeypatch.setitem(sys.modules, "stand_in", sys.modules[__name__])
    clock = WallClock()
    camera = make_lerobot_camera(CameraSetup("lerobot:stand_in:make_own", 36, 64, clock, 30.0))
    try:
        frame = until(lambda: _read(camera))
        assert frame.image.shape == (36, 64, 3) and (frame.image == [200, 0, 0]).all()
        assert clock.now() - frame.captured_s < 1.0
        device.unplugged = True
        time.sleep(0.3)
        with pytest.raises(StaleFrameError, match=r"0.1 s is allowed: no frame within 200 ms\."):
            camera.read_latest(0.1)
        device.unplugged = False
        until(lambda: _read(camera))
    finally:
        camera.close()
    assert not device.is_connected


def _read(camera: Any) -> Any:
    try:
        return camera.read_latest(1.0)
    except StaleFrameError:
        return None
