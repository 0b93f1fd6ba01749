"""The table of runs, and the page's opening sentences, from the runs' own summaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offbeat.report.cycles import response_ms
from offbeat.report.html import Table
from offbeat.report.read import Group, RunRecord

HEADINGS = {
    "schedule": "schedule",
    "cycle_ms": "cycle (ms)",
    "profile": "profile",
    "seed": "seed",
    "steps": "steps",
    "updates": "updates",
    "return_first20": "first 20",
    "return_last20": "last 20",
    "ratio": "ratio",
    "return_mean": "mean return",
    "response_p50_ms": "response p50 (ms)",
    "response_p99_ms": "p99 (ms)",
    "response_max_ms": "max (ms)",
    "missed_deadlines": "missed",
    "robot_s": "robot (s)",
    "wall_s": "wall (s)",
}
"""Columns of the table, in order, and what the page calls them."""

_FOLDED = 12  # rows from which a table is opened only when asked for
_DIGITS = {"return_first20": 1, "return_last20": 1, "ratio": 1, "return_mean": 1, "robot_s": 0, "wall_s": 0}


def table_values(run: RunRecord) -> dict[str, Any]:
    """The table's columns of one run as numbers and words; None where the run cannot say."""
    summary = run.summary
    first, last = summary["return_first20"], summary["return_last20"]
    return {name: summary.get(name) for name in HEADINGS} | {
        "cycle_ms": round(run.config.env.cycle_s * 1e3, 3),
        "ratio": last / first if first else None,
        **{f"response_{name}_ms": summary["response_ms"][name] for name in ("p50", "p99", "max")},
    }


def table_rows(groups: Sequence[Group]) -> list[dict[str, str]]:
    """One row per run, every column as the text that a reader sees."""
    return [
        {name: _text(value, _DIGITS.get(name, 1)) for name, value in table_values(run).items()}
        for group in groups
        for run in group.runs
    ]


def runs_table(groups: Sequence[Group], named: bool) -> Table:
    """The page's table of runs. named: whether a first column says which group each run belongs to."""
    text = (
        "One line per run. The ratio is the return of the last 20 episodes over that of the first 20; missed counts "
        "the deadlines a cycle was late for. Robot time includes the resets between episodes; wall time is what the "
        "run took on this machine."
    )
    return make_table(groups, named, "table", "Every run in numbers", text, HEADINGS, table_rows(groups))


def make_table(
    groups: Sequence[Group],
    named: bool,
    name: str,
    heading: str,
    text: str,
    headings: Mapping[str, str],
    rows: Sequence[Mapping[str, str]],
) -> Table:
    """A table with one row per run, folded when there are many. headings: column -> what it is called."""
    runs = [(group.label, group.schedule) for group in groups for _ in group.runs]
    lines = tuple(
        (schedule, ((label,) if named else ()) + tuple(row[column] for column in headings))
        for (label, schedule), row in zip(runs, rows, strict=True)
    )
    columns = (("setting",) if named else ()) + tuple(headings.values())
    return Table(name, heading, text, columns, lines, folded=len(lines) > _FOLDED)


def describe(groups: Sequence[Group]) -> list[str]:
    """Two or three plain sentences that say what the page compares and what came out."""
    minutes = sorted({group.config.minutes for group in groups})
    spent = f"{minutes[0]:g}" if len(minutes) == 1 else f"{minutes[0]:g} to {minutes[-1]:g}"
    count = sum(len(group.runs) for group in groups)
    runs = ("One run", "Two runs", "Three runs", "Four runs")[count - 1] if count <= 4 else f"{count} runs"
    agent = "The same agent, robot and task" if count > 1 else "One agent, robot and task"
    sentences = [
        f"{runs} of {spent} minutes of training time on a simulated arm. It is to bring the camera at its "
        f"wrist close to a red bag, and no clock waits for it to learn. {agent}; a schedule only decides when "
        "acting, storing, sampling and updating take place."
    ]
    pair = {group.schedule: group for group in groups}
    # With several groups of one schedule there is no single pair to compare; of several seeds more is said elsewhere.
    if count == len(pair) == len(groups) and {"sequential", "asynchronous"} <= set(pair):
        sentences.append(_compare(pair["sequential"], pair["asynchronous"]))
    unfinished = sum(not run.finished for group in groups for run in group.runs)
    if unfinished:
        sentences.append(f"Not finished yet: {unfinished} of {count}; the page shows what was recorded so far.")
    return sentences


def _compare(sequential: Group, asynchronous: Group) -> str:
    def mean(group: Group, name: str) -> float:
        return sum(run.summary[name] for run in group.runs) / len(group.runs)

    def median(group: Group) -> float:
        values = response_ms(group)
        return float(np.median(values)) if len(values) else math.nan

    gain = mean(asynchronous, "return_last20") / max(1e-9, mean(sequential, "return_last20"))
    outcome = "about as much as" if 0.95 < gain < 1.05 else f"{gain:.2g} times"
    more, fewer = mean(asynchronous, "steps"), mean(sequential, "steps")
    return (
        f"With learning in the loop a command leaves {median(sequential):.0f} ms after the observation it answers; "
        f"with learning beside it, {median(asynchronous):.0f} ms after, and the arm gets {more:,.0f} commands instead "
        f"of {fewer:,.0f}. In the last 20 episodes the asynchronous run returns {outcome} what the sequential one does."
    )


def _text(value: Any, digits: int) -> str:
    if value is None:
        return "–"  # noqa: RUF001 - a dash for the reader, not a minus
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"  # noqa: RUF001
        return f"{value:,.{digits}f}" if not value.is_integer() or digits == 0 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
