"""What every arm keeps to, simulated, served or real: one suite, a row of `benches.py` for each.

Arms of processes tell of themselves in a log, with how late they came to it; so the bounds below hold on a loaded
machine, too. Tests of one row share its arm, which every one of them leaves standing.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benches import WATCHDOG_S, Behind, Bench, rows
from waiting import until

from offbeat.errors import MoveTimeoutError, RobotError
from offbeat.robots import served
from offbeat.robots.link import Cells
from offbeat.robots.models import MODELS
from offbeat.robots.served import ServedRobot
from offbeat.robots.watchdog import STILL_RAD_S
from offbeat.timing.wall import WallClock
from offbeat.types import FloatArray, RobotState

CYCLE_S = 0.04
PATIENCE_S = 1.0


@dataclass
class Arm:
    """A row's arm, ready to be used."""

    bench: Bench
    behind: Behind | None
    rig: Any
    log: Path

    @property
    def speed(self) -> FloatArray:
        """A velocity (N,) rad/s that any arm can be asked for anywhere."""
        return np.full(self.bench.env.joints, 0.2)

    def drive(self, joint_rad_s: FloatArray, seconds: float) -> RobotState:
        """Command a velocity at 25 Hz; the state at the end."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.rig.robot.command_velocity(joint_rad_s)
            time.sleep(CYCLE_S)
        return self.rig.robot.read_state()  # type: ignore[no-any-return]

    def stands(self) -> bool:
        """Whether no joint moves."""
        return bool(np.abs(self.rig.robot.read_state().joint_rad_s).max() < STILL_RAD_S)

    def events(self, after: int) -> list[dict[str, Any]]:
        """What the log says after its first lines, so many."""
        return [json.loads(line) for line in self.log.read_text().splitlines()[after:] if line.endswith("}")]

    def lines(self) -> int:
        """Lines of the log so far."""
        return len(self.log.read_text().splitlines())

    def find(self, event: str, after: int = 0) -> dict[str, Any] | None:
        """The first of such events in the log."""
        return next((line for line in self.events(after) if line["event"] == event), None)


@pytest.fixture(autouse=True, scope="module")
def patience() -> Iterator[None]:
    """A loaded machine may keep any process from running for a while; that is no failure of what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("offbeat.robots.served.MAX_STATE_AGE_S", PATIENCE_S)
        yield


@pytest.fixture(scope="module", params=rows())
def arm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arm]:
    """One arm a row, for the tests that leave it as it was."""
    bench: Bench = request.param
    log = tmp_path_factory.mktemp(bench.name) / "log"
    with bench.behind() as behind:
        rig = bench.rig(behind, log)
        yield Arm(bench, behind, rig, log)
        rig.close()
        assert rig.process.exitcode == 0


@pytest.fixture(autouse=True)
def at_rest(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of the shared arm begins and ends with it at rest, where it was at first."""
    if "arm" not in request.fixturenames:
        yield
        return
    shared: Arm = request.getfixturevalue("arm")
    start = shared.rig.robot.read_state().joint_rad
    yield
    shared.rig.robot.move_to(start, timeout_s=15.0)
    until(shared.stands, "the stand")


# --- how its use ends; first, since a real arm has one user at a time -------------------------------------------------


@pytest.mark.parametrize("bench", rows(many_starts=True))
def test_the_end_of_its_use_is_told_with_the_reason(bench: Bench) -> None:
    if not bench.final:
        pytest.skip("this arm has no faults")
    for fault, words in bench.final:
        with bench.behind() as behind:
            rig = bench.rig(behind)
            try:
                assert behind is not None
                behind.inject(fault)
                until(lambda: words in _error(rig), words)  # noqa: B023
            finally:
                rig.close()


def _error(rig: Any) -> str:
    """What the arm says that it cannot be used for, or ""."""
    try:
        rig.robot.read_state()
    except RobotError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("bench", rows(many_starts=True))
def test_its_process_may_be_killed_and_the_arm_taken_up_again(bench: Bench) -> None:
    with bench.behind() as behind:
        rig = bench.rig(behind)
        rig.robot.command_velocity(np.full(bench.env.joints, 0.2))
        rig.process.kill()
        until(lambda: not rig.process.is_alive(), "its end")
        until(lambda: "ended with exit code -9" in _error(rig), "the reason")
        rig.close()
        again = bench.rig(behind)
        try:
            time.sleep(0.2)
            assert np.abs(again.robot.read_state().joint_rad_s).max() < STILL_RAD_S  # its controller stopped it
            moved = Arm(bench, behind, again, Path())
            assert moved.drive(-moved.speed, 0.4).joint_rad_s.max() < -0.15
        finally:
            again.close()
        assert again.process.exitcode == 0


# --- what it does ----------------------------------------------------------------------------------------------------


def test_states_are_fresh_and_stamped(arm: Arm) -> None:
    first = arm.rig.robot.read_state()
    joints = arm.bench.env.joints
    assert first.joint_rad.shape == first.joint_rad_s.shape == (joints,)
    model = MODELS[arm.bench.env.robot]
    assert (model.joint_lower_rad < first.joint_rad).all() and (first.joint_rad < model.joint_upper_rad).all()
    later = until(lambda: (s := arm.rig.robot.read_state()).stamp_s > first.stamp_s and s, "another state")
    assert later.stamp_s - first.stamp_s < PATIENCE_S


def test_velocities_are_followed(arm: Arm) -> None:
    before = arm.rig.robot.read_state()
    state = arm.drive(arm.speed, 0.4)
    np.testing.assert_allclose(state.joint_rad_s, arm.speed, atol=0.05)
    moved_s = state.stamp_s - before.stamp_s
    np.testing.assert_allclose(state.joint_rad - before.joint_rad, 0.2 * moved_s, atol=0.2 * 0.15)


def test_it_moves_to_a_position_or_says_that_it_did_not(arm: Arm) -> None:
    goal = arm.rig.robot.read_state().joint_rad - 0.05
    arm.rig.robot.move_to(goal, timeout_s=15.0)
    np.testing.assert_allclose(arm.rig.robot.read_state().joint_rad, goal, atol=0.025)
    with pytest.raises(MoveTimeoutError, match="from its goal"):
        arm.rig.robot.move_to(goal - 0.5, timeout_s=0.1)


def test_it_stops(arm: Arm) -> None:
    arm.drive(arm.speed, 0.3)
    arm.rig.robot.stop()
    arm.rig.robot.stop()
    until(arm.stands, "the stand")


def test_commands_beyond_the_limits_are_clipped(arm: Arm) -> None:
    limit = MODELS[arm.bench.env.robot].velocity_limit_rad_s
    np.testing.assert_array_equal(arm.rig.robot.command_velocity(np.full(limit.shape, -9.0)), -limit)
    arm.rig.robot.stop()
    until(arm.stands, "the stand")


def test_what_is_no_number_is_refused_before_it_is_sent(arm: Arm) -> None:
    before = arm.rig._cells.command.version
    with pytest.raises(RobotError, match="must be finite"):
        arm.rig.robot.command_velocity(np.full(arm.bench.env.joints, np.nan))
    assert arm.rig._cells.command.version == before


# --- who steers it falls silent --------------------------------------------------------------------------------------


def bound_s(arm: Arm, *events: dict[str, Any]) -> float:
    """From the last command to the stand (s), at the most: the watchdog's time, the arm's ramp, and looks at both."""
    return WATCHDOG_S + arm.bench.stand_s + 0.01 + sum(event["late_s"] for event in events)


def test_it_stands_when_commands_stop_coming_and_goes_on_when_they_come(arm: Arm) -> None:
    lines = arm.lines()
    arm.drive(arm.speed, 0.3)
    stop = until(lambda: arm.find("watchdog", lines), "the watchdog's stop")
    stand = until(lambda: arm.find("still", lines), "the stand")
    assert WATCHDOG_S <= stop["stale_s"] <= WATCHDOG_S + 0.01 + stop["late_s"]
    assert stand["still_after_s"] <= bound_s(arm, stop, stand)
    until(arm.stands, "the stand")
    arm.drive(arm.speed, 0.1)
    until(lambda: arm.find("resumed", lines), "its going on")


def steer(cells: Cells, epoch_s: float, joint_rad_s: FloatArray) -> None:
    """Steer an arm of another process at 25 Hz, for ever."""
    served.MAX_STATE_AGE_S = PATIENCE_S
    robot = ServedRobot(cells, WallClock(epoch_s), str)
    while True:
        robot.command_velocity(joint_rad_s)
        time.sleep(CYCLE_S)


def start_client(arm: Arm) -> SpawnProcess:
    """A process that steers the arm."""
    clock = arm.rig.robot._clock
    client = get_context("spawn").Process(target=steer, args=(arm.rig._cells, clock.epoch_s, -arm.speed), daemon=True)
    client.start()
    return client


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_it_stands_when_its_client_dies_or_stops(arm: Arm, number: signal.Signals) -> None:
    lines = arm.lines()
    client = start_client(arm)
    try:
        until(lambda: arm.rig.robot.read_state().joint_rad_s[0] < -0.15, "its moving")
        assert client.pid is not None
        os.kill(client.pid, number)
        stop = until(lambda: arm.find("watchdog", lines), "the watchdog's stop")
        stand = until(lambda: arm.find("still", lines + arm.events(lines).index(stop)), "the stand")
        assert stand["still_after_s"] <= bound_s(arm, stop, stand)
        assert arm.stands()
    finally:
        client.kill()
        client.join(10)


# --- the arm has a fault ---------------------------------------------------------------------------------------------


def test_it_is_recovered_from_faults(arm: Arm) -> None:
    if not arm.bench.recoverable:
        pytest.skip("this arm has no faults")
    assert arm.behind is not None
    for fault in arm.bench.recoverable:
        lines = arm.lines()
        arm.drive(-arm.speed, 0.2)
        arm.behind.inject(fault)
        until(lambda: arm.drive(-arm.speed, CYCLE_S) and arm.find("recovered", lines), fault, arm.bench.recovery_s + 5)  # noqa: B023
        cause = arm.find("fault", lines)
        assert cause is not None and cause["cause"]
        state = until(lambda: (s := arm.drive(-arm.speed, 0.1)).joint_rad_s[0] < -0.15 and s, "its going on")
        assert (state.joint_rad_s < -0.15).all()
        arm.rig.robot.stop()
        until(arm.stands, "the stand")


def test_it_takes_no_notice_of_small_faults(arm: Arm) -> None:
    if not arm.bench.tolerated:
        pytest.skip("this arm has none")
    assert arm.behind is not None
    lines = arm.lines()
    for fault in arm.bench.tolerated:
        arm.behind.inject(fault)
        arm.drive(-arm.speed, 0.4)
    assert arm.find("fault", lines) is None
