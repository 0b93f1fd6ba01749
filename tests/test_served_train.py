"""`offbeat train --robot ...` on the wall clock, against each server there is of an arm's protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from franka_sim import franka_sim

from offbeat.robots.protocols import serving
from offbeat.timing.ledger import read_episodes

EPISODE_S = 10.0


@contextmanager
def franka_server(version: int, folder: Path) -> Iterator[str]:
    """The address of our server of one version; its arm may not have stopped by itself."""
    with serving("franka", protocol=version) as served:
        yield served.host
        print(served.counters)
        assert served.counters["reflexes"] == 0


@contextmanager
def ur_server(version: int, folder: Path) -> Iterator[str]:
    """The address of our server of a UR5e; its arm may not have stopped by itself."""
    with serving("ur") as served:
        yield served.host
        print(served.counters)
        assert served.counters["protective_stops"] == 0


@contextmanager
def their_simulator(version: int, folder: Path) -> Iterator[str]:
    """The address of franka-sim, whose limits may not have been violated."""
    with franka_sim(folder) as simulator:
        yield simulator.host
        assert "violation" not in simulator.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("robot", "server", "version", "library"),
    [
        ("franka", franka_server, 5, "panda_py"),
        ("franka", franka_server, 10, "franky"),
        ("franka", their_simulator, 10, "franky"),
        ("ur", ur_server, 0, "rtde_control"),
    ],
    ids=["panda", "fr3", "franka-sim", "ur5e"],
)
def test_a_run_neither_stops_the_arm_nor_leaves_it_alone(
    robot: str,
    server: Callable[[int, Path], AbstractContextManager[str]],
    version: int,
    library: str,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    episodes = round(pytestconfig.getoption("--train-minutes") * 60 / EPISODE_S)
    out = tmp_path / "run"
    with server(version, tmp_path) as host:
        command = ["train", "--setting", "async-base", "--scale", "cpu", "--robot", robot, "--robot-host", host]
        lengths = ["--minutes", str(episodes * EPISODE_S / 60), "--env.episode-s", str(EPISODE_S), "--warmup-s", "12"]
        answer = subprocess.run(
            [sys.executable, "-m", "offbeat", *command, *lengths, "--out", str(out)], capture_output=True, text=True
        )
        print(answer.stdout)
        assert answer.returncode == 0, answer.stderr
        events = [json.loads(line) for line in (out / "robot.jsonl").read_text().splitlines()]
        assert [event for event in events if event["event"] in ("fault", "watchdog")] == []
    records = read_episodes(out)
    assert records["steps"].tolist() == [round(EPISODE_S / 0.04)] * episodes
    assert records["updates"][-1] > 0
    # Between two episodes the arm lifts the bag and goes back to look at it: it takes its time.
    assert (np.diff(records["robot_s"]) > EPISODE_S + 1.0).all()
