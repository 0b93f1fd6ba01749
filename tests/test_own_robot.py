"""examples/own_robot.py: somebody's own arm and camera, as its page says they are used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from offbeat.config import EnvConfig, HardwareConfig
from offbeat.robots.hardware import HardwareRig
from offbeat.timing.wall import WallClock

EXAMPLES = Path(__file__).parents[1] / "examples"
CLI = [sys.executable, "-m", "offbeat"]
ARM = ["--robot", "own_robot:make_robot", "--scale", "cpu", "--sac.filters", "4", "--sac.hidden", "16", "16"]
SHORT = [
    "--env.episode-s",
    "1",
    "--minutes",
    "0.05",
    "--warmup-s",
    "1.1",
    "--replay-s",
    "60",
    "--checkpoint-episodes",
    "1",
]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_the_page_quotes_the_example() -> None:
    page = (EXAMPLES.parent / "docs" / "own_robot.md").read_text()
    command = "offbeat train --robot own_robot:make_robot --camera own_robot:make_camera --scale cpu --minutes 1"
    assert command in page and command in (EXAMPLES / "own_robot.py").read_text()


def test_its_arm_moves_and_its_camera_films(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offbeat.robots.served.MAX_STATE_AGE_S", 1.0)
    monkeypatch.syspath_prepend(EXAMPLES)
    clock = WallClock()
    hardware = HardwareConfig(driver="own_robot:make_robot", camera="own_robot:make_camera")
    rig = HardwareRig(EnvConfig(height=36, width=64), hardware, clock, clock.epoch_s, 0.12)
    try:
        goal = rig.robot.read_state().joint_rad + 0.05
        rig.robot.move_to(goal, timeout_s=10.0)
        np.testing.assert_allclose(rig.robot.read_state().joint_rad, goal, atol=0.025)
        assert rig.camera.read_latest(1.0).image.shape == (36, 64, 3)
    finally:
        rig.close()
    assert rig.process.exitcode == 0


@pytest.mark.slow
@pytest.mark.parametrize("camera", ["own_robot:make_camera", "sim"])
def test_a_run_on_it_is_killed_and_goes_on(camera: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with subprocess.Popen(
        [*CLI, "train", *ARM, *SHORT, "--camera", camera, "--out", str(out)],
        cwd=EXAMPLES, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        try:
            _wait(lambda: _episodes(out) >= 1 or run.poll() is not None)
            assert run.poll() is None, run.communicate()[1]
            os.kill(json.loads((out / "processes.json").read_text())["robot"], signal.SIGKILL)
            _, said = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 1
    assert f"The robot process was killed by SIGKILL. `offbeat resume {out}` goes on." in said
    resumed = subprocess.run(
        [*CLI, "resume", str(out)], cwd=EXAMPLES, env=ENVIRONMENT, capture_output=True, text=True, timeout=180
    )
    assert resumed.returncode == 0, resumed.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["episodes"], summary["steps"]) == (3, 75)
    assert summary["processes"][:3] == ["interaction", "robot", "camera"]
    events = [json.loads(line)["event"] for line in (out / "robot.jsonl").read_text().splitlines()]
    assert events[-2:] == ["closed", "still"] and "fault" not in events


def _episodes(directory: Path) -> int:
    """Episodes that are in the records of a run."""
    path = directory / "episodes.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def _wait(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end_s, "waited too long"
        time.sleep(0.05)
