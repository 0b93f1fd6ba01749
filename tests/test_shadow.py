"""The simulated scene that follows a real arm, in time that the test makes pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offbeat.arms import ARMS, RobotName
from offbeat.config import EnvConfig, HardwareConfig
from offbeat.robots.link import Cells, Order
from offbeat.robots.shadow import Shadow
from offbeat.types import FloatArray


class Quiet:
    """A `Line` on which nobody says anything."""

    def take(self) -> None:
        """Nothing."""

    def answer(self, number: int, value: Any = None) -> None:
        """Nobody listens."""


class Hand:
    """A clock that is set by hand."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def now(self) -> float:
        return self.now_s


class Followed:
    """A shadow, and the arm it follows."""

    def __init__(self, robot: RobotName) -> None:
        config = EnvConfig(robot=robot, height=36, width=64, renderer="rays")
        self.cells = Cells.make(config)
        self.shadow = Shadow(Order(config, HardwareConfig(), 0.0, 0.12, None), self.cells, Quiet())  # type: ignore[arg-type]
        self.clock = Hand(self.shadow._start_s)
        self.shadow._wall = self.clock  # type: ignore[assignment]
        self.joint_rad = np.array(ARMS[robot].first_rad) + 0.05
        self.publish(np.zeros(config.joints))
        self.shadow._wait_for_arm()

    def publish(self, speed: FloatArray) -> None:
        self.cells.state.write(stamp_s=self.clock.now_s, joint_rad=self.joint_rad, joint_rad_s=speed)

    def live(self, speed: FloatArray, seconds: float, silent: bool = False) -> None:
        """Let time pass in looks of 4 ms, in which the arm goes on at a velocity (N,) rad/s and may not tell."""
        for _ in range(round(seconds / 0.004)):
            self.clock.now_s += 0.004
            self.joint_rad = self.joint_rad + 0.004 * speed
            if not silent:
                self.publish(speed)
            self.shadow._follow()

    def off_rad(self) -> float:
        """The furthest that a joint of the shadow is from the arm's."""
        return float(np.abs(self.shadow._world.joints()[0] - self.joint_rad).max())


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_it_begins_where_the_arm_is_and_keeps_up_with_it(robot: RobotName) -> None:
    arm = Followed(robot)
    assert arm.off_rad() < 1e-3
    joints = len(arm.joint_rad)
    for speed in (np.full(joints, 0.2), np.full(joints, -0.2), np.zeros(joints)):
        arm.live(speed, 1.0)
        assert arm.off_rad() < 0.003


def test_it_makes_up_for_a_jump() -> None:
    arm = Followed("panda")
    arm.joint_rad = arm.joint_rad + 0.3
    arm.live(np.zeros(7), 0.5)
    assert arm.off_rad() < 0.003


def test_it_stands_when_the_arm_says_nothing_any_more() -> None:
    arm = Followed("panda")
    arm.live(np.full(7, 0.2), 0.4)
    arm.live(np.full(7, 0.2), 2.0, silent=True)
    shown = arm.shadow._world.joints()[1]
    assert np.abs(shown).max() < 0.01
    # No further than in the 0.2 s for which the last state counts, and back to where that was.
    assert arm.off_rad() == pytest.approx(0.4, abs=0.05)
