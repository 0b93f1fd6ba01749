"""Writes what a tuning came to: tuning.csv, the figure, and report.html beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from offbeat.report import html
from offbeat.report.numbers import write_records
from offbeat.report.settings import estimate_cell
from offbeat.report.statistics import DRAWS
from offbeat.report.tuning import CycleResult, Held, conclude_tuning, result_record
from offbeat.report.words import number

_FIGURE_TEXT = (
    "One panel for each rung of the successive halving, its runs longer than those of the one before: mean return over "
    "the last tenth of the episodes, lines are 95% intervals over runs. The better half of a panel's cycles is in the "
    "next one too. The bars at the bottom cover the cycle times that are too short: the schedule cannot hold them, or "
    "no new image comes so soon. A hollow mark missed more than {limit:g}% of its deadlines."
)
_TABLE_TEXT = "One line for each cycle time of each rung. Small print is the 95% interval over runs."


def write_tuning(results: Sequence[CycleResult], held: Sequence[Held], out: Path, limit: float) -> list[str]:
    """Write the numbers, the figure and the page into `out`; returns the conclusion, line by line.

    limit: share of missed deadlines up to which a cycle counts as held.
    """
    from offbeat.report import figures  # heavy, and only needed once there is something to draw

    write_records(out / "tuning.csv", [result_record(result) for result in results])
    figure = figures.draw_tuning(results, held, limit)
    svg = figures.to_svg(figure, "tuning")
    (out / "tuning.svg").write_text(svg, encoding="utf-8")
    (out / "tuning.png").write_bytes(figures.to_png(figure))
    figures.close(figure)
    lines = conclude_tuning(results, held)
    section = html.Section("curve", "Return against cycle time", _FIGURE_TEXT.format(limit=100 * limit), svg)
    parts = [
        html.prose_section("conclusion", "What the numbers say", [[line] for line in lines[1:]]),
        html.figure_section(section, figures.page_colours()),
        html.table_section(_table(results)),
        html.prose_section("methods", "How every number was made", _methods(limit)),
    ]
    page = html.render_page("The best action cycle time", lines[:1], parts)
    (out / "report.html").write_text(page, encoding="utf-8")
    return lines


def _table(results: Sequence[CycleResult]) -> html.Table:
    columns = ("schedule", "cycle (ms)", "rung", "minutes", "runs", "return", "missed (%)")
    rows = tuple(
        (
            r.schedule,
            (
                r.schedule,
                f"{r.cycle_ms:g}",
                str(r.rung),
                f"{round(r.minutes, 2):g}",
                str(len(r.returns)),
                estimate_cell(r.estimate),
                number(100 * r.missed_share, 2),
            ),
        )
        for r in sorted(results, key=lambda r: (-r.rung, -r.estimate.value))
    )
    return html.Table("cycles", "Every cycle in numbers", _TABLE_TEXT, columns, rows)


def _methods(limit: float) -> list[list[str]]:
    return [
        [
            f"A schedule holds a cycle when at most {100 * limit:g}% of its deadlines are missed in a dry run of the "
            "virtual clock with the timing profile, learning all the time.",
            "The candidates are those that it holds; every rung keeps the better half of all of them, but of each "
            "schedule at least its best (successive halving; Jamieson and Talwalkar 2016).",
        ],
        [
            "A run's return is the mean over the last tenth of its episodes. The reward is paid by the millisecond, so "
            "a return is an integral over time and compares across cycle times; it is given for an episode of exactly "
            "the length asked for, although one is a whole number of cycles.",
            f"Intervals are bootstrap intervals over runs ({DRAWS:,} resamples, the expanded percentile interval; "
            "Hesterberg 2015). Two cycles can be told apart when the interval of the difference of their means does "
            "not hold zero. Nothing is corrected for the number of comparisons.",
        ],
        [
            "All but schedule and cycle time is the same everywhere; what is set in seconds stays so in seconds, and "
            "max_updates_per_step in updates a step, so a longer cycle may allow fewer updates.",
            "The runs of a rung are a study in the directory rung-1, rung-2 ...: `offbeat report` draws their learning "
            "curves.",
        ],
    ]
