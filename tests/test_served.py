"""A served arm outlives whoever steers it, and stands still soon after, however that one died or stopped.

The arm's times are its own, in whole physics steps of 2 ms, so the bounds hold on a loaded machine too: the watchdog's
time, a cycle of 40 ms in which the arm ramps from 0.2 rad/s to a stand, and one step each to obey, stop and stand.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import until

from offbeat.arms import RobotName
from offbeat.config import EnvConfig
from offbeat.env import RealTimeEnv
from offbeat.errors import MoveTimeoutError, RobotError, StaleFrameError
from offbeat.robots.link import Cells
from offbeat.robots.models import MODELS
from offbeat.robots.served import ServedRig, ServedRobot
from offbeat.robots.sim import SimRig
from offbeat.robots.watchdog import STILL_RAD_S
from offbeat.tasks.visual_reacher import VisualReacher
from offbeat.timing.clock import VirtualClock
from offbeat.timing.profile import load_profile
from offbeat.timing.wall import WallClock

CONFIG = EnvConfig(height=36, width=64, renderer="rays")
CYCLE_S, WATCHDOG_S, STEP_S = 0.04, 0.12, 0.002
STAND_S = WATCHDOG_S + CYCLE_S + 3 * STEP_S
PATIENCE_S = 1.0
VELOCITY = np.full(7, 0.2)
PLACEMENT = VisualReacher().placement(np.random.default_rng(0))

CLIENT = """
import signal, sys
from pathlib import Path
import numpy as np
from offbeat.config import EnvConfig
from offbeat.robots.served import ServedRig
from offbeat.timing.wall import WallClock

clock = WallClock()
config = EnvConfig(height=36, width=64, renderer="rays")
rig = ServedRig(config, clock, clock.epoch_s, float(sys.argv[2]), Path(sys.argv[1]))
print(rig.process.pid, flush=True)
start_s, k = clock.now(), 0
while True:
    rig.robot.command_velocity(np.full(7, 0.2) * (-1) ** (k // 25))
    k += 1
    clock.sleep_until(start_s + 0.04 * k)
"""


def read_log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def find(path: Path, event: str) -> dict[str, Any] | None:
    return next((line for line in read_log(path) if line["event"] == event), None)


def make_rig(log: Path | None = None, watchdog_s: float = WATCHDOG_S, config: EnvConfig = CONFIG) -> ServedRig:
    clock = WallClock()
    return ServedRig(config, clock, clock.epoch_s, watchdog_s, log)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine may keep any process from running for a while; that is no failure of what is tested here."""
    monkeypatch.setattr("offbeat.robots.served.MAX_STATE_AGE_S", PATIENCE_S)
    monkeypatch.setattr("offbeat.env.MAX_IMAGE_AGE_S", PATIENCE_S)


@pytest.fixture(scope="module")
def rig() -> Iterator[ServedRig]:
    """One server for all tests that leave it alive; its watchdog is slow, so that a loaded machine does not wake it."""
    served = make_rig(watchdog_s=2.0)
    yield served
    served.close()
    assert served.process.exitcode == 0


@pytest.fixture
def client(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process group of its own that serves an arm and steers it at 25 Hz; its log is tmp_path / "log"."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(tmp_path / "log"), str(WATCHDOG_S)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    time.sleep(0.3)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)


# --- the arm, its camera and the requests, in a process of their own -------------------------------------------------


def test_commands_and_states_go_round(rig: ServedRig) -> None:
    rig.place(PLACEMENT)
    start = rig.robot.read_state()
    np.testing.assert_allclose(start.joint_rad, PLACEMENT.joint_rad, atol=1e-3)
    sent = rig.robot.command_velocity(VELOCITY)
    np.testing.assert_array_equal(sent, VELOCITY)
    until(lambda: np.allclose(rig.robot.read_state().joint_rad_s, VELOCITY, atol=0.01), "the arm's reaching its speed")
    rig.robot.stop()
    rig.robot.stop()
    until(lambda: np.abs(rig.robot.read_state().joint_rad_s).max() < STILL_RAD_S, "the stand")
    assert (rig.robot.read_state().joint_rad > start.joint_rad).all()


def test_what_is_sent_is_clipped_and_must_be_finite(rig: ServedRig) -> None:
    rig.place(PLACEMENT)
    np.testing.assert_array_equal(rig.robot.command_velocity(np.full(7, 9.0)), MODELS["panda"].velocity_limit_rad_s)
    rig.robot.stop()
    with pytest.raises(RobotError, match="must be finite"):
        rig.robot.command_velocity(np.full(7, np.nan))


def test_moves_arrive_or_say_so(rig: ServedRig) -> None:
    rig.place(PLACEMENT)
    goal = PLACEMENT.joint_rad + 0.05
    rig.robot.move_to(goal, timeout_s=10.0)
    np.testing.assert_allclose(rig.robot.read_state().joint_rad, goal, atol=0.025)
    with pytest.raises(MoveTimeoutError, match="from its goal"):
        rig.robot.move_to(goal + 0.5, timeout_s=0.1)


def test_images_are_those_of_the_simulated_camera_and_as_late(rig: ServedRig) -> None:
    clock = VirtualClock(load_profile("zero"), seed=0)
    twin = SimRig(CONFIG, clock)
    for seed in (1, 2):
        placement = VisualReacher().placement(np.random.default_rng(seed))
        rig.restart(placement)
        twin.restart(placement)
        frame = rig.camera.read_latest(max_age_s=5.0)
        np.testing.assert_array_equal(frame.image, twin.camera.read_latest(max_age_s=5.0).image)
    for _ in range(3):
        before = frame.captured_s
        until(lambda: rig.camera.read_latest(5.0).captured_s > before, "another image")  # noqa: B023
        frame = rig.camera.read_latest(5.0)
        assert rig.robot.read_state().stamp_s - frame.captured_s >= CONFIG.camera_latency_s - 1e-9  # rounding
    assert rig.camera.read_latest(5.0).image.shape == (36, 64, 3)
    with pytest.raises(StaleFrameError, match="is allowed: check the camera"):
        rig.camera.read_latest(max_age_s=0.01)


def test_it_can_be_placed_drawn_saved_and_loaded(rig: ServedRig) -> None:
    rig.place(PLACEMENT)
    scene = rig.render()
    assert scene.shape == (360, 480, 3) and scene.dtype == np.uint8 and scene.std() > 20
    state = rig.state_dict()
    rig.place(replace(PLACEMENT, joint_rad=PLACEMENT.joint_rad + 0.2))
    assert rig.robot.read_state().joint_rad[0] > PLACEMENT.joint_rad[0] + 0.1
    rig.load_state_dict(state)
    np.testing.assert_allclose(rig.robot.read_state().joint_rad, PLACEMENT.joint_rad, atol=1e-3)
    with pytest.raises(KeyError, match="origin_s"):
        rig.load_state_dict({})


def test_what_was_commanded_before_a_place_is_void(rig: ServedRig) -> None:
    rig.place(PLACEMENT)
    rig.robot.command_velocity(VELOCITY)
    rig.place(PLACEMENT)
    time.sleep(0.1)
    np.testing.assert_allclose(rig.robot.read_state().joint_rad, PLACEMENT.joint_rad, atol=1e-3)


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_an_episode_on_the_wall_clock(rig: ServedRig, robot: RobotName) -> None:
    del rig  # only so that two servers do not start at once
    clock = WallClock()
    config = replace(CONFIG, robot=robot, fast_reset=True, reset_s=0.1, episode_s=0.4)
    env = RealTimeEnv(config, clock, ServedRig(config, clock, clock.epoch_s, WATCHDOG_S))
    try:
        observation, _ = env.reset(seed=0)
        steps, truncated = 0, False
        while not truncated:
            observation, reward, _, truncated, info = env.step(np.full(config.joints, 0.5, np.float32))
            steps += 1
        assert info["joint_rad"].shape == (config.joints,)
        assert steps == 10 and reward >= 0.0
        assert observation["image"].shape == (36, 64, 9)
        assert info["captured_s"] + CONFIG.camera_latency_s <= info["observed_s"] < info["sent_s"]
    finally:
        env.close()


# --- who steers it dies, stops or is slow; the server dies -----------------------------------------------------------


def drive(cells: Cells, epoch_s: float) -> None:
    """Steer an arm of another process at 25 Hz, for ever."""
    clock = WallClock(epoch_s)
    robot = ServedRobot(cells, clock, str)
    while True:
        robot.command_velocity(VELOCITY)
        time.sleep(CYCLE_S)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_arm_stands_when_its_driver_dies_or_stops(number: signal.Signals) -> None:
    clock = WallClock()
    rig = ServedRig(CONFIG, clock, clock.epoch_s, WATCHDOG_S)
    driver = get_context("spawn").Process(target=drive, args=(rig._cells, clock.epoch_s), daemon=True)
    driver.start()
    try:
        until(lambda: rig.robot.read_state().joint_rad_s[0] > 0.19, "the arm's moving")
        assert driver.pid is not None
        os.kill(driver.pid, number)
        # No wall clock in the bound: the state of the first step in which it must stand, by the arm's own stamps.
        sent_s = until(lambda: _unchanged(rig._cells), "the last command")
        state = until(lambda: (s := rig.robot.read_state()).stamp_s >= sent_s + STAND_S and s, "the stand")
        assert np.abs(state.joint_rad_s).max() <= STILL_RAD_S
    finally:
        driver.kill()
        driver.join(10)
        rig.close()
    assert rig.process.exitcode == 0


def _unchanged(cells: Cells) -> float:
    """Stamp of the newest command, once no other has come for a cycle and a half; else 0.0."""
    version, record = cells.command.read()
    time.sleep(1.5 * CYCLE_S)
    return float(record["sent_s"]) if cells.command.version == version else 0.0


def test_stopped_client(client: subprocess.Popen[str], tmp_path: Path) -> None:
    os.kill(client.pid, signal.SIGSTOP)
    stand = until(lambda: find(tmp_path / "log", "still"), "the stand")
    stop = find(tmp_path / "log", "watchdog")
    assert stop is not None and WATCHDOG_S <= stop["stale_s"] <= WATCHDOG_S + STEP_S
    assert stand["still_after_s"] <= STAND_S
    os.kill(client.pid, signal.SIGCONT)
    until(lambda: find(tmp_path / "log", "resumed"), "its going on")


def test_killed_client_leaves_nothing(client: subprocess.Popen[str], tmp_path: Path) -> None:
    client.kill()
    # The server has the client's standard output too: it ends when both have.
    client.communicate(timeout=20)
    stop, stand = find(tmp_path / "log", "parent died"), find(tmp_path / "log", "still")
    assert stop is not None and stand is not None
    assert stop["stale_s"] <= WATCHDOG_S + STEP_S and stand["still_after_s"] <= STAND_S


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux what memory a process has")
def test_shared_memory_has_no_name_that_could_stay(rig: ServedRig) -> None:
    maps = Path(f"/proc/{rig.process.pid}/maps").read_text()
    assert "/memfd:offbeat" in maps and "/dev/shm" not in maps


def test_interrupt_leaves_the_server_to_its_client(client: subprocess.Popen[str], tmp_path: Path) -> None:
    os.killpg(client.pid, signal.SIGINT)
    _, errors = client.communicate(timeout=20)
    assert errors.count("KeyboardInterrupt") == 1, "the client's own, none of the server's"
    assert find(tmp_path / "log", "still") is not None


def test_slow_client_is_stopped_between_its_commands(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "log", watchdog_s=0.05)
    try:
        for _ in range(3):
            rig.robot.command_velocity(VELOCITY)
            time.sleep(0.2)
    finally:
        rig.close()
    events = [line["event"] for line in read_log(tmp_path / "log")]
    assert events == ["watchdog", "still", "resumed"] * 2 + ["watchdog", "still", "closed", "still"]


def test_dead_server_is_an_error_with_its_cause() -> None:
    rig = make_rig()
    rig.process.kill()
    until(lambda: not rig.process.is_alive(), "its end")
    time.sleep(1.2 * PATIENCE_S)
    for use in (rig.robot.read_state, lambda: rig.robot.command_velocity(VELOCITY), rig.render):
        with pytest.raises(RobotError, match="ended with exit code -9"):
            use()
    rig.robot.stop()
    rig.close()
    rig.close()


def test_stopped_server_is_an_error_and_is_ended() -> None:
    rig = make_rig()
    assert rig.process.pid is not None
    os.kill(rig.process.pid, signal.SIGSTOP)
    time.sleep(1.2 * PATIENCE_S)
    with pytest.raises(RobotError, match="stopped or kept from running"):
        rig.robot.read_state()
    rig.close()
    assert rig.process.exitcode == -signal.SIGKILL


def test_terminated_server_stops_the_arm_first(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "log", watchdog_s=10.0)
    rig.robot.command_velocity(VELOCITY)
    time.sleep(0.06)
    rig.process.terminate()
    rig.process.join(20)
    assert rig.process.exitcode == 0
    assert [line["event"] for line in read_log(tmp_path / "log")] == ["terminated", "still"]
    rig.close()


def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RobotError, match="No such file or directory"):
        make_rig(tmp_path / "nowhere" / "log")
