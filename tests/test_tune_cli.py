"""`offbeat tune-cycle`: from a profile to a recommendation, again without running anything, and mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from fake_studies import Here

from offbeat import measure
from offbeat.cli import main, parse
from offbeat.config import RunConfig
from offbeat.studies import runner
from offbeat.timing.profile import TimingProfile, load_profile

DRY = [
    "tune-cycle", "--dry", "--minutes", "0.2", "--warmup-s", "3", "--env.episode-s", "1.2", "--env.reset-s", "0.1",
    "--seeds", "1", "--jobs", "1", "--profile", "constant:act=3,store=0,sample=4,update=50",
]  # fmt: skip


@pytest.fixture(autouse=True)
def run_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs need no process of their own here: loading torch in each takes longer than running them."""
    monkeypatch.setattr(runner, "Processes", lambda out, jobs: Here(out))


def test_options_make_a_base() -> None:
    command = parse(
        ["tune-cycle", "--out", "x", "--setting", "sync-base", "--robot", "ur5e", "--schedules", "reactive"]
    )
    assert (command.config.scale, command.config.minutes, command.config.env.robot) == ("cpu", 12.0, "ur5e")
    assert (command.schedules, command.cycles_ms, command.seeds) == (("reactive",), (), 3)
    assert parse(["tune-cycle", "--out", "x", "--scale", "paper"]).config.scale == "paper"
    assert parse(["train", "--out", "x"]).config.scale == "paper"


def test_a_tuning_ends_with_a_recommendation_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [*DRY, "--out", str(tmp_path / "out"), "--schedules", "reactive", "asynchronous", "--cycles-ms", "40", "60"]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "  reactive: 60 ms and longer (0.0% missed); left out: 40 ms\n" in said
    assert "3 cycles, 1 seeds, 2 rungs: 5 runs, 1 minutes of robot time in all, into " in said
    assert "Rung 1 of 2: 3 cycles, 0.09 minutes a run\n" in said
    assert "Best action cycle: " in said and "Wrote " in said
    rows = list(csv.DictReader((tmp_path / "out/tuning.csv").open(newline="")))
    assert [(row["schedule"], row["cycle_ms"], row["rung"]) for row in rows] == [
        ("reactive", "60", "1"), ("asynchronous", "40", "1"), ("asynchronous", "60", "1"),
        ("reactive", "60", "2"), ("asynchronous", "40", "2"),
    ]  # fmt: skip
    page = (tmp_path / "out/report.html").read_bytes()
    assert main(line) == 0
    assert "finished" not in capsys.readouterr().out
    assert (tmp_path / "out/report.html").read_bytes() == page
    assert main([*line, "--seed", "1"]) == 2
    assert "holds a tuning with seeds [0], not [1] as now" in capsys.readouterr().err


def test_a_profile_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[RunConfig] = []

    def measured(config: RunConfig) -> TimingProfile:
        asked.append(config)
        return load_profile("constant:act=3,store=0,sample=4,update=50")

    monkeypatch.setattr(measure, "measure_profile", measured)
    options = [
        "--out",
        str(tmp_path / "out"),
        "--profile",
        "measured",
        "--schedules",
        "sequential",
        "--cycles-ms",
        "80",
    ]
    for _ in range(2):
        assert main([*DRY, *options]) == 0
    assert len(asked) == 1
    assert "Measured here: act 3.0, store 0.0, sample 4.0, update 50.0 ms on average" in capsys.readouterr().out
    config = json.loads((tmp_path / "out/rung-1/sequential-80ms/seed-0/config.json").read_text())
    assert config["profile"] == str(tmp_path / "out/profile.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schedule", "reactive"], "say --schedules reactive, not --schedule"),
        (["--env.cycle-s", "0.05"], "say --cycles-ms, not --env.cycle-s"),
        (["--no-dry", "--clock", "wall"], "tune-cycle works in virtual time"),
        (["--no-dry", "--robot", "ur", "--robot-host", "127.0.0.1"], "in simulation: leave out --robot ur"),
        (["--cycles-ms", "0"], "A cycle of 0 ms is none"),
        (["--cycles-ms", "7000"], "A cycle of 7000 ms is none: use more than 0 and at most an episode, 1200 ms"),
        (["--longest-ms", "nan"], "longest_ms is nan: give a finite number"),
        (["--seeds", "0"], "seeds is 0: give 1 or more"),
        (["--jobs", "0"], "jobs is 0: run at least 1"),
        (["--warmup-s", "60"], "nothing is learned in the first 1 of them"),
        (["--profile", "nothing"], "Unknown timing profile 'nothing'"),
        (
            ["--schedules", "sequential", "--longest-ms", "50"],
            "No schedule holds a cycle of up to 50 ms with the timing",
        ),
        (["--schedules", "reactive", "--cycles-ms", "40"], "give a longer --cycles-ms"),
        (["--schedules", "moon"], "--schedules"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DRY, "--out", str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("offbeat: ") and said.endswith(".\n") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
