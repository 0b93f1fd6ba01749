"""A real arm's two processes: what they say when something is wrong, and how they end. The arm is a fake one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import until

from offbeat.config import EnvConfig, HardwareConfig
from offbeat.errors import DriverError, RobotError, StaleFrameError, WorkerError
from offbeat.robots.hardware import HardwareRig
from offbeat.robots.watchdog import STILL_RAD_S
from offbeat.schedules.processes import Supervisor
from offbeat.schedules.shared import Board
from offbeat.tasks.visual_reacher import VisualReacher
from offbeat.timing.wall import WallClock

CONFIG = EnvConfig(height=36, width=64, renderer="rays")
WATCHDOG_S, CYCLE_S, PATIENCE_S = 0.12, 0.04, 1.0
VELOCITY = np.full(7, 0.2)
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine may keep any process from running for a while; that is no failure of what is tested here."""
    monkeypatch.setattr("offbeat.robots.served.MAX_STATE_AGE_S", PATIENCE_S)


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., HardwareRig]]:
    """Makes rigs whose faults are files of tmp_path, whose log is tmp_path / "log"; closes them."""
    rigs: list[HardwareRig] = []

    def make(driver: str = "fake_arm:FakeArm", camera: str = "fake_arm:FakeCamera", **changes: Any) -> HardwareRig:
        clock = WallClock()
        hardware = HardwareConfig(driver=driver, host=str(tmp_path), camera=camera, **changes)
        rigs.append(HardwareRig(CONFIG, hardware, clock, clock.epoch_s, WATCHDOG_S, tmp_path / "log"))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


def read_log(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "log").read_text().splitlines() if line.endswith("}")]


def events(directory: Path) -> list[str]:
    return [line["event"] for line in read_log(directory)]


def error_of(use: Callable[[], Any]) -> str:
    """Use an arm until it raises, and return what it says."""
    said: list[str] = []

    def raised() -> bool:
        try:
            use()
        except RobotError as error:
            said.append(str(error))
        return bool(said)

    until(raised, "an error")
    return said[0]


# --- what a real arm cannot do ---------------------------------------------------------------------------------------


def test_it_is_neither_placed_nor_drawn_nor_saved(make_rig: Callable[..., HardwareRig], tmp_path: Path) -> None:
    rig = make_rig()
    placement = VisualReacher().placement(np.random.default_rng(0))
    before = rig.robot.read_state().joint_rad
    with pytest.raises(RobotError, match="cannot be placed: let it reset by moves"):
        rig.place(placement)
    rig.restart(placement)
    with pytest.raises(RobotError, match="no second camera"):
        rig.render()
    assert rig.state_dict() == {}
    # Whatever came of it: who reads the summary is told.
    assert all("50" in service.favour or "not offered" in service.favour for service in rig.watched.values())
    rig.load_state_dict({"anything": 1})
    np.testing.assert_allclose(rig.robot.read_state().joint_rad, before, atol=1e-3)
    rig.close()
    rig.close()
    assert (rig.process.exitcode, events(tmp_path)) == (0, ["closed", "still"])
    assert (tmp_path / "closed").exists(), "the driver was told to let go of the arm"


# --- faults ----------------------------------------------------------------------------------------------------------


def test_an_arm_without_a_state_is_an_error_that_names_the_fault(
    make_rig: Callable[..., HardwareRig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offbeat.robots.served.MAX_STATE_AGE_S", 0.2)
    rig = make_rig()
    (tmp_path / "blind").touch()  # and its recovery takes 0.4 s
    assert "has stopped by itself and is being recovered: joint_reflex" in error_of(rig.robot.read_state)
    until(lambda: "recovered" in events(tmp_path), "the recovery")
    until(lambda: rig.robot.fresh, "another state")


def test_while_it_is_recovered_no_command_reaches_it(make_rig: Callable[..., HardwareRig], tmp_path: Path) -> None:
    rig = make_rig()
    (tmp_path / "reflex").touch()
    until(lambda: "fault" in events(tmp_path), "the fault")
    place = until(lambda: (s := rig.robot.read_state()).stamp_s and s, "a state").joint_rad
    while "recovered" not in events(tmp_path):
        rig.robot.command_velocity(VELOCITY)
        time.sleep(0.01)
    # What was commanded before it was over is void; the next command is the first it obeys.
    np.testing.assert_allclose(rig.robot.read_state().joint_rad, place, atol=2e-3)
    fault = next(line for line in read_log(tmp_path) if line["event"] == "fault")
    assert fault["cause"] == "joint_reflex"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("stubborn", "its brakes are worn"),
        ("lost", "the connection to the controller was lost: check its cable"),
        ("broken", "ZeroDivisionError: of all things"),
    ],
)
def test_what_cannot_be_mended_ends_the_process_with_its_reason(
    fault: str, words: str, make_rig: Callable[..., HardwareRig], tmp_path: Path
) -> None:
    rig = make_rig()
    (tmp_path / fault).touch()
    assert words in error_of(rig.robot.read_state)
    until(lambda: not rig.process.is_alive(), "its end")
    assert rig.process.exitcode == 1


def test_it_is_recovered_so_often_a_minute(make_rig: Callable[..., HardwareRig], tmp_path: Path) -> None:
    rig = make_rig(recoveries_per_min=2)
    for count in (1, 2):
        (tmp_path / "reflex").touch()
        until(lambda: events(tmp_path).count("recovered") == count, "the recovery")  # noqa: B023
    (tmp_path / "reflex").touch()
    assert "(joint_reflex) more often than the 2 times a minute" in error_of(rig.robot.read_state)


# --- starting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "camera", "error", "words"),
    [
        ("fake_arm:Nobody", "fake_arm:FakeCamera", DriverError, "fake_arm has no Nobody"),
        ("fake_arm:FakeArm", "fake_arm:Nobody", DriverError, "fake_arm has no Nobody"),
        ("fake_arm:FakeArm", "fake_arm:SmallCamera", RobotError, r"images of \(18, 64, 3\), and the task's are uint8"),
        ("json:loads", "fake_arm:FakeCamera", RobotError, "TypeError"),
    ],
)
def test_what_cannot_start_says_why(
    driver: str, camera: str, error: type[Exception], words: str, make_rig: Callable[..., HardwareRig]
) -> None:
    with pytest.raises(error, match=words):
        make_rig(driver, camera)


# --- the camera ------------------------------------------------------------------------------------------------------


def test_a_camera_that_goes_silent_says_why_and_may_come_back(make_rig: Callable[..., HardwareRig]) -> None:
    rig = make_rig(camera="fake_arm:DarkCamera")
    assert rig.camera.read_latest(PATIENCE_S).image.shape == (36, 64, 3)
    assert "0.05 s is allowed: the camera is unplugged." in error_of(lambda: rig.camera.read_latest(0.05))
    until(lambda: _fresh(rig), "its coming back")
    rig.watched["camera"].process.kill()
    with pytest.raises(StaleFrameError, match="has ended with exit code -9"):
        until(lambda: rig.camera.read_latest(PATIENCE_S) is None, "the error")


def _fresh(rig: HardwareRig) -> bool:
    try:
        return rig.camera.read_latest(0.2) is not None
    except StaleFrameError:
        return False


# --- who watches, and who dies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "harm", "words"),
    [
        ("robot", "kill", "The robot process was killed by SIGKILL. Start it again."),
        ("robot", "lost", "exit code 1: the connection to the controller was lost: check its cable. Start it again."),
        ("camera", "stop", "The camera process gave no sign of life for"),
    ],
)
def test_the_supervisor_names_what_ended(
    name: str, harm: str, words: str, make_rig: Callable[..., HardwareRig], tmp_path: Path
) -> None:
    rig = make_rig()
    supervisor = Supervisor(Board(0), 0.0, {}, rig.robot.stop)
    supervisor.start()
    try:
        for each, watched in rig.watched.items():
            supervisor.watch(each, watched)
        if harm == "lost":
            (tmp_path / harm).touch()
        else:
            pid = rig.watched[name].process.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL if harm == "kill" else signal.SIGSTOP)
        failure = until(lambda: supervisor.failure(0.1), "the failure")
        assert isinstance(failure, WorkerError) and words in str(failure)
    finally:
        rig.watched[name].process.kill()  # a stopped one would be waited for
        supervisor.close()


CLIENT = """
import sys, time
import numpy as np
from offbeat.config import EnvConfig, HardwareConfig
from offbeat.robots.hardware import HardwareRig
from offbeat.timing.wall import WallClock
from pathlib import Path

sys.path.append(sys.argv[2])
clock, config = WallClock(), EnvConfig(height=36, width=64)
hardware = HardwareConfig(driver="fake_arm:FakeArm", host=sys.argv[1], camera="fake_arm:FakeCamera")
rig = HardwareRig(config, hardware, clock, clock.epoch_s, 0.12, Path(sys.argv[1]) / "log")
print(*(service.process.pid for service in rig.watched.values()), flush=True)
while True:
    rig.robot.command_velocity(np.full(7, 0.2))
    time.sleep(0.04)
"""


@pytest.mark.parametrize(
    ("number", "first"),
    [(signal.SIGKILL, ("parent died", "watchdog")), (signal.SIGTERM, ("parent died", "terminated", "watchdog"))],
)
def test_a_program_that_ends_leaves_the_arm_standing_and_no_process(
    number: signal.Signals, first: tuple[str, ...], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", CLIENT, str(tmp_path), str(ROOT / "tests")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as client:
        try:
            assert client.stdout is not None
            pids = [int(pid) for pid in client.stdout.readline().split()]
            time.sleep(0.3)
            client.send_signal(number)
            client.communicate(timeout=20)  # its processes have its standard output, too
        finally:
            if client.poll() is None:
                os.killpg(client.pid, signal.SIGKILL)
    log = read_log(tmp_path)
    stand = next(line for line in log if line["event"] == "still")
    assert log[0]["event"] in first
    late_s = sum(line["late_s"] for line in log)
    assert stand["still_after_s"] <= WATCHDOG_S + CYCLE_S + 0.01 + late_s
    assert (tmp_path / "closed").exists()
    assert len(pids) == 2
    until(lambda: not any(_lives(pid) for pid in pids), "their end")


def _lives(pid: int) -> bool:
    """Whether there is such a process that has not ended; its parent may not have taken note yet."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


# --- a shadow --------------------------------------------------------------------------------------------------------


def test_the_shadow_shows_the_arm_where_it_is(make_rig: Callable[..., HardwareRig]) -> None:
    rig = make_rig(camera="sim")
    first = until(lambda: _frame(rig), "an image").image.astype(int)
    scene = rig.render()
    assert scene.shape == (360, 480, 3) and scene.std() > 20
    end_s = time.monotonic() + 1.0
    while time.monotonic() < end_s:
        rig.robot.command_velocity(VELOCITY * [1, 0, 0, 0, 0, 0, 0])
        time.sleep(CYCLE_S)
    rig.robot.stop()
    until(lambda: np.abs(rig.robot.read_state().joint_rad_s).max() < STILL_RAD_S, "the stand")
    time.sleep(0.2)
    assert np.abs(_frame(rig).image.astype(int) - first).mean() > 2, "the view has turned with the arm"
    assert np.abs(rig.render().astype(int) - scene).mean() > 0.5


def _frame(rig: HardwareRig) -> Any:
    try:
        return rig.camera.read_latest(PATIENCE_S)
    except StaleFrameError:
        return None
