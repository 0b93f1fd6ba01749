"""An archive keeps the numbers of runs: what comes out is what went in, and nothing is mixed in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_studies import contents, make_study, run_here

from offbeat.cli import main
from offbeat.config import ComputeConfig
from offbeat.errors import RunError
from offbeat.report import write_report
from offbeat.studies.archive import find_archives, read_archive, unpack
from offbeat.studies.plan import Study
from offbeat.studies.watch import Event, State

KEPT = ("config.json", "profile.json", "episodes.csv", "summary.json")


def test_an_archived_run_is_not_run_again_and_comes_out_as_it_went_in(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    run_here(make_study("sequential", seeds=(0,)), tmp_path / "first", archive=archive)
    first = {path.name: path.read_bytes() for path in archive.iterdir()}
    assert sorted(first) == ["episodes.csv", "runs.jsonl", "study.json"]

    events: list[Event] = []
    study = make_study("asynchronous", "sequential")
    _, started = run_here(study, tmp_path / "second", archive=archive, show=events.append)
    assert started == ["asynchronous seed 0", "asynchronous seed 1", "sequential seed 1"]
    assert [str(s.run) for s in events[-1].runs if s.state is State.COPIED] == ["sequential seed 0"]
    before, after = contents(tmp_path / "first"), contents(tmp_path / "second")
    for name in KEPT:
        name = f"sequential/seed-0/{name}"
        assert after[name] == before[name]
    assert after["sequential/seed-0/cycles.bin"] == b""

    runs = read_archive(archive).runs
    names = [(run.setting, run.config.seed) for run in runs]
    assert names == [("asynchronous", 0), ("asynchronous", 1), ("sequential", 0), ("sequential", 1)]
    assert {len(run.episodes) for run in runs} == {8}
    assert runs[2].summary["machine"] and runs[2].summary["return_last20"] > 0.0
    # Another study finds its runs there as well, under whatever name.
    _, started = run_here(make_study("alike", seeds=(0, 1, 2)), tmp_path / "third", reuse=[tmp_path])
    assert find_archives(tmp_path) == [archive] and started == ["alike seed 2"]


def test_a_report_says_the_same_of_archived_runs(tmp_path: Path) -> None:
    study = make_study("sequential", "asynchronous")
    run_here(study, tmp_path / "first", archive=tmp_path / "archive")
    assert run_here(study, tmp_path / "second", archive=tmp_path / "archive")[1] == []
    for name in ("first", "second"):
        write_report([tmp_path / name], tmp_path / "reports" / name)
    whole, archived = (tmp_path / "reports" / name for name in ("first", "second"))
    for name in ("summary.csv", "curves.csv", "table.csv", "timing.csv", "updates.csv", "learners.csv"):
        assert (archived / name).read_bytes() == (whole / name).read_bytes()
    assert (whole / "flow.svg").exists() and not (archived / "flow.svg").exists()
    # So does the command line, of the archive alone.
    before, direct = contents(tmp_path / "archive"), tmp_path / "reports" / "direct"
    assert main(["report", str(tmp_path / "archive"), "--out", str(direct)]) == 0
    assert contents(direct) == contents(archived) and contents(tmp_path / "archive") == before
    (tmp_path / "archive" / "runs.jsonl").write_text("")
    with pytest.raises(RunError, match=r"The archive in .*archive holds no run: restore it"):
        unpack(tmp_path / "archive", tmp_path / "reports")


def test_what_finished_is_kept_when_a_study_is_stopped(tmp_path: Path) -> None:
    def stop_after_one(event: Event) -> None:
        if sum(status.state is State.FINISHED for status in event.runs) == 1:
            raise KeyboardInterrupt

    study = make_study("sequential", dry=True)
    with pytest.raises(KeyboardInterrupt):
        run_here(study, tmp_path / "first", archive=tmp_path / "archive", show=stop_after_one)
    assert [run.config.seed for run in read_archive(tmp_path / "archive").runs] == [0]


def test_runs_are_computed_as_those_of_the_archive_were(tmp_path: Path) -> None:
    def computed(precision: Any) -> Study:
        study = make_study("sequential", seeds=(0,))
        (setting,) = study.settings
        compute = ComputeConfig(device="cpu", precision=precision)
        return replace(study, settings=(replace(setting, config=replace(setting.config, compute=compute)),))

    run_here(computed("bfloat16"), tmp_path / "first", archive=tmp_path / "archive")
    # Also those of a setting that has no run yet: the settings of a study are compared.
    both = replace(computed("bfloat16"), settings=(*computed("bfloat16").settings, *make_study("other").settings))
    run_here(both, tmp_path / "both", {"other seed 0": "the disk is full"}, archive=tmp_path / "archive")
    assert list(read_archive(tmp_path / "archive").settings) == ["sequential", "other"]
    shutil.rmtree(tmp_path / "archive")
    run_here(computed("bfloat16"), tmp_path / "first", archive=tmp_path / "archive")
    assert run_here(computed("auto"), tmp_path / "second", archive=tmp_path / "archive")[1] == []
    with pytest.raises(RunError, match=r"compute.precision 'bfloat16', not 'float32' as now: .* another --archive"):
        run_here(computed("float32"), tmp_path / "third", archive=tmp_path / "archive")


def test_a_directory_that_is_no_archive_is_one_sentence(tmp_path: Path) -> None:
    study = make_study("sequential", dry=True)
    run_here(study, tmp_path / "first")
    (tmp_path / "file").touch()
    before = contents(tmp_path)
    for name in ("first", "file"):
        with pytest.raises(RunError, match="holds no archive: give an empty or a new directory as --archive"):
            run_here(study, tmp_path / "second", archive=tmp_path / name)
    with pytest.raises(RunError, match="is the study's own directory: give another --archive"):
        run_here(study, tmp_path / "third", archive=tmp_path / "third")
    assert contents(tmp_path) == before
    run_here(study, tmp_path / "first", archive=tmp_path / "archive")
    with pytest.raises(RunError, match=r"is a study's archive: `offbeat report .*archive --out DIR` reports on it"):
        write_report([tmp_path / "archive"], tmp_path / "report")


def damage_seed(archive: Path) -> None:
    path = archive / "episodes.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def damage_columns(archive: Path) -> None:
    path = archive / "episodes.csv"
    path.write_text(path.read_text().replace("return", "reward", 1))


def lose_settings(archive: Path) -> None:
    (archive / "study.json").unlink()


def change_profile(archive: Path) -> None:
    path = archive / "study.json"
    data = json.loads(path.read_text())
    data["settings"][0]["profile"]["stages"]["update"] = {"constant_s": 0.5}
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        (damage_seed, ["sequential"], r"is damaged \(sequential seed 1 has 7 of 8 episodes\): restore it"),
        (damage_columns, ["sequential"], "episodes.csv has other columns than setting, seed, episode"),
        (lose_settings, ["sequential"], r"study.json cannot be read \(No such file or directory\): restore"),
        (change_profile, ["sequential"], "another timing profile .* than that is now: give another --archive"),
        (lambda archive: None, ["reactive"], "the setting 'sequential', which the study has no more: .* --archive"),
    ],
    ids=["an episode less", "other columns", "no settings", "another profile", "another study"],
)
def test_a_damaged_or_another_archive_is_refused_before_anything_runs(
    tmp_path: Path, change: Any, names: list[str], message: str
) -> None:
    run_here(make_study("sequential", dry=True), tmp_path / "first", archive=tmp_path / "archive")
    change(tmp_path / "archive")
    before = contents(tmp_path)
    with pytest.raises(RunError, match=message) as caught:
        run_here(make_study(*names, dry=True), tmp_path / "second", archive=tmp_path / "archive")
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before
