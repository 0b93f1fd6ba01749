"""The UR driver, through ur-rtde as it is, against the server of a UR5e."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from offbeat.arms import ARMS, RobotName
from offbeat.config import HardwareConfig
from offbeat.errors import DriverError, RobotError, RobotFaultError
from offbeat.robots.base import RobotSetup
from offbeat.robots.models.ur import UR_TRAVEL
from offbeat.robots.protocols import Served, own_address, serving
from offbeat.robots.ur import URArm, make_any_ur, make_ur
from offbeat.timing.wall import WallClock

HOLD_S = 0.12
VELOCITY = np.array([0.2, 0.0, -0.1, 0.0, 0.1, -0.2])


def setup(host: str, robot: RobotName = "ur5e") -> RobotSetup:
    return RobotSetup(robot, host, WallClock(), HOLD_S, HardwareConfig(driver="ur", host=host))


@dataclass(frozen=True)
class Bench:
    """A server, and the driver's arm connected to it."""

    served: Served
    arm: URArm

    def speed(self) -> float:
        """The fastest joint of the arm itself, whatever is said on the network (rad/s)."""
        return speed(self.served)

    def watch(self, condition: Callable[[], bool], timeout_s: float = 2.0) -> bool:
        """Whether it becomes true in time, while the arm is looked at as often as a robot process does."""
        end_s = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < end_s:
            self.arm.read_state()
            time.sleep(0.004)
        return condition()

    def inject(self, fault: str) -> RobotError:
        """What the driver raises after a fault that happens while the arm moves."""
        self.arm.command_velocity(VELOCITY)
        time.sleep(0.1)
        self.served.inject(fault)
        with pytest.raises(RobotError) as caught:
            for _ in range(300):
                self.arm.read_state()
                time.sleep(0.004)
        return caught.value


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    pytest.importorskip("rtde_control")
    with serving("ur") as served:
        arm = make_ur(setup(served.host))
        yield Bench(served, arm)
        arm.close()


@pytest.fixture
def at_rest(bench: Bench) -> Iterator[Bench]:
    yield bench
    bench.arm.stop()
    assert bench.watch(lambda: bench.speed() < 0.01)


def speed(served: Served) -> float:
    return float(np.abs(served.state()[1]).max())


@pytest.mark.slow
def test_an_arm_moves_as_told_and_stands_as_told(at_rest: Bench) -> None:
    bench, arm = at_rest, at_rest.arm
    assert arm.model == "ur5e"
    first = arm.read_state()
    np.testing.assert_allclose(first.joint_rad, bench.served.state()[0], atol=1e-3)
    for _ in range(10):
        sent = arm.command_velocity(VELOCITY)
        time.sleep(0.04)
    np.testing.assert_array_equal(sent, VELOCITY)
    state = arm.read_state()
    np.testing.assert_allclose(state.joint_rad_s, VELOCITY, atol=0.02)
    assert state.stamp_s > first.stamp_s + 0.3
    arm.stop()
    assert bench.watch(lambda: bench.speed() < 0.01, 0.2)
    # It stands for longer than the controller's watchdog, which hears of it all the same.
    assert not bench.watch(lambda: bench.speed() > 0.01, 3 * HOLD_S)
    arm.command_velocity(VELOCITY)
    assert bench.watch(lambda: bench.speed() > 0.15, 0.1)


@pytest.mark.slow
def test_what_is_sent_is_within_the_limits(at_rest: Bench) -> None:
    bench, arm = at_rest, at_rest.arm
    sent = arm.command_velocity(np.array([0.0] * 5 + [100.0]))
    np.testing.assert_allclose(sent[5], np.pi)
    arm.stop()
    assert bench.watch(lambda: bench.speed() < 0.01)
    moved = bench.served.state()[0]
    for wrong in (np.array([np.nan] + [0.1] * 5), np.full(7, 0.1), np.full(6, np.inf)):
        with pytest.raises(RobotError, match="6 finite numbers"):
            arm.command_velocity(wrong)
    time.sleep(0.05)
    np.testing.assert_allclose(bench.served.state()[0], moved, atol=1e-3)


@pytest.mark.slow
def test_a_move_arrives(at_rest: Bench) -> None:
    goal = np.array(ARMS["ur5e"].first_rad) + np.array([0.2, -0.1, 0.1, 0.3, -0.2, 0.2])
    at_rest.arm.move_to(goal, timeout_s=8.0)
    assert at_rest.watch(lambda: at_rest.speed() < 0.01)
    np.testing.assert_allclose(at_rest.served.state()[0], goal, atol=0.03)


@pytest.mark.slow
def test_a_late_network_is_tolerated_and_stamps_tell_how_late(at_rest: Bench) -> None:
    bench, arm, late_s = at_rest, at_rest.arm, []
    bench.served.inject("delay")
    for _ in range(10):
        time.sleep(0.03)
        arm.command_velocity(VELOCITY)
        late_s.append(arm._clock.now() - arm.read_state().stamp_s)
    for _ in range(3):
        arm.stop()
        assert bench.watch(lambda: bench.speed() < 0.01, 0.5)
        arm.command_velocity(VELOCITY)
        assert bench.watch(lambda: bench.speed() > 0.15, 0.5)
    bench.served.inject("release")
    assert 0.04 < np.median(late_s) < 0.1


@pytest.mark.slow
def test_a_protective_stop_is_named_and_recovered(bench: Bench) -> None:
    fault = bench.inject("protective_stop")
    assert isinstance(fault, RobotFaultError) and "protective stop" in str(fault)
    assert fault.state is not None
    np.testing.assert_allclose(fault.state.joint_rad, bench.served.state()[0], atol=0.05)
    with pytest.raises(RobotFaultError):
        bench.arm.command_velocity(VELOCITY)
    bench.arm.stop()
    assert bench.speed() < 0.01
    bench.arm.recover()
    bench.arm.command_velocity(VELOCITY)
    assert bench.watch(lambda: bench.speed() > 0.15, 0.1)


@pytest.mark.slow
def test_an_emergency_stop_says_what_to_do(bench: Bench) -> None:
    fault = bench.inject("emergency_stop")
    assert not isinstance(fault, RobotFaultError)
    assert "emergency stop" in str(fault) and "release" in str(fault)
    with pytest.raises(RobotError, match="emergency stop"):
        make_ur(setup(bench.served.host))
    bench.served.inject("release")
    time.sleep(0.05)
    with pytest.raises(RobotFaultError, match="program"):
        bench.arm.read_state()
    bench.arm.recover()
    bench.arm.command_velocity(VELOCITY)
    assert bench.watch(lambda: bench.speed() > 0.15, 0.1)


@pytest.mark.slow
def test_a_program_that_was_ended_is_started_again_by_another_connection(bench: Bench) -> None:
    import dashboard_client

    dashboard = dashboard_client.DashboardClient(bench.served.host)
    dashboard.connect()
    for lost in (False, True):
        dashboard.stop()
        time.sleep(0.05)
        with pytest.raises(RobotFaultError, match="its control program was ended"):
            bench.arm.read_state()
        if lost:
            bench.served.inject("script_loss")
        bench.arm.recover()
        bench.arm.command_velocity(VELOCITY)
        assert bench.watch(lambda: bench.speed() > 0.15, 0.1)


@pytest.mark.slow
def test_an_arm_that_nobody_looks_at_is_stopped_by_its_controller(bench: Bench) -> None:
    """With the watchdog of a program that was started again."""
    bench.arm.command_velocity(VELOCITY)
    before = bench.served.counters["watchdog"]
    time.sleep(1.5 * HOLD_S + 0.15)
    assert bench.speed() < 0.01 and bench.served.counters["watchdog"] == before + 1
    with pytest.raises(RobotFaultError, match="protective stop"):
        bench.arm.read_state()


# Ur-rtde cannot be used any more in a process that has lost a connection, so here it has one of its own, as in use.
CLIENT = """
import sys, time
from offbeat.errors import RobotError
from test_ur import VELOCITY, make_ur, setup

arm = make_ur(setup(sys.argv[1]))
print("ready", flush=True)
try:
    while True:
        arm.command_velocity(VELOCITY)
        time.sleep(0.02)
except RobotError as error:
    print(type(error).__name__, error)
if sys.argv[2] == "communication_loss":
    print("speedJ says", arm._control.speedJ(VELOCITY.tolist(), 8.0, 0.0))
arm.stop()
arm.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["communication_loss", "drop"])
def test_a_lost_connection_is_noticed_and_the_arm_stands_until_it_is_taken_up(fault: str) -> None:
    pytest.importorskip("rtde_control")
    with serving("ur") as served:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, served.host, fault],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )
        assert client.stdout is not None and client.stdout.readline() == "ready\n"
        time.sleep(0.2)
        assert speed(served) > 0.15
        served.inject(fault)
        said, _ = client.communicate(timeout=20)
        assert client.returncode == 0
        assert "RobotError The connection to the UR5e was lost" in said
        assert ("speedJ says True" in said) == (fault == "communication_loss"), "what the library makes of it"
        time.sleep(0.3)
        assert speed(served) < 0.01
        served.inject("release")
        if fault == "drop":  # whatever stop it is in, who comes next leaves it
            arm = make_ur(setup(served.host))
            assert arm.command_velocity(VELOCITY)[0] > 0
            arm.close()


def test_an_address_is_needed() -> None:
    with pytest.raises(DriverError, match="--robot-host"):
        make_ur(setup(""))


def test_who_is_not_there_is_named() -> None:
    pytest.importorskip("rtde_control")
    with pytest.raises(RobotError, match="cannot be used"):
        make_ur(setup(own_address()))


def test_an_arm_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offbeat.robots.ur.URArm", lambda setup: SimpleNamespace(model="ur10e", close=lambda: None))
    with pytest.raises(DriverError, match="moves a UR10e and the task is one for a UR5e"):
        make_ur(setup("127.0.0.1"))
    assert make_any_ur(setup("127.0.0.1")).model == "ur10e"


@pytest.mark.parametrize(
    ("model", "base_deg_s", "wrist_deg_s"),
    [("ur3e", 180, 360), ("ur5e", 180, 180), ("ur10e", 120, 180), ("ur16e", 120, 180)],
)
def test_limits_are_those_of_the_manuals(model: str, base_deg_s: float, wrist_deg_s: float) -> None:
    travel, middle = UR_TRAVEL[model], np.zeros(6)
    fastest = np.degrees(travel.clip(np.full(6, 99.0), middle, 0.0))
    np.testing.assert_allclose(fastest[[0, 1, 3, 4, 5]], [base_deg_s, base_deg_s, *[wrist_deg_s] * 3])
    assert travel.clip(np.full(6, 99.0), travel.upper_rad, 0.0).max() == 0.0
    assert travel.clip(np.full(6, -99.0), travel.upper_rad, 0.0).max() < -1.0
    np.testing.assert_array_less(travel.upper_rad, np.radians([360, 360, 180, 360, 360, 360]))
