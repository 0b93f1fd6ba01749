"""The command line: what is asked for is run, and what is wrong is one sentence on standard error and exit code 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from offbeat.cli import describe, main, parse
from offbeat.config import HardwareConfig, make_config
from offbeat.run import read_config
from offbeat.timing.profile import load_profile

DRY = ["--dry", "--minutes", "0.5", "--profile", "zero"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def test_train_reads_names_first_and_changes_after(tmp_path: Path) -> None:
    command = parse(
        ["train", "--scale=cpu", "--setting", "sync-base", "--env.cycle-s", "0.05", "--sac.batch-size", "32"]
        + ["--warmup-s", "20", "--no-learn-in-resets", "--sac.hidden", "8", "9", "--out", str(tmp_path)]
    )
    base = make_config("sync-base", "cpu")
    assert command.config == replace(
        base,
        warmup_s=20.0,
        learn_in_resets=False,
        env=replace(base.env, cycle_s=0.05),
        sac=replace(base.sac, batch_size=32, hidden=(8, 9)),
    )
    assert command.out == tmp_path


@pytest.mark.parametrize("setting", ["async-base", "async-highres", "sync-base", "sync-highres"])
def test_names_alone_give_the_configuration_of_the_names(setting: str) -> None:
    for scale in ("paper", "cpu"):
        for preset in ("default", "paper"):
            arguments = ["train", "--setting", setting, "--scale", scale, "--preset", preset, "--out", "x"]
            assert parse(arguments).config == make_config(setting, scale, preset)
    arguments = ["train", "--setting", setting, "--schedule", "reactive", "--out", "x"]
    assert parse(arguments).config == make_config(setting, schedule="reactive")


def test_the_arm_has_a_short_name() -> None:
    for arguments in (["--robot", "ur5e"], ["--robot=ur5e"], ["--env.robot", "ur5e"]):
        config = parse(["train", *arguments, "--scale", "cpu", "--out", "x"]).config
        assert config == replace(make_config(scale="cpu"), env=replace(make_config(scale="cpu").env, robot="ur5e"))
        assert "ur5e" in describe(config)


def test_a_driver_has_short_names_and_brings_the_wall_clock() -> None:
    said = ["train", "--robot", "json:loads", "--robot-host", "10.0.0.2", "--camera=/dev/video0", "--out", "x"]
    config = parse(said).config
    assert config.hardware == HardwareConfig(driver="json:loads", host="10.0.0.2", camera="/dev/video0")
    assert (config.clock, config.env.robot) == ("wall", "panda")
    assert parse([*said, "--env.robot", "ur5e"]).config.env.robot == "ur5e"
    assert parse(["profile", "--robot=json:loads", "--out", "x"]).config.hardware.driver == "json:loads"
    assert "driver json:loads, camera /dev/video0" in describe(config)


def test_a_dry_run_ends_with_its_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["train", "--setting", "sync-base", *DRY, "--seed", "3", "--out", str(out)]) == 0
    said = capsys.readouterr()
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["steps"], summary["seed"], summary["dry"]) == (400, 3, True)
    assert read_config(out).schedule == "sequential"
    assert "5 episodes, 400 steps" in said.out
    assert "5/5 episodes" in said.out
    assert said.err == ""


def test_seconds_are_told_in_steps() -> None:
    text = describe(make_config("sync-base"))
    for part in (
        "cycle     75 ms; images 160x90; a stack of 3 spans 150 ms",
        "72 min = 720 episodes of 6 s = 80 steps, 57,600 steps in all",
        "warm-up   120 s = 1,600 steps",
        "replay    4000 s = 53,333 steps, at most 2.30 GB in this run",
        "discount  0.99 per 40 ms = 0.981332 per step",
    ):
        assert part in text
    paper = describe(make_config("sync-base", preset="paper"))
    assert "discount  0.99 per step = 0.990000 per step" in paper
    assert "warm-up   200 s = 2,666 steps" in paper
    assert "replay    7500 s = 100,000 steps" in paper


WRONG: dict[str, tuple[list[str], str]] = {
    "unknown setting": (["--setting", "fast"], "Unknown setting 'fast': use one of async-base, async-highres"),
    "unknown scale": (["--scale", "moon"], "Unknown scale 'moon'"),
    "unknown preset": (["--preset", "mine"], "Unknown preset 'mine'"),
    "unknown schedule": (["--schedule", "never"], "Unknown schedule 'never'"),
    "unknown robot": (["--robot", "ur6"], "Unknown robot 'ur6': use panda or ur5e (simulated), franka, ur, lerobot"),
    "real robot, simulated time": (["--robot", "json:loads", "--clock", "virtual"], "needs the wall clock"),
    "real robot, placed": (["--robot", "json:loads", "--no-dry", "--env.fast-reset"], "A real arm cannot be placed"),
    "camera without a robot": (["--camera", "0"], "A camera or a host without a driver is no real arm"),
    "no such module": (["--robot", "nowhere_at_all:make"], "There is no module nowhere_at_all here or installed"),
    "name without value": (["--setting"], "--setting"),
    "negative minutes": (["--minutes", "-3"], "minutes is -3.0: give a training time above 0 minutes"),
    "minutes not a number": (["--minutes", "nan"], "minutes is nan"),
    "endless minutes": (["--minutes", "inf"], "minutes is inf: give a finite number"),
    "text for minutes": (["--minutes", "long"], "Error parsing --minutes: 'long' is not a number"),
    "endless learning rate": (["--sac.learning-rate", "inf"], "learning_rate is inf"),
    "fraction for a seed": (["--seed", "1.5"], "Error parsing --seed: '1.5' is not a whole number"),
    "cycle of no length": (["--env.cycle-s", "0"], "cycle_s is 0.0: give a cycle time above 0 s"),
    "unknown option": (["--speed", "3"], "Unrecognized options: --speed"),
    "unknown profile": (["--profile", "nope"], "Unknown timing profile 'nope'"),
    "profile without a stage": (["--profile", "constant:act=3,store=0"], "lacks sample, update"),
    "profile with a bad number": (["--profile", "constant:act=x"], "'act=x'"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_options_are_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "--out", str(out), "--dry", *arguments]) == 2
    assert_one_sentence(capsys.readouterr().err, message)
    assert not out.exists()


def assert_one_sentence(said: str, message: str) -> None:
    assert message in said
    assert said.startswith("offbeat: ")
    assert said.count("\n") == 1
    assert said.endswith(".\n")
    assert "Traceback" not in said
    assert "│" not in said


def test_wrong_commands_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, message in (
        ([], "Expected one of {train, resume, study, tune-cycle, profile, report, demo, doctor, "),
        (["fly"], "Unrecognized options: fly"),
        (["train"], "Missing from offbeat train: --out"),
        (["resume"], "Missing from offbeat resume"),
        (["resume", str(tmp_path / "none")], "holds no run"),
        (["resume", str(empty)], "holds no run, config.json is missing"),
        (["report", str(empty), "--out", str(tmp_path / "report")], "holds no run"),
        (["profile", "--out", str(tmp_path / "no" / "such.json")], "does not exist"),
        (["profile", "--out", str(tmp_path)], "exists already"),
    ):
        assert main(arguments) == 2
        assert_one_sentence(capsys.readouterr().err, message)


def test_a_taken_directory_and_a_truncated_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["train", *DRY, "--out", str(out)]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()

    assert main(["train", *DRY, "--out", str(out)]) == 2
    assert_one_sentence(capsys.readouterr().err, "already holds a run")
    assert main(["resume", str(out)]) == 2
    assert_one_sentence(capsys.readouterr().err, "is finished (5 episodes)")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before

    (out / "summary.json").unlink()
    (out / "checkpoint.pt").write_bytes(before["checkpoint.pt"][:1000])
    assert main(["resume", str(out)]) == 2
    assert_one_sentence(capsys.readouterr().err, "truncated or damaged")


def test_profile_saves_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = ModuleType("offbeat.measure")
    measure.measure_profile = lambda config: load_profile("constant:act=1,store=2,sample=3,update=4")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "offbeat.measure", measure)
    out = tmp_path / "mine.json"
    assert main(["profile", "--scale", "cpu", "--out", str(out)]) == 0
    assert "update     4.000 ms" in capsys.readouterr().out
    assert main(["train", *DRY[:3], "--profile", str(out), "--out", str(tmp_path / "run")]) == 0


def test_help_shows_everything_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from offbeat.cli import main; assert main(sys.argv[1:]) == 0; "
        "heavy = {'torch', 'mujoco', 'cv2', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    )
    for arguments, parts in (
        (["--help"], ("train", "resume", "study", "tune-cycle", "profile", "report", "demo", "doctor")),
        (["train", "--help"], ("--setting", "async-highres", "--dry, --no-dry", "--env.cycle-s", "--sac.batch-size")),
    ):
        said = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=True
        )
        assert all(part in said.stdout for part in parts)


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "offbeat", "train", "--dry", "--minutes", "60000", "--out", str(out)]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            patience_s = time.monotonic() + 30
            while not (out / "episodes.csv").exists() and process.poll() is None and time.monotonic() < patience_s:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()  # one that does not heed Ctrl-C would take a core for hours
    assert said == f"Stopped. To go on from the last checkpoint: offbeat resume {out}\n"
    assert process.returncode == 130
    assert not (out / "summary.json").exists()
