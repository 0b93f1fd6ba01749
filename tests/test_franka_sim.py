"""The FR3's driver against franka-sim, which others wrote: with its own kinematics, and limits that it enforces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from franka_sim import FrankaSim, franka_sim

from offbeat.config import HardwareConfig
from offbeat.robots.base import RobotSetup
from offbeat.robots.franka import make_franka
from offbeat.robots.models.panda import PANDA
from offbeat.timing.realtime import keep_scheduler
from offbeat.timing.wall import WallClock

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("franky") is None, reason="franky is not installed")]

HOLD_S = 0.12


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrankaSim]:
    with franka_sim(tmp_path_factory.mktemp("franka-sim")) as simulator:
        yield simulator


def test_the_model_in_the_library_has_our_kinematics(simulator: FrankaSim) -> None:
    import franky

    with keep_scheduler():
        robot = franky.Robot(simulator.host, realtime_config=franky.RealtimeConfig.Ignore)
    rng, state = np.random.default_rng(0), robot.state
    for _ in range(20):
        joint_rad = rng.uniform(PANDA.joint_lower_rad, PANDA.joint_upper_rad)
        pose = robot.model.pose(franky.Frame.Flange, joint_rad, state.F_T_EE, state.EE_T_K).matrix
        np.testing.assert_allclose(pose, PANDA.forward_kinematics(joint_rad), rtol=0, atol=1e-4)  # 0.1 mm


def test_changing_commands_break_no_limit(simulator: FrankaSim) -> None:
    hardware = HardwareConfig(driver="franka", host=simulator.host)
    arm: Any = make_franka(RobotSetup("panda", simulator.host, WallClock(), HOLD_S, hardware))
    try:
        start = arm.read_state().joint_rad
        rng = np.random.default_rng(0)
        for _ in range(50):
            back = start - arm.read_state().joint_rad
            arm.command_velocity(np.clip(rng.uniform(-0.3, 0.3, 7) + 0.5 * back, -0.2, 0.2))
            time.sleep(0.04)
        arm.stop()
        time.sleep(0.2)
        moved = arm.read_state()
        assert np.abs(moved.joint_rad_s).max() < 0.01
        assert 0.005 < np.abs(moved.joint_rad - start).max() < 0.3
        arm.move_to(start, timeout_s=5.0)
    finally:
        arm.close()
