"""`offbeat study`: what it says while it runs and at the end, and mistakes as one sentence."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_studies import make_study
from rich.console import Console

from offbeat.cli import main, parse
from offbeat.directory import sole_user
from offbeat.run import train
from offbeat.studies.named import NAMED
from offbeat.studies.show import progress_line, show_study
from offbeat.studies.toml import load_study
from offbeat.studies.watch import Event, RunStatus, State

DRY = 'seeds = 1\n[base]\nscale = "cpu"\ndry = true\nminutes = 2\nschedule = "reactive"\nenv.cycle_s = 0.1\n'


def make_event(*states: State) -> Event:
    runs = make_study("a", "b", "c", seeds=(0,)).runs()
    known = {
        State.RUNNING: {"episodes": 4, "return_last20": 130.25, "speed": 3.14},
        State.FINISHED: {"episodes": 8, "return_last20": 270.8, "speed": 3.0},
        State.FAILED: {"reason": "the disk is full"},
    }
    statuses = [RunStatus(run, state, **known.get(state, {})) for run, state in zip(runs, states, strict=True)]  # type: ignore[arg-type]
    return Event(tuple(statuses), 3723.0)


def shown(terminal: bool, play: Callable[[Callable[[Event], None]], None], height: int = 30) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, height=height, color_system=None)
    with show_study(console) as show:
        play(show)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_line_says_how_far_a_study_is() -> None:
    event = make_event(State.FINISHED, State.RUNNING, State.WAITING)
    assert progress_line(event) == ("1 of 3 runs finished; b seed 0: 50%, return 130.2, 3.1x real time; 1:02:03 left")
    assert "; 1 failed; " in progress_line(make_event(State.FAILED, State.RUNNING, State.WAITING))


def test_without_a_terminal_each_run_has_one_line() -> None:
    def play(show: Callable[[Event], None]) -> None:
        show(make_event(State.WAITING, State.RUNNING, State.WAITING))
        for _ in range(3):
            show(make_event(State.FINISHED, State.FAILED, State.RUNNING))

    assert shown(False, play).splitlines() == [
        "finished a seed 0: 100%, return 270.8, 3.0x real time",
        "failed b seed 0: the disk is full",
    ]


def test_on_a_terminal_there_is_a_line_a_run_and_the_time_left() -> None:
    said = shown(True, lambda show: show(make_event(State.FINISHED, State.RUNNING, State.FAILED)))
    for part in ("a seed 0", "270.8", "b seed 0", "50%", "130.2", "3.1x", "the disk is full", "1:02:03 left"):
        assert part in said


def test_a_short_terminal_shows_what_matters_now() -> None:
    said = shown(True, lambda show: show(make_event(State.FINISHED, State.WAITING, State.RUNNING)), height=6)
    assert "c seed 0" in said
    assert "a seed 0" not in said and "b seed 0" not in said
    assert "and 1 waiting, 1 finished" in said


def test_help_lists_the_studies_and_their_questions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for name, named in NAMED.items():
        assert f"{name}: {named.question}" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["papr"], "Unknown study 'papr', the nearest is paper: use paper, why"),
        (["none.toml"], "The study file none.toml cannot be read (No such file or directory): give the path of one."),
        (["paper", "--minutes", "-3"], "minutes is -3.0"),
        (["paper", "--minutes", "inf"], "minutes is inf: give a finite number"),
        (["paper", "--seeds", "0"], "The study 'paper' has no seeds"),
        (["paper", "--seeds", "zero"], "Error parsing --seeds: 'zero' is not a whole number"),
        (["paper", "--minutes", "long"], "Error parsing --minutes: 'long' is not a number"),
        (["paper", "--jobs", "0"], "jobs is 0: run at least 1"),
        (["paper", "--scale", "moon"], "--scale"),
        (["paper", "--reuse", "none"], "There is no directory none to reuse runs from"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing_behind(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and "None" not in said
    assert said.startswith("offbeat: ") and said.endswith(".\n") and said.count("\n") == 1
    assert not (tmp_path / "runs" / "studies" / "paper").exists()


def test_options_make_a_plan() -> None:
    plan = parse(["study", "why", "--minutes", "3", "--seeds", "2", "--scale", "paper"]).plan()
    assert (plan.name, plan.seeds) == ("why", (0, 1))
    assert {(setting.config.minutes, setting.config.scale) for setting in plan.settings} == {(3.0, "paper")}


def test_a_study_ends_with_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text(DRY)
    out = tmp_path / "out"
    assert main(["study", str(tmp_path / "mine.toml"), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "1 settings, 1 seeds, into" in said
    assert "finished base seed 0: 100%" in said
    assert "1 of 1 runs finished" in said
    assert (out / "report" / "report.html").exists()
    assert json.loads((out / "base/seed-0/summary.json").read_text())["episodes"] == 20


def test_a_failed_run_is_named_and_makes_the_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, run = tmp_path / "mine.toml", tmp_path / "out/base/seed-0"
    file.write_text(DRY)
    train(load_study(file).runs()[0].config, run)
    (run / "summary.json").unlink()
    (run / "checkpoint.pt").write_bytes(b"nothing")
    assert main(["study", str(file), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    reason = f"The checkpoint {run / 'checkpoint.pt'} is truncated or damaged: start a new run in another directory."
    assert said.err == f"base seed 0 failed: {reason}\n"
    assert f"failed base seed 0: {reason}\n" in said.out
    assert not (tmp_path / "out/report").exists()


def test_ctrl_c_ends_the_runs_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(DRY.replace("minutes = 2", "minutes = 60000"))
    run = tmp_path / "out/base/seed-0"
    process = subprocess.Popen(
        [sys.executable, "-m", "offbeat", "study", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        patience_s = time.monotonic() + 60
        while not (run / "episodes.csv").exists() and process.poll() is None and time.monotonic() < patience_s:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert said == "Stopped. The same command goes on from the last checkpoints.\n"
    assert process.returncode == 130
    with sole_user(run):  # nobody works on it any more
        assert not (run / "summary.json").exists()
    assert list(tmp_path.rglob("*.log")) == []
