"""Carrying out a study: it goes on from any state to the same bytes, and one run's failure is not another's."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_studies import TINY, assert_same, contents, make_study, run_here

from offbeat.config import ComputeConfig, RunConfig
from offbeat.errors import RunError
from offbeat.run import train
from offbeat.studies.directory import open_study, sole_study
from offbeat.studies.plan import Study
from offbeat.studies.runner import longest_first, run_study
from offbeat.studies.watch import Event, State, Watch


def test_a_study_is_settings_times_seeds(tmp_path: Path) -> None:
    study, events = make_study("sequential", "reactive", dry=True), list[Event]()
    outcome, started = run_here(study, tmp_path, show=events.append)
    assert (len(outcome.finished), dict(outcome.failed)) == (4, {})
    assert [name.rpartition(" ")[2] for name in started] == ["0", "0", "1", "1"]
    assert {status.state for status in events[0].runs} == {State.WAITING}
    assert {(status.state, status.episodes) for status in events[-1].runs} == {(State.FINISHED, 8)}
    assert events[-1].remaining_s == 0.0

    data = json.loads((tmp_path / "study.json").read_text())
    assert (data["name"], data["question"], data["seeds"]) == ("mine", "Which is best?", [0, 1])
    assert [entry["name"] for entry in data["settings"]] == ["sequential", "reactive"]
    assert RunConfig.from_dict(data["settings"][1]["config"]) == study.settings[1].config
    assert sorted(path.name for path in (tmp_path / "reactive").iterdir()) == ["seed-0", "seed-1"]


def test_what_has_finished_is_not_run_again_and_more_come_on_top(tmp_path: Path) -> None:
    run_here(make_study("sequential", dry=True), tmp_path)
    before = contents(tmp_path)
    assert run_here(make_study("sequential", dry=True), tmp_path)[1] == []
    assert contents(tmp_path) == before
    _, started = run_here(make_study("sequential", "reactive", seeds=(0, 2), dry=True), tmp_path)
    assert started == ["reactive seed 0", "sequential seed 2", "reactive seed 2"]
    assert json.loads((tmp_path / "study.json").read_text())["seeds"] == [0, 1, 2]


def test_a_failed_run_is_reported_and_tried_again(tmp_path: Path) -> None:
    study = make_study("sequential", "reactive", dry=True)
    outcome, started = run_here(study, tmp_path, {"sequential seed 0": "the disk is full"})
    assert len(started) == 4
    assert {str(run): reason for run, reason in outcome.failed.items()} == {"sequential seed 0": "the disk is full"}
    assert len(outcome.finished) == 3
    outcome, started = run_here(study, tmp_path)
    assert (started, len(outcome.finished), dict(outcome.failed)) == (["sequential seed 0"], 4, {})


def change_profile(out: Path) -> Study:
    path = out.parent / "profile.json"
    path.write_text(path.read_text().replace("0.003", "0.004"))
    return make_study("sequential", dry=True, profile=str(path))


def damage_study(out: Path) -> Study:
    (out / "study.json").write_text("{")
    return make_study("sequential", dry=True)


def put_another_run(out: Path) -> Study:
    (out / "study.json").unlink()
    return make_study("sequential", dry=True, warmup_s=1.0)


CHANGES = {
    "changed setting": (
        lambda out: make_study("sequential", dry=True, env__cycle_s=0.05),
        r"holds the setting 'sequential' with env.cycle_s 0.04, not 0.05 as now: change it back or give another --out",
    ),
    "removed setting": (lambda out: make_study("reactive", dry=True), "'sequential', which the study has no more"),
    "another run": (put_another_run, "seed-0 holds a run with warmup_s 0.5, not 1.0 as now"),
    "damaged": (damage_study, "study.json does not describe a study"),
    "profile": (change_profile, "seed-0 holds a run with another timing profile"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_another_study_is_refused_and_not_mixed_in(tmp_path: Path, change: Any, message: str) -> None:
    out, more = tmp_path / "study", {}
    if change is change_profile:
        (tmp_path / "profile.json").write_text(
            json.dumps({"stages": {s: {"constant_s": 0.003} for s in ("act", "store", "sample", "update")}})
        )
        more = {"profile": str(tmp_path / "profile.json")}
    run_here(make_study("sequential", dry=True, **more), out)
    study = change(out)
    before = contents(out)
    with pytest.raises(RunError, match=message) as caught:
        run_here(study, out)
    assert "\n" not in str(caught.value)
    assert contents(out) == before


def test_the_same_runs_of_another_study_are_copied(tmp_path: Path) -> None:
    run_here(make_study("sequential", seeds=(0,), dry=True), tmp_path / "first")
    events: list[Event] = []
    study = make_study("alike", "asynchronous", dry=True)
    _, started = run_here(study, tmp_path / "second", reuse=[tmp_path / "first"], show=events.append)
    assert started == ["asynchronous seed 0", "alike seed 1", "asynchronous seed 1"]
    assert [str(s.run) for s in events[-1].runs if s.state is State.COPIED] == ["alike seed 0"]
    assert_same(tmp_path / "first/sequential/seed-0", tmp_path / "second/alike/seed-0")
    with pytest.raises(RunError, match=r"There is no directory .*none to reuse runs from"):
        run_here(study, tmp_path / "third", reuse=[tmp_path / "none"])


def test_all_runs_are_computed_as_the_study_began(tmp_path: Path) -> None:
    study = make_study("sequential", seeds=(0,))
    (setting,) = study.settings
    setting = replace(setting, config=replace(setting.config, compute=ComputeConfig()))
    study = replace(study, settings=(setting,))
    assert setting.config.compute.precision == "auto"
    (begun,) = open_study(study, tmp_path).settings
    assert begun.config.compute.precision in ("float32", "bfloat16")
    path = tmp_path / "study.json"
    other = {"float32": "bfloat16", "bfloat16": "float32"}[begun.config.compute.precision]
    path.write_text(path.read_text().replace(f'"{begun.config.compute.precision}"', f'"{other}"'))  # of another machine
    (going_on,) = open_study(study, tmp_path).settings
    assert going_on.config == replace(begun.config, compute=replace(begun.config.compute, precision=other))


def test_only_one_process_works_on_a_study(tmp_path: Path) -> None:
    with sole_study(tmp_path), pytest.raises(RunError, match="in use by another process: wait until it ends"):
        run_here(make_study("sequential", dry=True), tmp_path)
    run_here(make_study("sequential", dry=True), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be made a study's directory"):
        run_here(make_study("sequential", dry=True), tmp_path / "file" / "study")


def test_a_run_that_was_killed_while_it_began_begins_anew(tmp_path: Path) -> None:
    study = make_study("sequential", seeds=(0,), dry=True)
    run_here(study, tmp_path / "whole")
    directory = tmp_path / "stopped/sequential/seed-0"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text('{"half')
    run_here(study, tmp_path / "stopped")
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_a_run_that_was_killed_after_its_summary_is_tidied(tmp_path: Path) -> None:
    study = make_study("sequential", seeds=(0,), dry=True)
    run_here(study, tmp_path)
    before, directory = contents(tmp_path), tmp_path / "sequential/seed-0"
    (directory / "wall_s").write_text("1.0\n")
    (directory / "replay").mkdir()
    (directory / "replay/frames.bin").write_bytes(b"frames")
    run_here(study, tmp_path)
    assert contents(tmp_path) == before


def test_the_longest_run_of_a_seed_is_first() -> None:
    study = make_study("sequential", "short", "asynchronous")
    short = replace(study.settings[1], config=replace(study.settings[1].config, minutes=0.01))
    study = replace(study, settings=(study.settings[0], short, study.settings[2]))
    order = [str(run) for run in longest_first(study.runs())]
    assert [order.index(f"short seed {seed}") for seed in (0, 1)] == [2, 5]
    assert all(name.endswith("0") for name in order[:3])


def test_the_time_left_follows_from_the_speeds_seen(tmp_path: Path) -> None:
    study = make_study("a", "b", seeds=(0, 1, 2), dry=True)
    runs = study.runs()
    for run, wall_s in zip(runs[:2], (10.0, 30.0), strict=True):
        train(run.config, tmp_path / run.directory)
        path = tmp_path / run.directory / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_s": wall_s}))
    watch = Watch(runs, tmp_path)
    assert watch.look(1).remaining_s == pytest.approx(2 * (10 + 30))
    assert watch.look(2).remaining_s == pytest.approx(50)  # 10, 10 and 30 on one core, 30 on the other
    assert watch.look(1).runs[0].speed == pytest.approx(8 * 0.4 / 10)


def test_the_speed_of_a_run_that_went_back_to_its_checkpoint_is_never_below_zero(tmp_path: Path) -> None:
    (run,) = make_study("a", seeds=(0,), dry=True).runs()
    path = tmp_path / run.directory / "episodes.csv"
    path.parent.mkdir(parents=True)
    watch = Watch([run], tmp_path)
    watch.started(run)
    speeds = []
    for episodes in (3, 2, 4):
        path.write_text("episode,steps,return\n" + "0,10,1.0\n" * episodes)
        speeds.append(watch.look(1).runs[0].speed)
    assert speeds[:2] == [None, None] and speeds[2] is not None and speeds[2] > 0.0


def test_processes_carry_out_runs_and_say_why_one_failed(tmp_path: Path) -> None:
    study = make_study("sequential", seeds=(0, 1), dry=True)
    broken = tmp_path / "out/sequential/seed-1"
    train(replace(study.settings[0].config, seed=1), broken)
    (broken / "summary.json").unlink()
    (broken / "checkpoint.pt").write_bytes(b"nothing")
    outcome = run_study(study, tmp_path / "out", 2)
    assert [str(run) for run in outcome.finished] == ["sequential seed 0"]
    (reason,) = outcome.failed.values()
    assert "checkpoint.pt is truncated or damaged: start a new run" in reason
    assert [path.name for path in tmp_path.rglob("*.log")] == ["seed-1.log"]
    run_here(study, tmp_path / "here")
    assert_same(tmp_path / "here/sequential/seed-0", tmp_path / "out/sequential/seed-0")


STUDY_TOML = "\n".join(
    ["seeds = 2", "[base]", *(f'"{name}" = {json.dumps(value)}' for name, value in (TINY | {"minutes": 0.5}).items())]
    + ["[axes]", 'schedule = ["sequential", "asynchronous"]']
)
GO = (
    "import sys; from pathlib import Path; from offbeat.studies.runner import run_study; "
    "from offbeat.studies.toml import load_study; "
    "sys.exit(len(run_study(load_study(sys.argv[1]), Path(sys.argv[2]), 2).failed))"
)


@pytest.mark.slow
def test_killed_five_times_a_study_writes_the_bytes_of_one_that_ran_through(tmp_path: Path) -> None:
    file, rng = tmp_path / "mine.toml", random.Random(7)
    file.write_text(STUDY_TOML)

    def go(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", GO, str(file), str(tmp_path / name)])

    began_s = time.monotonic()
    assert go("whole").wait(300) == 0
    whole_s, killed = time.monotonic() - began_s, 0
    for _ in range(5):
        process = go("stopped")
        time.sleep(rng.uniform(0.05, 0.2) * whole_s)
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert killed == 5
    assert go("stopped").wait(300) == 0
    assert_same(tmp_path / "whole", tmp_path / "stopped")
