"""Reports on study directories: what is read, compared, concluded and drawn, and what is said of what is missing."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_runs import write_run, write_study

from offbeat.config import make_config
from offbeat.errors import RunError
from offbeat.report import write_report
from offbeat.report.conclude import Conclusion, conclude
from offbeat.report.figures import draw_curves, to_png
from offbeat.report.figures.style import PNG_BYTES
from offbeat.report.read import Group, read_run
from offbeat.report.results import (
    Results,
    compare_settings,
    group_results,
    improvement_table,
    learning_curve,
    paper_setting,
    summarise,
)
from offbeat.report.study import read_study
from offbeat.report.subject import read_subject
from offbeat.report.texts import curves_text
from offbeat.report.write import representatives

SETTINGS = {
    "async-base": {"setting": "async-base", "preset": "paper", "gain": 250.0},
    "sync-base": {"setting": "sync-base", "preset": "paper", "gain": 150.0},
    "reactive": {"setting": "sync-base", "schedule": "reactive", "preset": "paper", "gain": 150.0},
}
COMPARE = [("async-base", "sync-base"), ("reactive", "sync-base")]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three settings x two seeds; reactive/seed-1 is unfinished and sync-base/seed-2 was never begun."""
    root = tmp_path_factory.mktemp("study")
    write_study(root, SETTINGS, seeds=(0, 1, 2), compare=COMPARE)
    (root / "reactive" / "seed-1" / "summary.json").unlink()
    shutil.rmtree(root / "sync-base" / "seed-2")
    return root


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def make_results(name: str, final: list[float], updates: float = 100.0, schedule: str = "sequential") -> Results:
    """Runs that return the same in each of their 20 episodes."""
    return Results(
        name=name,
        schedule=schedule,
        seeds=tuple(range(len(final))),
        returns=np.repeat(np.array(final)[:, None], 20, axis=1),
        training_s=np.arange(1, 21) * 6.0,
        steps=np.full(len(final), 1600.0),
        updates=np.full(len(final), updates),
        response_ms=(3.0, 4.0),
        reference=None,
    )


def conclude_on(results: list[Results], pairs: list[tuple[str, str]]) -> Conclusion:
    return conclude(results, [summarise(r) for r in results], compare_settings(results, pairs), 150.0)


HIGH, LOW = (
    make_results("high", [200.0, 210.0, 205.0, 195.0, 190.0]),
    make_results("low", [100.0, 104.0, 98.0, 99.0, 99.0]),
)
NEAR = make_results("near", [90.0, 120.0, 80.0, 105.0, 115.0], updates=50.0)


def test_a_study_is_read_as_its_settings(study: Path) -> None:
    record = read_study(study)
    assert [(group.label, len(group.runs)) for group in record.groups] == [
        ("async-base", 3),
        ("sync-base", 2),
        ("reactive", 2),
    ]
    assert (record.settings, record.planned) == (3, 9)
    assert record.unfinished == ("reactive/seed-1",) and record.missing == ("sync-base/seed-2",)
    assert record.compare == (("async-base", "sync-base"), ("reactive", "sync-base"))


def test_the_report_of_a_study(study: Path, tmp_path: Path) -> None:
    page = write_report([study], tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "<h1>Study: invented</h1>" in text and "Does it matter?" in text
    assert "3 settings, 7 of 9 runs finished." in text
    assert "Not finished yet, and left out: 1 (reactive/seed-1)." in text and "1 (sync-base/seed-2)." in text
    names = ("curves", "returns", "changes", "pairs", "improvement", "totals", "response", "flow", "stages")
    assert text.count("<svg") == len(names)
    for name in names:
        png = (tmp_path / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG") and len(png) <= PNG_BYTES
        assert "<svg" in (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    summary = {row["group"]: row for row in read_csv(tmp_path / "summary.csv")}
    assert [summary[name]["runs"] for name in SETTINGS] == ["3", "2", "2"]
    assert float(summary["async-base"]["final"]) == pytest.approx(300, abs=25)
    assert float(summary["async-base"]["response_p50_ms"]) < 5 < 50 < float(summary["sync-base"]["response_p99_ms"])
    main, other = read_csv(tmp_path / "differences.csv")
    assert (main["new"], main["old"], main["runs_new"], main["runs_old"]) == ("async-base", "sync-base", "3", "2")
    assert float(main["final"]) == pytest.approx(100, abs=35) and float(main["final_share"]) == pytest.approx(1)
    assert abs(float(other["final"])) < 35
    assert {row["group"] for row in read_csv(tmp_path / "table.csv")} == set(SETTINGS)
    assert len(read_csv(tmp_path / "curves.csv")) == 3 * 20


def test_the_papers_curves_can_be_left_out(study: Path) -> None:
    subject = read_subject([study])

    def shown(reference: bool) -> list[str]:
        (axes,) = draw_curves(subject.results, reference).axes
        return [line.get_label() for line in axes.get_lines()]

    ours = ["async-base (3 runs)", "sync-base (2 runs)", "reactive (2 runs)"]
    papers = ["real robot, async-base (paper, 25 runs)", "real robot, sync-base (paper, 25 runs)"]
    assert shown(False) == ours and shown(True) == ours + papers
    assert "a real robot" in curves_text(subject, True) and "a real robot" not in curves_text(subject, False)


def test_the_papers_curves_stand_behind_its_own_settings_alone() -> None:
    config = make_config("sync-base", scale="cpu", preset="paper", minutes=3.0, seed=4)
    assert paper_setting(config) == "sync-base"
    assert paper_setting(replace(config, schedule="reactive")) is None
    assert paper_setting(replace(config, sac=replace(config.sac, bootstrap_timeouts=True))) is None
    assert paper_setting(replace(config, env=replace(config.env, cycle_s=0.1))) is None
    assert paper_setting(replace(config, env=replace(config.env, fast_reset=True))) == "sync-base"


def test_what_is_told_apart_is_said_with_its_interval() -> None:
    found = conclude_on([HIGH, LOW], [("high", "low")])
    assert "the order is high at 200.0 (" in found.opening[0] and ") and low at 100.0 (" in found.opening[0]
    assert "Each can be told" in found.opening[1]
    (sentence,) = found.points[0]
    assert sentence.startswith("The main gap: high returns 100.0 (") and "5 runs each, 2.00 (" in sentence
    assert "passes 150 after 120 s in high, and never in low" in found.closing[0][0]


def test_what_is_not_told_apart_is_not_claimed() -> None:
    found = conclude_on([HIGH, LOW, NEAR], [("high", "low"), ("near", "low")])
    assert any("near cannot be told from low" in sentence for sentence in found.opening)
    sentence = found.points[1][0]
    assert sentence.startswith("near and low cannot be told apart at the end with 5 runs each: the difference is +2.0")
    assert "% of" not in sentence
    (main,) = conclude_on([LOW, NEAR], [("near", "low")]).points[0]
    assert main.endswith("so no share of this gap is given.")


def test_better_with_fewer_updates_is_pointed_out() -> None:
    lean = make_results("lean", [205.0, 200.0, 195.0], updates=60.0)
    (points,) = conclude_on([lean, LOW], [("lean", "low")]).points
    assert points[-1] == "It does so with 40 fewer gradient updates a run."
    alike = make_results("alike", [205.0, 200.0, 195.0], updates=99.5)
    (points,) = conclude_on([alike, LOW], [("alike", "low")]).points
    assert len(points) == 1


def test_a_loss_is_said_without_a_sign() -> None:
    (points,) = conclude_on([HIGH, LOW], [("low", "high")]).points
    assert "low returns 100.0 (9" in points[0] and "less than high" in points[0]


def test_few_runs_are_warned_of() -> None:
    single, few = make_results("single", [100.0]), make_results("few", [100.0, 120.0, 110.0])
    found = conclude_on([single, few], [("single", "few")])
    assert found.points == (("Of single against few nothing can be said with 1 and 3 runs.",),)
    cautions = " ".join(found.closing[-1])
    assert "single: one run, so no interval and no claim." in cautions and "With 3 runs a setting" in cautions


def test_comparisons_without_runs_are_left_out_and_the_main_gap_is_not_replaced() -> None:
    changes = compare_settings([HIGH, LOW], [("gone", "low"), ("high", "low")])
    assert [(change.new, change.main) for change in changes] == [("high", False)]
    assert np.isnan(changes[0].final_share.value)


def test_probabilities_of_all_pairs() -> None:
    table = improvement_table([HIGH, LOW, NEAR])
    assert len(table) == 6 and table["high", "low"].value == 1.0 and table["low", "high"].value == 0.0
    assert table["near", "low"].value + table["low", "near"].value == pytest.approx(1)


def test_bands_hold_their_curve(study: Path) -> None:
    results = group_results(read_study(study).groups[0])
    curve = learning_curve(results)
    assert curve.returns.shape == (3, 20) and ((curve.low <= curve.mean) & (curve.mean <= curve.high)).all()
    np.testing.assert_allclose(curve.minutes, np.arange(1, 21) * 0.1)


def test_fifteen_settings_have_a_panel_each() -> None:
    many = [make_results(f"setting-{i}", [100.0 + i, 120.0 + i, 90.0 + i], schedule="reactive") for i in range(15)]
    figure = draw_curves(many, reference=True)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == [r.name for r in many]
    assert len(to_png(figure)) <= PNG_BYTES


def test_histograms_are_shown_of_settings_that_differ_in_timing(study: Path) -> None:
    groups = read_study(study).groups
    twins = [replace(group, label=f"{group.label} {i}") for i in range(4) for group in groups]
    shown = representatives(twins, ["sync-base 2"], limit=6)
    assert [group.label for group in shown] == ["async-base 0", "reactive 0", "sync-base 2"]
    assert representatives(groups, [], limit=6) == list(groups)


def test_a_run_of_another_configuration_is_not_mixed_in(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "reactive" / "seed-0")
    write_run(tmp_path / "study" / "reactive" / "seed-0", setting="sync-base", schedule="reactive", minutes=0.5)
    with pytest.raises(RunError, match=r"another configuration than study\.json says"):
        read_study(tmp_path / "study")


def test_a_study_without_a_finished_run_is_one_sentence(tmp_path: Path) -> None:
    write_study(tmp_path, {"slow": {"setting": "sync-base", "minutes": 0.2, "finished": False}}, seeds=(0,))
    with pytest.raises(RunError, match=r"No run of the study in .* has finished yet"):
        write_report([tmp_path], tmp_path / "out")


def test_damaged_studies_are_one_sentence(study: Path, tmp_path: Path) -> None:
    plan = json.loads((study / "study.json").read_text())
    path = tmp_path / "study.json"
    for text, message in (
        ("{", "does not describe a study"),
        (json.dumps({"name": "x"}), "does not describe a study"),
        (json.dumps(plan | {"compare": [["gone", "reactive"]]}), "compares 'gone'"),
        (json.dumps(plan | {"settings": [{"name": "a", "config": {"minutes": 1}}]}), "cannot be used"),
    ):
        path.write_text(text)
        with pytest.raises(RunError, match=message):
            write_report([tmp_path], tmp_path / "out")
    with pytest.raises(RunError, match="is reported on alone"):
        write_report([study, study / "reactive" / "seed-0"], tmp_path / "out")


def test_runs_with_several_seeds_are_compared_as_well(study: Path, tmp_path: Path) -> None:
    runs = [study / name / f"seed-{seed}" for name in ("async-base", "sync-base") for seed in (0, 1)]
    page = write_report(runs, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert '<section id="conclusion">' in text and '<section id="returns">' in text
    assert '<section id="changes">' not in text and "class=cards" not in text
    rows = read_csv(tmp_path / "improvement.csv")
    assert {row["x"] for row in rows} == {"sequential, 75 ms", "asynchronous, 40 ms"}


def test_a_study_of_one_run_says_that_nothing_can_be_said(study: Path) -> None:
    run = read_run(study / "reactive" / "seed-0")
    summary = summarise(group_results(Group("reactive", (run,))))
    assert summary.runs == 1 and np.isnan(summary.final.low) and np.isnan(summary.learned.low)
    assert read_subject([study]).replicated


def test_a_report_never_lies_among_what_it_is_made_from(study: Path) -> None:
    before = sorted(path.name for path in study.iterdir())
    with pytest.raises(RunError, match="give another --out"):
        write_report([study], study)
    assert sorted(path.name for path in study.iterdir()) == before
