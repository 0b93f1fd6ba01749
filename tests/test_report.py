"""The report: its statistics against hand-computed numbers, its files, and what it says about bad input."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_runs import RESET_S, write_run

from offbeat.errors import RunError
from offbeat.report import write_report
from offbeat.report.cycles import flow_window, histogram_percent, response_edges, stage_summary, stage_times_ms
from offbeat.report.html import inline_svg
from offbeat.report.learner import summarise_learners
from offbeat.report.read import group_runs, read_run, read_runs
from offbeat.report.results import group_results, learning_curve
from offbeat.report.table import describe, table_rows, table_values
from offbeat.report.timing import TIMING_HEADINGS, timing_rows, timing_values
from offbeat.sac.losses import critic_loss
from offbeat.timing.profile import Stage


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sequential/, asynchronous/, a second seed of it in other/, and unfinished/ (reactive)."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "sequential", setting="sync-base")
    write_run(root / "asynchronous", setting="async-base")
    write_run(root / "other", setting="async-base", seed=1)
    write_run(root / "unfinished", setting="sync-base", schedule="reactive", finished=False)
    return root


def test_histogram_counts_every_cycle_once() -> None:
    share = histogram_percent(np.array([0.5, 1.5, 1.6, 99.0]), np.array([0.0, 1.0, 2.0, 3.0]))
    np.testing.assert_allclose(share, [25.0, 50.0, 25.0])


def test_runs_that_differ_in_seed_alone_are_one_group(runs: Path) -> None:
    groups = group_runs(read_runs([runs / "asynchronous", runs / "sequential", runs / "other"]))
    assert [(group.label, len(group.runs)) for group in groups] == [
        ("sequential, 75 ms", 1),
        ("asynchronous, 40 ms", 2),
    ]
    curve = learning_curve(group_results(groups[1]))
    assert curve.returns.shape == (2, 20)
    assert ((curve.low <= curve.mean) & (curve.mean <= curve.high)).all()
    np.testing.assert_allclose(curve.minutes, np.arange(1, 21) * 0.1)


def test_labels_say_what_differs(tmp_path: Path) -> None:
    write_run(tmp_path / "low", setting="async-base", minutes=0.5)
    write_run(tmp_path / "high", setting="async-highres", minutes=0.5)
    write_run(tmp_path / "capped", setting="async-base", minutes=0.5, max_updates_per_step=2.0)
    groups = group_runs(read_runs([tmp_path / "low", tmp_path / "high", tmp_path / "capped"]))
    assert {group.label for group in groups} == {
        "asynchronous, 40 ms, 64x36, cap 1",
        "asynchronous, 40 ms, 64x36, cap 2",
        "asynchronous, 40 ms, 128x72",
    }


def test_a_directory_given_twice_counts_once(runs: Path) -> None:
    assert len(read_runs([runs / "other", runs / "sequential" / ".." / "other"])) == 1


def test_flow_window_shows_what_stood_between_seeing_and_acting(runs: Path) -> None:
    sequential, asynchronous = (flow_window(read_run(runs / name)) for name in ("sequential", "asynchronous"))
    assert sequential is not None and asynchronous is not None
    assert {lane for lane, *_ in sequential.blocks} == {0}
    assert {(lane, stage) for lane, stage, *_ in asynchronous.blocks if lane} == {(1, Stage.SAMPLE), (2, Stage.UPDATE)}
    assert sequential.answers[0][0] == 0.0
    for observed, sent in sequential.answers:
        between = [b for b in sequential.blocks if b[2] >= observed - 1e-6 and b[3] <= sent + 1e-6]
        assert Stage.UPDATE in {stage for _, stage, *_ in between} or sent > sequential.length_ms
    assert all(sent - observed < 5 for observed, sent in asynchronous.answers)
    assert np.diff([observed for observed, _ in sequential.answers]) == pytest.approx(75.0)


def test_stage_times_are_those_recorded(runs: Path) -> None:
    (group,) = group_runs(read_runs([runs / "sequential"]))
    times = stage_times_ms(group)
    assert list(times) == list(Stage)
    assert times[Stage.UPDATE].min() >= 45.0 and times[Stage.UPDATE].max() <= 60.0
    assert stage_summary(group)[Stage.UPDATE].mean_ms == pytest.approx(float(times[Stage.UPDATE].mean()))


def test_table_holds_the_summary(runs: Path) -> None:
    run = read_run(runs / "sequential")
    values = table_values(run)
    assert values["steps"] == 20 * 80 and values["cycle_ms"] == 75.0
    assert values["ratio"] == pytest.approx(run.summary["return_last20"] / run.summary["return_first20"])
    assert values["robot_s"] == pytest.approx(20 * (6.0 + RESET_S))
    (row,) = table_rows(group_runs([run]))
    assert row["steps"] == "1,600" and row["wall_s"] == "12"


def test_an_unfinished_run_is_reported_from_its_records(runs: Path, tmp_path: Path) -> None:
    run = read_run(runs / "unfinished")
    assert not run.finished and run.summary["steps"] == 20 * 80
    assert run.summary["return_mean"] == pytest.approx(float(np.mean(run.episodes["return"])))
    assert "Not finished yet: 1" in " ".join(describe(group_runs([run])))
    for name in ("pairs.svg", "differences.csv", "mine.txt"):
        (tmp_path / name).write_text("left by an earlier report, but for the last")
    assert write_report([runs / "unfinished"], tmp_path).is_file()
    left = {path.name for path in tmp_path.iterdir()}
    assert "mine.txt" in left and not left & {"pairs.svg", "differences.csv"}


def test_report_is_one_page_that_needs_nothing_else(runs: Path, tmp_path: Path) -> None:
    (runs / "other" / "film.webm").write_bytes(b"not really a film")
    page = write_report([runs / "sequential", runs / "asynchronous", runs / "other"], tmp_path / "out")
    assert page == tmp_path / "out" / "report.html"
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    assert "@import" not in text and "url(" not in text.replace("url(#", "")
    assert text.count("<svg") == 7 and 'src="data:video/webm;base64,' in text
    assert "var(--sequential)" in text and "#d55e00" not in text.split("</style>")[1]
    assert "1,600" in text and "sequential, 75 ms" in text
    for name in ("curves", "returns", "improvement", "totals", "response", "flow", "stages"):
        assert (page.parent / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (page.parent / f"{name}.svg").read_text(encoding="utf-8")
    with (page.parent / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40 and {row["runs"] for row in rows} == {"1", "2"}
    assert rows[0]["low95"] == "" and rows[-1]["low95"] != ""
    with (page.parent / "response.csv").open(newline="") as file:
        percent = [float(row["percent"]) for row in csv.DictReader(file) if row["group"] == "sequential, 75 ms"]
    assert sum(percent) == pytest.approx(100, abs=0.01)


def test_a_run_on_the_wall_clock_shows_how_it_kept_its_deadlines(runs: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "wall", setting="async-base", clock="wall")
    page = write_report([tmp_path / "wall", runs / "sequential"], tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 6 and "How late each cycle ended" in text
    with (page.parent / "lateness.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["group"] == "asynchronous, 40 ms"]
    assert sum(float(row["percent"]) for row in rows) == pytest.approx(100, abs=0.01)
    assert 0.005 < np.average([float(r["from_ms"]) for r in rows], weights=[float(r["percent"]) for r in rows]) < 0.02


def test_the_timing_table_says_where_the_time_went(runs: Path) -> None:
    run = read_run(runs / "asynchronous")
    values = timing_values(run)
    assert set(values) == set(TIMING_HEADINGS)
    assert values["missed_deadlines"] == 0 and values["causes"] is None
    assert values["update_mean_ms"] == pytest.approx(52.5, abs=1.0)  # 50 ms and up to a fifth more
    # Learned in half of the episodes, in every second cycle, and 4 of 10 s are resets.
    assert values["update_percent"] == pytest.approx(100 * 52.5 / 80 * 0.5 * 0.6, abs=1.0)
    assert values["batch_wait_ms"] == pytest.approx(0.0, abs=1e-6)  # the invented updater takes each at once
    assert values["sample_age_ms"] == pytest.approx(4.6, abs=0.3)
    (row,) = timing_rows(group_runs([run]))
    assert row["causes"] == "–" and row["lateness_p99_ms"] == "0.000"  # noqa: RUF001


def test_learners_say_how_wrong_they_are(runs: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "dry", setting="async-base", minutes=0.5, dry=True)  # ends before its first update
    groups = group_runs(read_runs([runs / "asynchronous", runs / "other", tmp_path / "dry"]))
    wrong = torch.full((2, 5), 3.0)
    assert critic_loss(wrong, torch.zeros(5)).sqrt() == pytest.approx(3.0)  # so the error is the root of the loss
    losses = np.linspace(3.0, 5.0, 20) ** 2
    other = replace(groups[0].runs[1], episodes={**groups[0].runs[1].episodes, "critic_loss": losses})
    (learner,) = summarise_learners([replace(groups[0], runs=(groups[0].runs[0], other)), groups[1]])
    error = np.sqrt(losses[-2:].mean())
    assert learner.runs == 2 and learner.value.value == 2.0 and learner.entropy.value == 3.0
    assert learner.error.value == pytest.approx((1.0 + error) / 2)
    assert learner.share.value == pytest.approx((1.0 + error) / 4) and learner.share.low == pytest.approx(0.5)
    page = write_report([runs / "asynchronous", tmp_path / "dry"], tmp_path / "out")
    assert "What the learners expect" in page.read_text(encoding="utf-8")
    with (page.parent / "learners.csv").open(newline="") as file:
        assert [(row["group"], row["error"]) for row in csv.DictReader(file)] == [(groups[0].label, "1")]


def test_causes_of_missed_deadlines_stand_in_order(runs: Path) -> None:
    run = read_run(runs / "asynchronous")
    missed = {"missed_deadlines": 1203, "missed_by_cause": {"act": 3, "camera": 0, "scheduler": 1200}}
    assert timing_values(replace(run, summary={**run.summary, **missed}))["causes"] == "scheduler 1,200, act 3"


def test_the_same_runs_give_the_same_bytes(runs: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report([runs / "sequential"], tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.fixture(scope="module")
def dry_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a dry run without a recorded stage, whose profile has an odd name."""
    root = tmp_path_factory.mktemp("dry")
    write_run(root / "run", setting="sync-base", minutes=0.5, dry=True, profile="<script>x</script>")
    (root / "run" / "stages.bin").write_bytes(b"")
    return write_report([root / "run"], root / "out").read_text(encoding="utf-8")


def test_text_from_a_run_cannot_become_markup(dry_page: str) -> None:
    assert "<script>" not in dry_page and "&lt;script&gt;x" in dry_page


def test_a_dry_run_without_updates_or_returns_is_drawn(dry_page: str) -> None:
    assert dry_page.count("<svg") == 3 and "What the learners expect" not in dry_page


def test_edges_hold_the_slowest_response(runs: Path) -> None:
    groups = group_runs(read_runs([runs / "sequential"]))
    assert response_edges(groups)[-1] >= 1e3 * np.percentile(groups[0].runs[0].cycles["response_s"], 99.9)


def test_inline_svg_takes_the_pages_colours() -> None:
    path = '<path style="fill: #ffffff; stroke: #d55e00"/>'
    svg = f'<?xml version="1.0"?><svg width="10pt" height="5pt" viewBox="0 0 10 5">{path}</svg>'
    drawing = inline_svg(svg, {"#d55e00": "--sequential"}, 'a "label"')
    assert drawing.startswith('<svg viewBox="0 0 10 5" role="img" aria-label="a &quot;label&quot;">')
    assert "stroke: var(--sequential)" in drawing and "#ffffff" not in drawing


def test_bad_directories_are_one_sentence(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no directory .*nowhere: give that of a run, a study or an archive"):
        read_run(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"config\.json is missing"):
        read_run(tmp_path / "empty")
    with pytest.raises(RunError, match="No run directory was given"):
        write_report([], tmp_path / "out")
    config = write_run(tmp_path / "damaged", setting="sync-base", minutes=0.5)
    (tmp_path / "damaged" / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json cannot be read"):
        read_run(tmp_path / "damaged")
    (tmp_path / "damaged" / "config.json").write_text(json.dumps(config.to_dict() | {"minutes": -1}))
    with pytest.raises(RunError, match="minutes is -1"):
        read_run(tmp_path / "damaged")
    (tmp_path / "damaged" / "config.json").write_text(json.dumps(config.to_dict()))
    (tmp_path / "damaged" / "stages.bin").write_bytes(b"\xff" * 17)
    with pytest.raises(RunError, match=r"stages\.bin is damaged"):
        read_run(tmp_path / "damaged")
    (tmp_path / "damaged" / "cycles.bin").unlink()
    with pytest.raises(RunError, match=r"cycles\.bin"):
        read_run(tmp_path / "damaged")


def test_an_output_that_is_a_file_is_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(RunError, match="give another --out"):
        write_report([runs / "sequential"], tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_report_loads_nothing_that_trains(runs: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from offbeat.report import write_report; "
        "assert 'matplotlib' not in sys.modules, 'matplotlib is loaded before a figure is drawn'; "
        f"write_report([{str(runs / 'sequential')!r}], {str(tmp_path)!r}); "
        "print([m for m in ('torch', 'mujoco', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
