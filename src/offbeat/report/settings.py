"""The tables of settings and of changes: as text for the page and the terminal, as numbers for CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offbeat.report.html import Cell, Table
from offbeat.report.results import TIMING_S, Change, Summary
from offbeat.report.statistics import Estimate
from offbeat.report.words import DASH, interval, number, percent, with_interval

_TABLE_TEXT = (
    "One line per setting, over its runs. Small print is the 95% interval over runs; there is none where all runs "
    "agree. Final is the mean return of the last tenth of the episodes, whole run that of all of them, warm-up "
    "included. Passes {threshold:g}: training time until the mean return over the {timing:g} s before it lies above "
    "{threshold:g}. Times first tenth: final return over that of the first tenth. Response: from an observation to "
    "the command that answers it, over all cycles of all runs."
)

_CHANGES_TEXT = (
    "One line per comparison: mean of the new setting less mean of the old one, with its 95% interval. Share is "
    "the difference over that of the first line, the main gap; it is left out where that gap itself cannot be told "
    "from zero. P(new > old): how often a run of the new setting ends higher than a run of the old one, over all "
    "pairs of runs."
)


def settings_table(summaries: Sequence[Summary], threshold: float) -> Table:
    """The page's table of settings."""
    timed = any(s.response_ms for s in summaries)
    columns = (
        "setting",
        "runs",
        "final return",
        "whole run",
        f"passes {threshold:g} (s)",
        "times first tenth",
        "updates",
        "steps",
        *(("response p50 (ms)", "p99 (ms)") if timed else ()),
    )
    rows = []
    for s in summaries:
        response = [number(value) for value in s.response_ms] if s.response_ms else [DASH] * 2
        updates = f"n = {s.updates.runs}" if 0 < s.updates.runs != s.runs else interval(s.updates, 0)
        cells = (
            s.name,
            str(s.runs),
            estimate_cell(s.final),
            estimate_cell(s.whole),
            estimate_cell(s.time_s, 0),
            estimate_cell(s.learned, 2),
            (number(s.updates.value, 0), updates),
            estimate_cell(s.steps, 0),
            *(response if timed else ()),
        )
        rows.append((s.schedule, cells))
    text = _TABLE_TEXT.format(threshold=threshold, timing=TIMING_S)
    return Table("settings", "Every setting in numbers", text, columns, tuple(rows))


def changes_table(changes: Sequence[Change], schedules: Mapping[str, str]) -> Table:
    """The page's table of comparisons. schedules: of each setting."""
    columns = (
        "change",
        "runs",
        "final return",
        "share (%)",
        "whole run",
        "share (%)",
        "ratio of finals",
        "P(new > old)",
        "updates",
    )
    rows = tuple(
        (
            schedules[c.new],
            (
                (c.new, f"against {c.old}"),
                f"{c.runs[0]}, {c.runs[1]}",
                estimate_cell(c.final, sign=True),
                estimate_cell(percent(c.final_share), 0),
                estimate_cell(c.whole, sign=True),
                estimate_cell(percent(c.whole_share), 0),
                estimate_cell(c.ratio, 2),
                estimate_cell(c.improvement, 2),
                estimate_cell(c.updates, 0, sign=True),
            ),
        )
        for c in changes
    )
    return Table("differences", "The comparisons in numbers", _CHANGES_TEXT, columns, rows)


def terminal_lines(summaries: Sequence[Summary], threshold: float) -> list[str]:
    """The table of settings for a terminal, columns aligned."""
    header = ["setting", "runs", "final return (95%)", "whole run (95%)", "updates", f"passes {threshold:g} (s)"]
    rows = [
        [
            s.name,
            str(s.runs),
            with_interval(s.final),
            with_interval(s.whole),
            number(s.updates.value, 0),
            number(s.time_s.value, 0),
        ]
        for s in summaries
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    return [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [header, *rows]
    ]


def summary_record(s: Summary, threshold: float) -> dict[str, Any]:
    """One line of summary.csv."""
    return {
        "group": s.name,
        "schedule": s.schedule,
        "runs": s.runs,
        "episodes": s.episodes,
        "minutes": s.minutes,
        **estimate_record("final", s.final),
        **estimate_record("whole", s.whole),
        "threshold": threshold,
        **estimate_record("time_s", s.time_s),
        **estimate_record("times_first_tenth", s.learned),
        **estimate_record("updates", s.updates),
        "updates_runs": s.updates.runs,
        **estimate_record("steps", s.steps),
        "response_p50_ms": s.response_ms and s.response_ms[0],
        "response_p99_ms": s.response_ms and s.response_ms[1],
    }


def change_record(c: Change) -> dict[str, Any]:
    """One line of differences.csv."""
    return {
        "new": c.new,
        "old": c.old,
        "runs_new": c.runs[0],
        "runs_old": c.runs[1],
        **estimate_record("final", c.final),
        **estimate_record("final_share", c.final_share),
        **estimate_record("whole", c.whole),
        **estimate_record("whole_share", c.whole_share),
        **estimate_record("ratio", c.ratio),
        **estimate_record("improvement", c.improvement),
        **estimate_record("updates", c.updates),
    }


def improvement_record(x: str, y: str, estimate: Estimate) -> dict[str, Any]:
    """One line of improvement.csv: the probability that a run of x ends higher than a run of y."""
    return {"x": x, "y": y, "runs": estimate.runs, **estimate_record("probability", estimate)}


def estimate_record(name: str, estimate: Estimate) -> dict[str, float]:
    """A number and its interval as three columns of a CSV file."""
    return {name: estimate.value, f"{name}_low95": estimate.low, f"{name}_high95": estimate.high}


def estimate_cell(estimate: Estimate, digits: int = 1, sign: bool = False) -> Cell:
    """A number and, in small print, its interval."""
    return number(estimate.value, digits, sign), interval(estimate, digits, sign)
