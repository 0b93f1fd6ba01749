"""Both Franka drivers, through the vendors' libraries, against the servers of the two versions of the protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from offbeat.config import HardwareConfig
from offbeat.errors import RobotError, RobotFaultError
from offbeat.robots.base import RobotSetup
from offbeat.robots.franka import fci_version, make_franka
from offbeat.robots.models.panda import PANDA
from offbeat.robots.protocols import Served, serving
from offbeat.timing.realtime import keep_scheduler
from offbeat.timing.wall import WallClock

pytestmark = pytest.mark.slow

HOLD_S = 0.12
LIBRARY = {5: "panda_py", 10: "franky"}
VELOCITY = np.array([0.0, 0.0, 0.0, 0.2, 0.0, -0.2, 0.1])


@dataclass(frozen=True)
class Bench:
    """A server of one version."""

    version: int
    served: Served

    @contextmanager
    def arm(self) -> Iterator[Any]:
        """The driver's arm, connected to it."""
        host = self.served.host
        arm: Any = make_franka(
            RobotSetup("panda", host, WallClock(), HOLD_S, HardwareConfig(driver="franka", host=host))
        )
        try:
            yield arm
        finally:
            arm.close()

    def speed(self) -> float:
        """The fastest joint of the arm itself, whatever is said on the network (rad/s)."""
        return float(np.abs(self.served.state()[1]).max())

    def inject(self, arm: Any, fault: str) -> str:
        """What the arm's driver says of a fault that happens while it moves."""
        arm.command_velocity(VELOCITY)
        time.sleep(0.1)
        self.served.inject(fault)
        with pytest.raises(RobotError) as caught:
            for _ in range(300):
                arm.read_state()
                time.sleep(0.004)
        assert isinstance(caught.value, RobotFaultError) == (fault in ("reflex", "communication_loss"))
        return str(caught.value)


@pytest.fixture(scope="module", params=[5, 10], ids=["panda-python", "franky"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    version: int = request.param
    if find_spec(LIBRARY[version]) is None:
        pytest.skip(f"{LIBRARY[version]} is not installed")
    with serving("franka", protocol=version) as served:
        yield Bench(version, served)


def settles(condition: Callable[[], bool], timeout_s: float = 2.0) -> bool:
    """Whether it becomes true in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return condition()


def test_a_server_tells_its_version(bench: Bench) -> None:
    assert fci_version(bench.served.host) == bench.version


def test_an_arm_moves_as_told_and_stands_when_nothing_is_told(bench: Bench) -> None:
    with bench.arm() as arm:
        first = arm.read_state()
        np.testing.assert_allclose(first.joint_rad, bench.served.state()[0], atol=1e-3)
        for _ in range(10):
            sent = arm.command_velocity(VELOCITY)
            time.sleep(0.04)
        np.testing.assert_array_equal(sent, VELOCITY)
        state = arm.read_state()
        np.testing.assert_allclose(state.joint_rad_s, VELOCITY, atol=0.02)
        assert state.stamp_s > first.stamp_s + 0.3
        # The hold of the last command is over after 0.12 s less the 0.04 s slept; the ramp from 0.2 rad/s takes 0.05 s.
        time.sleep(HOLD_S - 0.06)
        assert bench.speed() > 0.15
        time.sleep(0.15)
        assert bench.speed() < 0.01
        arm.read_state()  # no fault


def test_what_is_sent_is_within_the_limits(bench: Bench) -> None:
    with bench.arm() as arm:
        sent = arm.command_velocity(np.array([0.0] * 6 + [100.0]))
        assert 2.0 < sent[6] < 5.26
        arm.stop()
        assert settles(lambda: bench.speed() < 0.01)
        with pytest.raises(RobotError, match="7 finite numbers"):
            arm.command_velocity(np.array([np.nan] + [0.1] * 6))
        time.sleep(0.05)
        assert bench.speed() < 0.01
        arm.read_state()


def test_a_move_arrives(bench: Bench) -> None:
    with bench.arm() as arm:
        goal = arm.read_state().joint_rad + np.array([0.2, -0.1, 0.1, 0.3, -0.2, 0.2, -0.3])
        arm.move_to(goal, timeout_s=5.0)
        assert settles(lambda: bench.speed() < 0.01)
        np.testing.assert_allclose(bench.served.state()[0], goal, atol=0.03)


def library_state(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions (7,) rad and the flange's pose (4, 4), as the vendor's library reports them."""
    if bench.version == 5:
        from panda_py import libfranka

        state = libfranka.Robot(bench.served.host).read_once()
        tool, pose = (np.reshape(values, (4, 4), order="F") for values in (state.F_T_EE, state.O_T_EE))
    else:
        import franky

        with keep_scheduler():
            state = franky.Robot(bench.served.host, realtime_config=franky.RealtimeConfig.Ignore).state
        tool, pose = state.F_T_EE.matrix, state.O_T_EE.matrix
    return np.array(state.q), pose @ np.linalg.inv(tool)


def test_the_flange_is_where_the_library_says(bench: Bench) -> None:
    for turn in (0.2, -0.15):
        with bench.arm() as arm:
            goal = arm.read_state().joint_rad + turn * np.array([1, -0.5, 1, 1, -1, 1, -1])
            arm.move_to(goal, timeout_s=5.0)
        assert settles(lambda: bench.speed() < 0.001)
        joint_rad, pose = library_state(bench)
        ours = PANDA.forward_kinematics(joint_rad)
        assert np.abs(pose[:3, 3] - ours[:3, 3]).max() < 1e-4  # 0.1 mm
        np.testing.assert_allclose(pose[:3, :3], ours[:3, :3], atol=1e-4)


def test_a_reflex_is_named_and_recovered(bench: Bench) -> None:
    with bench.arm() as arm:
        assert "joint_reflex" in bench.inject(arm, "reflex")
        with pytest.raises(RobotFaultError) as caught:
            arm.command_velocity(VELOCITY)
        assert caught.value.state is not None
        assert settles(lambda: bench.speed() < 0.01)
        arm.recover()
        arm.command_velocity(VELOCITY)
        assert settles(lambda: bench.speed() > 0.1, 0.12)
        arm.read_state()


def test_lost_commands_are_named_and_recovered(bench: Bench) -> None:
    with bench.arm() as arm:
        assert "communication_constraints_violation" in bench.inject(arm, "communication_loss")
        assert settles(lambda: bench.speed() < 0.01)
        arm.recover()
        arm.read_state()


def test_a_delay_is_tolerated(bench: Bench) -> None:
    with bench.arm() as arm:
        arm.command_velocity(VELOCITY)
        bench.served.inject("delay")
        for _ in range(10):
            time.sleep(0.01)
            arm.read_state()


def test_a_user_stop_says_what_to_do(bench: Bench) -> None:
    with bench.arm() as arm:
        assert "release it" in bench.inject(arm, "emergency_stop")
    with pytest.raises(RobotError, match="release it"):
        bench.arm().__enter__()
    bench.served.inject("release")
    with bench.arm() as arm:
        arm.read_state()


def test_a_lost_connection_is_named_and_made_again(bench: Bench) -> None:
    with bench.arm() as arm:
        assert "check its cable" in bench.inject(arm, "drop")
    assert settles(lambda: bench.speed() < 0.01)
    with bench.arm() as arm:
        arm.read_state()
