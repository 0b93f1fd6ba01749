"""Tuning the cycle time: what a schedule can hold, which candidates go on, and going on to the same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from fake_studies import Here, assert_same, tiny

from offbeat.config import RunConfig
from offbeat.directory import read_config
from offbeat.errors import ConfigError, RunError
from offbeat.studies.hold import find_hold, missed_share
from offbeat.studies.plan import Study
from offbeat.studies.runner import Outcome, run_study
from offbeat.studies.tune import Candidate, Rung, Tuning, halve, plan_rungs, run_tuning

CONSTANT = "constant:act=3,store=0,sample=4,update=50"  # 57 ms within a loop, 3 ms beside it
BASE = tiny(profile=CONSTANT, env__episode_s=6.0, replay_s=12.0, minutes=1.0)


@pytest.mark.parametrize(
    ("schedule", "shortest_ms", "too_short_ms"),
    [("sequential", 57, 56), ("reactive", 57, 56), ("asynchronous", 34, 33)],
)
def test_the_shortest_cycle_is_that_of_the_work_or_of_the_camera(
    schedule: str, shortest_ms: int, too_short_ms: int
) -> None:
    hold = find_hold(BASE, schedule, longest_ms=200)  # type: ignore[arg-type]
    assert (hold.schedule, hold.missed_share, hold.refused_s) == (schedule, 0.0, ())
    assert hold.cycles_s[0] * 1e3 == pytest.approx(shortest_ms)
    assert hold.cycles_s[-1] * 1e3 == pytest.approx(200)
    assert hold.too_short_s * 1e3 == pytest.approx(too_short_ms)
    assert len(hold.cycles_s) == 8
    ratios = [longer / shorter for shorter, longer in zip(hold.cycles_s, hold.cycles_s[1:], strict=False)]
    assert max(ratios) / min(ratios) < 1.05  # of whole milliseconds


def test_one_deadline_in_a_hundred_may_be_missed(tmp_path: Path) -> None:
    # A cycle's work takes 57 to 77 ms, evenly: at 76 ms a twentieth and more of the deadlines are missed.
    constants = {name: {"constant_s": seconds} for name, seconds in (("act", 0.003), ("store", 0.0), ("sample", 0.004))}
    stages = constants | {"update": {"shares": [0, 1], "seconds": [0.05, 0.07]}}
    (tmp_path / "profile.json").write_text(json.dumps({"stages": stages}))
    base = replace(BASE, profile=str(tmp_path / "profile.json"))
    hold = find_hold(base, "reactive", longest_ms=100)
    assert (hold.cycles_s[0], hold.missed_share) == (0.077, 0.0)
    assert 0.04 < missed_share(base, "reactive", 0.076) < 0.08


def test_a_user_may_ask_for_cycles_that_are_shorter_than_the_camera_s() -> None:
    assert find_hold(BASE, "asynchronous", 200, asked_ms=(80, 25, 40)).cycles_s == (0.025, 0.04, 0.08)
    hold = find_hold(BASE, "sequential", 200, asked_ms=(80, 25, 40))
    assert (hold.cycles_s, hold.refused_s, hold.too_short_s) == ((0.08,), (0.025, 0.04), 0.04)
    hold = find_hold(BASE, "sequential", 200, asked_ms=(25, 40))
    assert (hold.cycles_s, hold.refused_s) == ((), (0.025, 0.04))
    assert hold.missed_share > 0.9
    with pytest.raises(ConfigError, match=r"^longest_ms is 20, shorter than the camera's period of 34 ms: give .*\.$"):
        find_hold(BASE, "sequential", 20)


def candidates(**cycles_ms: tuple[int, ...]) -> tuple[Candidate, ...]:
    return tuple(Candidate(name, ms / 1e3) for name, each in cycles_ms.items() for ms in each)  # type: ignore[arg-type]


def halved(scores: tuple[float, ...], **cycles_ms: tuple[int, ...]) -> list[str]:
    return [str(c) for c in halve(dict(zip(candidates(**cycles_ms), scores, strict=True)))]


def test_the_better_half_goes_on_and_of_each_schedule_its_best() -> None:
    kept = halved((1, 3, 2, 9, 8, 7), sequential=(60, 80, 100), asynchronous=(40, 80, 160))
    assert kept == ["sequential-80ms", "asynchronous-40ms", "asynchronous-80ms"]
    kept = halved((5, 4, 3, 2, 1), sequential=(60, 80), reactive=(60, 80), asynchronous=(40,))
    assert kept == ["sequential-60ms", "reactive-60ms", "asynchronous-40ms"]
    assert halved((0, 0, 0), sequential=(60, 80, 100)) == ["sequential-60ms", "sequential-80ms"]  # equals


def test_rungs_share_out_the_time_after_warm_up() -> None:
    base = replace(BASE, minutes=12.0, warmup_s=120.0, env=replace(BASE.env, episode_s=6.0))
    many = Tuning(base, candidates(sequential=(60, 80, 100, 120), asynchronous=(40, 60, 80, 120)), (0, 1, 2))
    assert [(step.number, step.minutes, step.candidates) for step in plan_rungs(many)] == [
        (1, 4.5, 8), (2, 7.0, 4), (3, 12.0, 2),
    ]  # fmt: skip
    one_each = Tuning(base, candidates(sequential=(60,), asynchronous=(40,)), (0,))
    assert [(step.number, step.minutes) for step in plan_rungs(one_each)] == [(1, 12.0)]
    with pytest.raises(ConfigError, match=r"^minutes is 2, and nothing is learned in the first 2 of them .*\.$"):
        plan_rungs(Tuning(replace(base, minutes=2.0), one_each.candidates, (0,)))


class Killed(Exception):
    """The tuning's process died."""


def tune(
    out: Path, base: RunConfig, left: int = 99, breaks: Mapping[str, str] | None = None, seeds: int = 2
) -> tuple[Rung, ...]:
    """Tune two schedules with dry runs; the shorter the cycle the better. left: runs before the process dies."""

    class Dying(Here):
        def start(self, run: object) -> None:
            nonlocal left
            if not left:
                raise Killed
            left -= 1
            super().start(run)  # type: ignore[arg-type]

    def carry_out(study: Study, directory: Path) -> Outcome:
        return run_study(study, directory, 1, workplace=lambda: Dying(directory, breaks))

    tuning = Tuning(base, candidates(sequential=(80, 100, 200), asynchronous=(40, 80)), tuple(range(seeds)))
    return run_tuning(tuning, out, carry_out, lambda path: -read_config(path).env.cycle_s)


DRY = tiny(dry=True, minutes=10 * 0.4 / 60, warmup_s=0.8, profile=CONSTANT)


def test_a_tuning_goes_on_from_any_moment_to_the_same_bytes(tmp_path: Path) -> None:
    rungs = tune(tmp_path / "once", DRY)
    assert [[str(c) for c in rung.runs] for rung in rungs] == [
        ["sequential-80ms", "sequential-100ms", "sequential-200ms", "asynchronous-40ms", "asynchronous-80ms"],
        ["sequential-80ms", "asynchronous-40ms", "asynchronous-80ms"],
        ["sequential-80ms", "asynchronous-40ms"],
    ]
    for rung in rungs:
        for paths in rung.runs.values():
            assert [read_config(path).seed for path in paths] == [0, 1]
            assert {read_config(path).minutes for path in paths} == {rung.minutes}
    assert rungs[-1].minutes == DRY.minutes
    for left in (0, 7, 6, 5):  # of the twenty runs
        with pytest.raises(Killed):
            tune(tmp_path / "killed", DRY, left)
    assert tune(tmp_path / "killed", DRY)[-1].runs.keys() == rungs[-1].runs.keys()
    assert_same(tmp_path / "once", tmp_path / "killed")


def test_another_tuning_is_refused_and_a_failed_run_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^1 of the runs in .*rung-1 failed, asynchronous-40ms seed 1 because of this: "
                       r"the disk is full; the same command tries again\.$"):  # fmt: skip
        tune(tmp_path, DRY, breaks={"asynchronous-40ms seed 1": "the disk is full."})
    with pytest.raises(
        RunError, match=r"holds a tuning with warmup_s 0\.8, not 0\.4 as now: change it back or give .*\.$"
    ):
        tune(tmp_path, replace(DRY, warmup_s=0.4))
    with pytest.raises(RunError, match=r"holds a tuning with seeds \[0, 1\], not \[0\] as now: .*\.$"):
        tune(tmp_path, DRY, seeds=1)
    shutil.copy(tmp_path / "rung-1/study.json", tmp_path / "tuning.json")
    with pytest.raises(RunError, match=r"tuning.json does not describe a tuning .*\.$"):
        tune(tmp_path, DRY)
