"""The FR3's driver with a stand-in for franky: what it makes of its states and errors, and when it moves."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from offbeat.config import HardwareConfig
from offbeat.errors import RobotError, RobotFaultError
from offbeat.robots.base import RobotSetup
from offbeat.robots.franky_arm import FrankyArm
from offbeat.timing.wall import WallClock

SPEED = np.full(7, 0.1)


class ControlException(Exception):
    """franky's."""


class NetworkException(Exception):
    """franky's."""


class FrankyRobot:
    """A stand-in for `franky.Robot`."""

    def __init__(self, host: str, realtime_config: int) -> None:
        self.moves: list[Any] = []
        self.limits: dict[str, list[float]] = {}
        self.joint_acceleration_limit = SimpleNamespace(set=lambda limit: self.limits.update(acceleration=limit))
        self.joint_jerk_limit = SimpleNamespace(set=lambda limit: self.limits.update(jerk=limit))
        self.error: Exception | None = None
        self.mode, self.time_ms, self.is_in_control, self.recovers = "Idle", 0, False, True

    def set_collision_behavior(self, torques: list[float], forces: list[float]) -> None:
        self.thresholds = torques, forces

    @property
    def state(self) -> Any:
        if isinstance(self.error, NetworkException):
            raise self.error
        return SimpleNamespace(
            q=[0.0, 0.1, 0.0, -2.0, 0.0, 2.0, 0.8],
            dq=[0.0] * 7,
            time=SimpleNamespace(to_msec=lambda: self.time_ms),
            robot_mode=SimpleNamespace(name=self.mode),
            current_errors='["joint_reflex"]',
        )

    def poll_motion(self) -> None:
        if isinstance(self.error, ControlException):
            error, self.error = self.error, None
            raise error

    def move(self, motion: Any, asynchronous: bool) -> None:
        assert asynchronous
        self.moves.append(motion)
        self.is_in_control = True

    def recover_from_errors(self) -> bool:
        self.mode = "Idle" if self.recovers else self.mode
        return self.recovers


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Any:
    franky = SimpleNamespace(
        Robot=FrankyRobot,
        Duration=lambda milliseconds: milliseconds,
        RealtimeConfig=SimpleNamespace(Enforce=0, Ignore=1),
        JointVelocityMotion=lambda velocity, hold: (velocity.tolist(), hold),
        JointVelocityStopMotion=lambda: "stop",
        ControlException=ControlException,
        NetworkException=NetworkException,
    )
    monkeypatch.setitem(sys.modules, "franky", franky)
    hardware = HardwareConfig(driver="franka", host="host", collision_torque_nm=25.0, collision_force_n=35.0)
    return FrankyArm(RobotSetup("panda", "host", WallClock(), 0.12, hardware))


@pytest.mark.skipif(not hasattr(os, "SCHED_RESET_ON_FORK"), reason="needs Linux")
def test_whoever_connects_keeps_his_scheduler(arm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Raising(FrankyRobot):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            with suppress(PermissionError):  # as franky does, for all that is started later as well
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))

    before = os.sched_getscheduler(0), os.sched_getparam(0)
    monkeypatch.setattr(sys.modules["franky"], "Robot", Raising)
    FrankyArm(RobotSetup("panda", "host", WallClock(), 0.12, HardwareConfig(driver="franka", host="host")))
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before


def test_limits_and_thresholds_are_set(arm: Any) -> None:
    # An FR3 takes 10 rad/s2, and a change of 5 rad/s2 in a millisecond; franky's own limits are a Panda's.
    assert arm._robot.limits == {"acceleration": [4.0] * 7, "jerk": [1000.0] * 7}
    assert arm._robot.thresholds == ([25.0] * 7, [35.0] * 6)


def test_a_command_is_held_for_the_watchdogs_time(arm: Any) -> None:
    sent = arm.command_velocity(SPEED)
    assert arm._robot.moves == [(sent.tolist(), 120)]
    with pytest.raises(RobotError, match="7 finite numbers"):
        arm.command_velocity(np.full(7, np.nan))
    assert len(arm._robot.moves) == 1


def test_a_state_is_as_old_as_its_arrival(arm: Any) -> None:
    first = arm.read_state().stamp_s
    assert arm.read_state().stamp_s == first  # the controller has sent nothing new
    arm._robot.time_ms += 1
    assert arm.read_state().stamp_s > first


def test_only_a_moving_arm_is_stopped(arm: Any) -> None:
    arm.stop()
    assert arm._robot.moves == []
    arm.command_velocity(SPEED)
    arm.stop()
    assert arm._robot.moves[-1] == "stop"


def test_a_fault_is_told_until_it_is_recovered(arm: Any) -> None:
    arm._robot.error, arm._robot.mode = ControlException("libfranka: aborted\nby reflex!"), "Reflex"
    for _ in range(2):
        with pytest.raises(RobotFaultError, match="stopped by itself: libfranka: aborted by reflex!") as caught:
            arm.read_state()
        assert caught.value.state is not None
    with pytest.raises(RobotFaultError):
        arm.command_velocity(SPEED)
    assert arm._robot.moves == []
    arm.recover()
    arm.read_state()


def test_a_reflex_of_a_standing_arm_is_told_by_its_errors(arm: Any) -> None:
    arm._robot.mode = "Reflex"
    with pytest.raises(RobotFaultError, match="joint_reflex"):
        arm.read_state()
    arm._robot.recovers = False
    with pytest.raises(RobotError, match=r"could not be recovered: .*joint_reflex"):
        arm.recover()


def test_a_lost_connection_and_a_user_stop_say_what_to_do(arm: Any) -> None:
    arm._robot.mode = "UserStopped"
    with pytest.raises(RobotError, match="release it"):
        arm.read_state()
    arm._robot.error = NetworkException("UDP receive: Timeout")
    with pytest.raises(RobotError, match=r"Timeout.*check its cable"):
        arm.read_state()
    arm.stop()
