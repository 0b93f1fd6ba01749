"""`offbeat robot check | home`, through the processes and the watchdog that training has."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest

from offbeat.cli import main, parse, robot
from offbeat.robots import commission

EXAMPLES = Path(__file__).parents[1] / "examples"
OWN = ["--robot", "own_robot:make_robot", "--camera", "own_robot:make_camera"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watch for less long, and move as briskly as an arm without inertia can."""
    monkeypatch.setattr(robot, "_WATCH_S", 0.3)
    monkeypatch.setattr(commission, "_GAIN_PER_S", 20.0)
    monkeypatch.setenv("COLUMNS", "160")


@pytest.mark.slow
def test_check_shows_limits_and_freshness_and_moves_every_joint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(EXAMPLES)
    assert main(["robot", "check", *OWN, "--yes"]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if "°" in line]
    assert len(rows) == 14
    assert "-112.9°" in rows[3] and "-160° to -11°" in rows[3]  # joint 4, and the task's bounds of it
    assert re.search(r"states    \d+ a second; age median \d", said)
    assert [row.count("good") for row in rows[7:]] == [1] * 7
    told = [next(word for word in row.split() if "°" in word) for row in rows[7:]]
    assert told == [f"{'+' if up else '-'}1.00°" for up in (True, True, False, True, False, True, False)]


def test_check_moves_nothing_without_a_yes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(commission, "nudge", None)
    assert main(["robot", "check", *OWN]) == 2
    assert capsys.readouterr().err == (
        "offbeat: The arm moves only after a yes: run this in a terminal, or say --yes.\n"
    )


@pytest.mark.parametrize(
    ("answer", "agreed"), [("y\n", True), ("Yes\n", True), ("\n", False), ("no\n", False), ("", False)]
)
def test_only_a_yes_is_one(answer: str, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert robot._agreed("Move?", yes=False) is agreed


def test_check_stops_an_arm_whose_driver_mixes_up_its_joints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--robot", "away_arm:MixedArm", "--camera", "fake_arm:FakeCamera", "--robot-host", str(tmp_path)]
    assert main(["robot", "check", *arguments, "--yes"]) == 1
    assert "Joint 1 was told to move by +1.00 degrees and the joints moved by" in capsys.readouterr().err
    assert (tmp_path / "closed").exists()


def test_home_goes_there_slowly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--robot", "away_arm:AwayArm", "--camera", "fake_arm:FakeCamera", "--robot-host", str(tmp_path)]
    assert main(["robot", "home", *arguments, "--yes"]) == 0
    said = capsys.readouterr().out
    assert "joints    turn by +6, +6, +6, +6, +6, +6, +6 degrees" in said
    assert "flange    from (" in said
    degrees = float(said.split("It stands ")[1].split()[0])
    assert degrees < 1.0


def test_home_says_when_there_is_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(EXAMPLES)
    assert main(["robot", "home", *OWN]) == 0
    assert "The arm is there already." in capsys.readouterr().out


def test_the_simulated_arm_can_be_checked_without_any_driver(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "check", "--robot", "ur5e", "--scale", "cpu"]) == 2  # nobody there to say yes
    said = capsys.readouterr()
    assert "simulated, ur5e" in said.out
    assert said.out.count("°") == 6 * 3 + said.out.count("° to ")
    assert "say --yes" in said.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["robot"], "Say `offbeat robot check` or `offbeat robot home`."),
        (["robot", "dance"], "Say `offbeat robot check` or `offbeat robot home`."),
        (["camera", "--help"], "Say `offbeat camera check` or `offbeat camera mask`."),
        (["robot", "check", "--degrees", "20"], "degrees is 20.0: use more than 0 and at most 5."),
        (["robot", "check", "--robot", "nobody:none"], "There is no module nobody here or installed"),
        (["robot", "home", "--fast"], "see `offbeat robot home --help`"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


def test_check_takes_the_options_of_training() -> None:
    command = parse(["robot", "check", *OWN, "--robot-host", "10.0.0.1", "--hardware.collision-force-n", "20"])
    hardware = command.config.hardware
    assert (hardware.driver, hardware.host, hardware.collision_force_n) == ("own_robot:make_robot", "10.0.0.1", 20.0)
    assert command.config.clock == "wall"
    np.testing.assert_allclose(command.degrees, 1.0)
