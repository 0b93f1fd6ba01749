"""`offbeat rehearse`: what counts as clean, and a whole rehearsal against the servers."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from offbeat.cli import main, parse
from offbeat.cli.rehearse import find_faults
from offbeat.config import make_config


def write_log(path: Path, *events: dict[str, object]) -> Path:
    log = path / "robot.jsonl"
    log.write_text("".join(json.dumps(event) + "\n" for event in events))
    return log


def test_a_run_that_only_ends_is_clean(tmp_path: Path) -> None:
    log = write_log(tmp_path, {"event": "closed", "time_s": 60.0}, {"event": "still", "time_s": 60.0})
    assert find_faults(log, {"commands": 60_000, "lost": 3, "reflexes": 0, "watchdog": 0}) == []


def test_faults_and_missed_commands_are_told_with_their_causes(tmp_path: Path) -> None:
    reflex = {"event": "fault", "cause": "joint_reflex"}
    log = write_log(tmp_path, reflex, {"event": "recovered"}, reflex, {"event": "watchdog"}, {"event": "closed"})
    assert find_faults(log, {"commands": 9, "reflexes": 2, "protective_stops": 0}) == [
        "the arm stopped by itself 2 times (joint_reflex)",
        "commands were missed, so that the watchdog stopped the arm once",
        "the server counted 2 reflexes",
    ]
    assert find_faults(write_log(tmp_path), {"protective_stops": 1}) == ["the server counted 1 protective stops"]


def test_a_rehearsal_is_a_short_run_at_the_small_scale() -> None:
    config = parse(["rehearse"]).config
    assert (config.scale, config.minutes, config.env) == ("cpu", 1.0, make_config(scale="cpu").env)
    assert config.warmup_s < 60 * config.minutes / 2  # most of it learns


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "A rehearsal needs a server that speaks the arm's protocol: say --robot franka or --robot ur."),
        (["--robot", "own_robot:make_robot"], "say --robot franka or --robot ur."),
        (["--protocol", "7"], "see `offbeat rehearse --help`"),
    ],
)
def test_what_cannot_be_rehearsed_is_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parents[1] / "examples")
    assert main(["rehearse", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("rtde_control"), reason="needs ur-rtde")
def test_a_rehearsal_is_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    arguments = ["--robot", "ur", "--minutes", "0.3", "--warmup-s", "6", "--out", str(out)]
    code = main(["rehearse", *arguments])
    said = capsys.readouterr()
    assert "Clean: no fault, and no command was missed." in said.out, said
    assert code == 0
    assert " against   a server of ur at 127." in said.out
    assert " protective stops" in next(line for line in said.out.splitlines() if line.startswith("server "))
    summary = json.loads((out / "summary.json").read_text())
    assert summary["episodes"] == 3 and summary["updates"] > 0
