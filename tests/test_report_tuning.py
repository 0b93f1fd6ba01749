"""What a tuning's report says: the best cycle, what cannot be told from it, and the files."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fake_runs import write_run

from offbeat.config import EnvConfig
from offbeat.report.read import read_run
from offbeat.report.tuning import CycleResult, Held, conclude_tuning, final_return, find_best, make_result
from offbeat.report.tuning_page import write_tuning

HELD = [
    Held("sequential", 0.073, 0.009, 0.072),
    Held("reactive", None, 0.875, 0.2),
    Held("asynchronous", 0.034, 0.0, 0.033),
]


def result(schedule: str, cycle_ms: float, returns: Sequence[float], rung: int = 2, missed: float = 0.0) -> CycleResult:
    return CycleResult(schedule, cycle_ms / 1e3, rung, 6.0 * rung, tuple(returns), missed)


RESULTS = [
    result("sequential", 73, (90, 100, 110), rung=1, missed=0.02),
    result("sequential", 150, (20, 30, 40), rung=1),
    result("asynchronous", 34, (50, 60, 70), rung=1),
    result("asynchronous", 60, (150, 155, 160), rung=1),
    result("asynchronous", 100, (140, 150, 160), rung=1),
    result("sequential", 73, (100, 110, 120)),
    result("asynchronous", 60, (190, 200, 210)),
    result("asynchronous", 100, (185, 198, 211)),
]


def test_a_return_is_for_an_episode_of_the_length_that_was_asked_for(tmp_path: Path) -> None:
    # 86 cycles of 70 ms are 6.02 s, and a return is paid by the second.
    config = write_run(tmp_path / "run", env=EnvConfig(cycle_s=0.07, height=36, width=64))
    run = read_run(tmp_path / "run")
    returns = run.episodes["return"]
    assert (config.env.episode_steps, len(returns)) == (86, 20)
    assert final_return(run) == pytest.approx(returns[-2:].mean() * 6.0 / 6.02)
    episodes = dict(run.episodes) | {"missed": run.episodes["missed"] * 0 + 43}
    made = make_result(1, 2.0, [replace(run, episodes=episodes), run])
    assert (made.schedule, made.cycle_ms, made.returns) == ("asynchronous", 70.0, (final_return(run),) * 2)
    assert made.missed_share == pytest.approx(0.25)


def test_the_best_is_the_highest_mean_and_alike_is_what_cannot_be_told_from_it() -> None:
    found = find_best(RESULTS[5:])
    assert found.best is RESULTS[6] and found.alike == (RESULTS[7],)
    assert found.longest is RESULTS[7] and found.told
    alone = find_best([result("reactive", 80, (1,)), result("reactive", 100, (2,))])
    assert alone.best.cycle_ms == 100 and len(alone.alike) == 1 and not alone.told


def test_the_conclusion_names_best_alike_and_every_schedule() -> None:
    said = conclude_tuning(RESULTS, HELD)
    assert said[0].startswith(
        "Best action cycle: 60 ms, asynchronous (--schedule asynchronous --env.cycle-s 0.06). It returns 200.0 ("
    )
    assert said[0].endswith("at the end of 12 minutes, with 3 runs. It cannot be told from asynchronous at 100 ms.")
    assert "asynchronous at 100 ms, which returns 198.0 (" in said[1] and "the longest of these" in said[1]
    assert said[2].startswith(
        "sequential holds 73 ms (0.9% of deadlines missed); its best cycle is 73 ms, with 110.0 ("
    )
    assert said[3] == "reactive holds none of the cycles: it misses 87.5% of its deadlines."
    assert said[4].endswith("It cannot be told from 100 ms.")
    assert "two cycles that are alike are told apart 10 times in a hundred" in said[5]
    assert "judged by shorter runs" in said[5] and "longest that was tried" not in said[5]


def test_of_single_runs_nothing_is_told() -> None:
    said = conclude_tuning([result("reactive", 80, (1,), 1), result("reactive", 100, (2,), 1)], [HELD[1]])
    assert said[0].endswith(" With one run a cycle nothing can be told apart: give more --seeds.")
    assert not any("time to spare" in line for line in said)
    assert "The best is the longest that was tried" in said[-1]
    one = conclude_tuning([result("asynchronous", 80, (1, 2), 1)], HELD[2:])
    assert one[1] == "asynchronous holds 34 ms (0.0% of deadlines missed)."


def test_numbers_figure_and_page_are_written(tmp_path: Path) -> None:
    lines = write_tuning(RESULTS, HELD, tmp_path, 0.01)
    with (tmp_path / "tuning.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(RESULTS)
    assert rows[6] | {"low95": "", "high95": ""} == {
        "schedule": "asynchronous", "cycle_ms": "60", "rung": "2", "minutes": "12", "seeds": "3", "mean": "200",
        "low95": "", "high95": "", "missed_share": "0",
    }  # fmt: skip
    assert 190 <= float(rows[6]["low95"]) < 200 < float(rows[6]["high95"]) <= 210
    assert (tmp_path / "tuning.png").read_bytes().startswith(b"\x89PNG")
    ElementTree.parse(tmp_path / "tuning.svg")
    page = (tmp_path / "report.html").read_text()
    for part in (lines[0], "Every cycle in numbers", "<svg", "sequential holds 73 ms"):
        assert part in page
    before = page, (tmp_path / "tuning.svg").read_bytes()
    write_tuning(RESULTS, HELD, tmp_path, 0.01)
    assert ((tmp_path / "report.html").read_text(), (tmp_path / "tuning.svg").read_bytes()) == before
