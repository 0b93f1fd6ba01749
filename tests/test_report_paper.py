"""The paper's own records: read, summed up and reported as the study gives them, and refused when they are damaged."""

from __future__ import annotations

import csv
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from offbeat.cli import main
from offbeat.errors import RunError
from offbeat.report import write_report
from offbeat.report.figures import draw_stages
from offbeat.report.paper import SETTINGS, curve_points, paper_curve, read_paper
from offbeat.report.results import Summary, summarise
from offbeat.report.settings import terminal_lines
from offbeat.report.subject import read_subject
from offbeat.timing.profile import Stage

RECORDS = Path(__file__).parents[2] / "shared" / "paper" / "returns.csv"
recorded = pytest.mark.skipif(not RECORDS.is_file(), reason="the study's records are not beside this checkout")

EPISODES, SEEDS = 40, 3


def write_records(directory: Path, shuffled: bool = False) -> Path:
    """A returns.csv of four settings x 3 seeds x 40 episodes, with updates and stage times beside it."""
    rng = np.random.default_rng(0)
    rows = [
        [setting, seed, episode, 80, round(50 + 5 * episode * (number + 1) + rng.normal(0, 3), 2)]
        for number, setting in enumerate(SETTINGS)
        for seed in range(SEEDS)
        for episode in range(EPISODES)
    ]
    if shuffled:
        rng.shuffle(rows)
    write_csv(directory / "returns.csv", ["setting", "seed", "episode", "steps", "return"], rows)
    updates = [[s, 2, episode, 0, 10 * episode] for s in SETTINGS for episode in range(EPISODES)]
    write_csv(directory / "updates.csv", ["setting", "seed", "episode", "steps_total", "updates_total"], updates)
    stages = [
        ["sync_base", stage, percentile, ms, 900, 4.4]
        for stage in ("update_ms", "action_only_ms", "sample_ms", "agent_ms")
        for percentile, ms in ((50, 4.2), (99, 6.4))
    ]
    header = ["setting", "stage", "percentile", "ms", "n", "mean_ms"]
    write_csv(directory / "stage_time_quantiles.csv", header, stages)
    return directory / "returns.csv"


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def summaries() -> dict[str, Summary]:
    return {results.name: summarise(results) for results in read_paper(RECORDS).results}


@recorded
@pytest.mark.parametrize(
    ("setting", "final", "final_half", "whole", "whole_half", "updates", "time_s"),
    [
        ("async-base", 270.8, 20.9, 208.7, 12.8, 102_942, 678),
        ("async-highres", 201.0, 13.7, 154.7, 9.8, 43_949, 1320),
        ("sync-base", 167.7, 8.3, 128.8, 4.9, 54_932, 2274),
        ("sync-highres", 119.2, 10.8, 92.9, 7.2, 51_498, np.inf),
    ],
)
def test_the_studys_table_comes_out(
    summaries: dict[str, Summary],
    setting: str,
    final: float,
    final_half: float,
    whole: float,
    whole_half: float,
    updates: float,
    time_s: float,
) -> None:
    summary = summaries[setting]
    assert summary.runs == 25 and summary.episodes == 720
    assert summary.final.value == pytest.approx(final, abs=0.05)
    assert (summary.final.high - summary.final.low) / 2 == pytest.approx(final_half, rel=0.05)
    assert summary.whole.value == pytest.approx(whole, abs=0.05)
    assert (summary.whole.high - summary.whole.low) / 2 == pytest.approx(whole_half, rel=0.05)
    assert summary.updates.value == pytest.approx(updates, abs=0.5) and summary.updates.runs == 5
    assert summary.time_s.value == time_s


@recorded
def test_the_packages_summary_comes_from_its_command(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "make_paper_returns.py"
    spec = importlib.util.spec_from_file_location("make_paper_returns", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(RECORDS, tmp_path / "made.csv")
    assert (tmp_path / "made.csv").read_bytes() == module.OUT.read_bytes()


def test_paper_curve_ends_where_the_study_says() -> None:
    """The mean of async-base over its last 72 episodes is 270.8; 70 of them are seven whole points of the curve."""
    known = paper_curve("async-base")
    assert known is not None
    minutes, mean, low, high = known
    assert len(minutes) == 72 and minutes[-1] == 71.5
    assert np.mean(mean[-7:]) == pytest.approx(270.8, abs=2)
    assert ((low < mean) & (mean < high)).all()
    assert paper_curve("my robot") is None


@pytest.mark.parametrize("shuffled", [False, True])
def test_records_are_read_in_any_order(tmp_path: Path, shuffled: bool) -> None:
    records = read_paper(write_records(tmp_path, shuffled))
    assert [r.name for r in records.results] == ["async-base", "async-highres", "sync-base", "sync-highres"]
    base = records.results[0]
    assert base.returns.shape == (SEEDS, EPISODES) and base.seeds == (0, 1, 2)
    np.testing.assert_allclose(base.returns.mean(axis=0), 50 + 5 * np.arange(EPISODES), atol=8)
    assert base.steps.tolist() == [3200.0] * 3 and base.updates.tolist() == [390.0]
    assert base.training_s[-1] == 240.0 and base.schedule == "asynchronous"
    times = records.stages["sync-base"]
    assert list(times) == [Stage.ACT, Stage.SAMPLE, Stage.UPDATE]
    assert (times[Stage.SAMPLE].mean_ms, times[Stage.SAMPLE].p99_ms, times[Stage.SAMPLE].count) == (4.4, 6.4, 900)


def test_the_other_files_may_be_missing(tmp_path: Path) -> None:
    path = write_records(tmp_path)
    (tmp_path / "updates.csv").unlink()
    (tmp_path / "stage_time_quantiles.csv").unlink()
    records = read_paper(path)
    assert records.stages == {} and draw_stages(read_subject([path]).stages) is None
    summary = summarise(records.results[0])
    assert np.isnan(summary.updates.value) and summary.updates.runs == 0 and summary.final.runs == SEEDS


def test_a_point_of_the_summary_is_a_minute(tmp_path: Path) -> None:
    base = read_paper(write_records(tmp_path)).results[0]
    points = curve_points(base)
    assert [minutes for minutes, *_ in points] == [0.5, 1.5, 2.5, 3.5]
    assert points[0][1] == pytest.approx(base.returns[:, :10].mean())


def test_the_report_of_the_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "out" / "report.html"
    assert main(["report", str(write_records(tmp_path)), "--out", str(page.parent), "--threshold", "200"]) == 0
    lines = capsys.readouterr().out.splitlines()
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    for section in ("conclusion", "curves", "returns", "settings", "changes", "differences", "pairs", "improvement"):
        assert f'<section id="{section}">' in text, section
    assert '<section id="flow">' not in text and '<section id="table">' not in text
    assert "12 runs of 4 minutes on a Franka Panda" in text
    assert "sync-highres" in text.split("the order is")[1].split(",")[0]
    summary = {row["group"]: row for row in read_csv(page.parent / "summary.csv")}
    assert summary["async-base"]["runs"] == "3" and summary["async-base"]["updates"] == "390"
    # 50 + 5 e is 230 at the middle of the last tenth, and the mean of 20 episodes passes 200 at episode 40 at last.
    assert float(summary["async-base"]["final"]) == pytest.approx(237.5, abs=4)
    assert summary["async-base"]["time_s"] == "inf"
    assert float(summary["sync-highres"]["time_s"]) < float(summary["async-highres"]["time_s"])
    assert len(read_csv(page.parent / "improvement.csv")) == 12 and len(read_csv(page.parent / "differences.csv")) == 3
    assert len(lines) == 6 and "passes 200 (s)" in lines[0] and lines[5] == f"Wrote {page}."
    assert lines[1].startswith("async-base") and lines[1].endswith("never")


def test_the_terminal_table_is_aligned(tmp_path: Path) -> None:
    lines = terminal_lines([summarise(r) for r in read_paper(write_records(tmp_path)).results], 150.0)
    assert "passes 150 (s)" in lines[0]
    assert len({len(line) for line in lines}) == 1


def test_damaged_records_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere\.csv cannot be read"):
        write_report([tmp_path / "nowhere.csv"], tmp_path / "out")
    path = tmp_path / "returns.csv"
    whole = write_records(tmp_path).read_text().splitlines(keepends=True)
    for lines, message in (
        (["a,b\n", "1,2\n"], "has no column 'setting'"),
        (whole[:1], "holds no rows"),
        ([*whole, "sync_base,0,0,80\n"], "is damaged"),
        ([*whole, "sync_base,0,zero,80,1\n"], "is damaged"),
        ([*whole[:-1], "sync_highres,2,39,80,nan\n"], "is damaged"),
        ([*whole, "sync_base,0,0,80,1.0\n"], "does not hold every episode of every sync-base run once"),
        (whole[:-1], "does not hold every episode of every sync-highres run once"),
        ([*whole, "my_robot,0,0,80,1.0\n"], "holds a setting 'my_robot'"),
    ):
        path.write_text("".join(lines))
        with pytest.raises(RunError, match=message):
            write_report([path], tmp_path / "out")
    path.write_bytes(b"\xff\xfe\x00setting")
    with pytest.raises(RunError, match="is no CSV file"):
        write_report([path], tmp_path / "out")
    path.write_text("".join(whole))
    with pytest.raises(RunError, match="is reported on alone"):
        write_report([path, path], tmp_path / "out")


def test_the_command_answers_a_bad_file_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "returns.csv").write_text("a,b\n1,2\n")
    assert main(["report", str(tmp_path / "returns.csv"), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "has no column 'setting'" in captured.err
    assert not (tmp_path / "out").exists()
    assert main(["report", str(tmp_path), "--reference", "robot"]) == 2
