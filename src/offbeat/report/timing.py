"""The timing table: how each run kept its deadlines, what its stages took, and how old what it used was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offbeat.report.html import Table
from offbeat.report.read import Group, RunRecord
from offbeat.report.table import make_table
from offbeat.timing.profile import Stage

TIMING_HEADINGS = {
    "schedule": "schedule",
    "missed_deadlines": "missed",
    "causes": "missed by",
    "seed": "seed",
    "lateness_p50_ms": "late p50 (ms)",
    "lateness_p99_ms": "p99 (ms)",
    "lateness_p999_ms": "p99.9 (ms)",
    "lateness_max_ms": "max (ms)",
    **{
        f"{stage.value}_{column}": heading
        for stage in Stage
        for column, heading in (("mean_ms", f"{stage.value} (ms)"), ("percent", "% of time"))
    },
    "updates_per_s": "updates a second",
    "updates_per_step": "a step",
    "weights_age_ms": "weights' age (ms)",
    "sample_age_ms": "batch's age (ms)",
    "batch_wait_ms": "batch waits (ms)",
    "update_wait_ms": "updater waits (ms)",
}
"""Columns of the timing table, in order, and what the page calls them; ages and waits are medians."""

_DIGITS = {"updates_per_step": 2} | dict.fromkeys((name for name in TIMING_HEADINGS if name.startswith("late")), 3)


def timing_values(run: RunRecord) -> dict[str, Any]:
    """The timing table's columns of one run as numbers and words; None where the run cannot say."""
    timing = run.summary["timing"]
    ages = ("weights_age_ms", "sample_age_ms", "batch_wait_ms", "update_wait_ms")
    values: dict[str, Any] = {
        "schedule": run.config.schedule,
        "seed": run.config.seed,
        "missed_deadlines": run.summary["missed_deadlines"],
        "causes": _causes(run.summary["missed_by_cause"]),
        **{f"lateness_{name}_ms": value for name, value in timing["lateness_ms"].items()},
        **{name: timing[name] for name in ("updates_per_s", "updates_per_step")},
        **{name: timing[name]["p50"] for name in ages},
    }
    for name, stage in timing["stages"].items():
        values[f"{name}_mean_ms"] = stage["mean_ms"]
        values[f"{name}_percent"] = None if stage["share"] is None else 100 * stage["share"]
    return {name: values.get(name) for name in TIMING_HEADINGS}


def timing_rows(groups: Sequence[Group]) -> list[dict[str, str]]:
    """One row per run, every column as the text that a reader sees."""
    return [
        {name: _text(value, _DIGITS.get(name, 1)) for name, value in timing_values(run).items()}
        for group in groups
        for run in group.runs
    ]


def timing_table(groups: Sequence[Group], named: bool) -> Table:
    """The page's table of deadlines, stages and ages. named: whether a first column says which group a run is of."""
    text = (
        "One line per run. Late is how long after its deadline a cycle ended; a deadline counts as missed when the "
        "work took longer than the cycle or the wake-up came more than a millisecond late, and is put down to what "
        "took the most time in that cycle. A stage's share is of the whole time, resets included; the ages are those "
        "of the weights when a command was chosen and of a batch when its update began. Ages and waits are medians."
    )
    heading = "Where the time went"
    return make_table(groups, named, "timing", heading, text, TIMING_HEADINGS, timing_rows(groups))


def _causes(missed: Mapping[str, int]) -> str | None:
    """The causes of missed deadlines, the most frequent first; None when all were kept."""
    ordered = sorted((item for item in missed.items() if item[1]), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or None


def _text(value: Any, digits: int) -> str:
    if value is None:
        return "–"  # noqa: RUF001 - a dash for the reader, not a minus
    return f"{value:,.{digits}f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
