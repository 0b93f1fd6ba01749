"""The watchdog of a simulated arm, in simulated time: what is fresh, what is not, and when the arm stands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offbeat.robots.sim import SimRobot, SimWorld
from offbeat.robots.watchdog import Watchdog
from offbeat.tasks.visual_reacher import VisualReacher
from offbeat.timing.clock import VirtualClock
from offbeat.timing.profile import load_profile

CYCLE_S, WATCHDOG_S, STEP_S = 0.04, 0.12, 0.002
VELOCITY = np.full(7, 0.2)
PLACEMENT = VisualReacher().placement(np.random.default_rng(0))


class Guarded:
    """A watched arm whose time passes in physics steps; collects what is reported."""

    def __init__(self) -> None:
        self.clock = VirtualClock(load_profile("zero"), seed=0)
        self.world = SimWorld(self.clock, 30.0)
        self.world.place(PLACEMENT)
        self.events: list[tuple[str, dict[str, float]]] = []
        robot, report = SimRobot(self.world, self.clock), lambda event, **facts: self.events.append((event, facts))
        self.watchdog = Watchdog(robot, lambda: self.world.joints()[1], self.clock, WATCHDOG_S, report)

    def live(self, seconds: float) -> None:
        start_s = self.clock.now()
        for step in range(1, round(seconds / STEP_S) + 1):
            self.clock.sleep_until(start_s + step * STEP_S)
            self.world.advance()
            self.watchdog.step()

    def command(self, velocity: Any, age_s: float = 0.0) -> None:
        self.watchdog.command(np.asarray(velocity, float), self.clock.now() - age_s)

    def names(self) -> list[str]:
        return [event for event, _ in self.events]


def test_fresh_commands_never_wake_the_watchdog() -> None:
    arm = Guarded()
    for _ in range(10):
        arm.command(VELOCITY)
        arm.live(WATCHDOG_S - STEP_S)
    assert arm.events == []
    np.testing.assert_allclose(arm.world.joints()[1], VELOCITY, atol=0.01)


@pytest.mark.parametrize("sign", [1, -1])
def test_without_a_fresh_command_the_arm_stands_within_watchdog_and_cycle(sign: int) -> None:
    arm = Guarded()
    arm.command(sign * VELOCITY)
    arm.live(1.0)
    (first, stop), (second, stand) = arm.events
    assert (first, second) == ("watchdog", "still")
    assert stop["stale_s"] == pytest.approx(WATCHDOG_S)
    assert WATCHDOG_S < stand["still_after_s"] <= WATCHDOG_S + CYCLE_S + STEP_S
    assert arm.watchdog.standing


def test_a_command_that_comes_too_late_is_not_obeyed() -> None:
    arm = Guarded()
    arm.command(VELOCITY, age_s=WATCHDOG_S)
    arm.live(0.2)
    assert arm.watchdog.standing and arm.events == []


def test_a_fresh_command_moves_the_arm_again() -> None:
    arm = Guarded()
    arm.command(VELOCITY)
    arm.live(0.5)
    arm.command(VELOCITY)
    arm.live(0.06)
    assert arm.names() == ["watchdog", "still", "resumed"]
    np.testing.assert_allclose(arm.world.joints()[1], VELOCITY, atol=0.01)


def test_an_arm_told_to_stand_needs_no_commands() -> None:
    arm = Guarded()
    arm.command(VELOCITY)
    arm.live(0.1)
    arm.command(np.zeros(7))
    arm.live(1.0)
    assert arm.events == []


def test_a_stop_of_a_standing_arm_counts_no_time() -> None:
    arm = Guarded()
    arm.live(1.0)
    arm.watchdog.stop("closed")
    assert arm.events == [("closed", {"time_s": 1.0, "stale_s": 1.0}), ("still", {"time_s": 1.0, "still_after_s": 0.0})]
