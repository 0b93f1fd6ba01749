"""Writes the numbers behind the page as CSV files, one per table or figure."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offbeat.report import cycles
from offbeat.report.learner import LearnerSummary, learner_record
from offbeat.report.read import Group, has_cycles
from offbeat.report.results import Change, Results, Summary, learning_curve
from offbeat.report.settings import change_record, improvement_record, summary_record
from offbeat.report.statistics import Estimate
from offbeat.report.subject import StageBar
from offbeat.report.table import HEADINGS, table_values
from offbeat.report.timing import TIMING_HEADINGS, timing_values

FILES = (
    *("summary.csv", "differences.csv", "improvement.csv", "curves.csv", "stages.csv"),
    *("table.csv", "timing.csv", "response.csv", "lateness.csv", "updates.csv", "learners.csv"),
)
"""All that is written here."""

_POINTS = 60  # of a run's updates and steps


def write_settings(
    out: Path,
    results: Sequence[Results],
    summaries: Sequence[Summary],
    changes: Sequence[Change],
    table: Mapping[tuple[str, str], Estimate],
    threshold: float,
) -> None:
    """summary.csv, differences.csv, improvement.csv and curves.csv. table: probabilities of improvement."""
    write_records(out / "summary.csv", [summary_record(s, threshold) for s in summaries])
    write_records(out / "differences.csv", [change_record(change) for change in changes])
    write_records(out / "improvement.csv", [improvement_record(x, y, value) for (x, y), value in table.items()])
    rows: list[list[Any]] = []
    for r in results:
        curve = learning_curve(r)
        points = zip(curve.minutes, curve.mean, curve.low, curve.high, strict=True)
        rows.extend([r.name, r.runs, *point] for point in points)
    _write(out / "curves.csv", ["group", "runs", "minutes", "mean", "low95", "high95"], rows)


def write_stages(out: Path, bars: Sequence[StageBar]) -> None:
    """stages.csv, empty but for its header where no stage was timed."""
    rows = [
        [bar.name, stage.value, time.count, time.mean_ms, time.p50_ms, time.p99_ms]
        for bar in bars
        for stage, time in bar.times.items()
    ]
    _write(out / "stages.csv", ["group", "stage", "count", "mean_ms", "p50_ms", "p99_ms"], rows)


def write_runs(out: Path, groups: Sequence[Group]) -> None:
    """table.csv, timing.csv, response.csv, lateness.csv and updates.csv: what run directories say one by one."""
    runs = [(group.label, run) for group in groups for run in group.runs]
    _write(out / "table.csv", ["group", *HEADINGS], [[label, *table_values(run).values()] for label, run in runs])
    timing = [[label, *timing_values(run).values()] for label, run in runs]
    _write(out / "timing.csv", ["group", *TIMING_HEADINGS], timing)
    timed = [group for group in groups if has_cycles(group)]
    _write_histogram(out / "response.csv", timed, cycles.response_ms, cycles.response_edges(timed))
    _write_histogram(out / "lateness.csv", timed, cycles.lateness_ms, cycles.lateness_edges(timed))
    rows = []
    for label, run in runs:
        steps, count = np.cumsum(run.episodes["steps"]), len(run.episodes["steps"])
        for i in np.unique(np.linspace(0, count - 1, _POINTS).round().astype(int)):
            rows.append(
                [label, run.config.seed, run.episodes["training_s"][i] / 60, run.episodes["updates"][i], steps[i]]
            )
    _write(out / "updates.csv", ["group", "seed", "minutes", "updates", "steps"], rows)


def write_learners(out: Path, learners: Sequence[LearnerSummary]) -> None:
    """learners.csv; none where no setting's runs made updates."""
    write_records(out / "learners.csv", [learner_record(learner) for learner in learners])


def _write_histogram(path: Path, groups: Sequence[Group], values_ms: Callable[[Group], Any], edges: Any) -> None:
    """Per cent of each group's cycles in each bin. values_ms: of a group (ms). edges: of the bins (ms)."""
    rows = [
        [group.label, *bin_]
        for group in groups
        for bin_ in zip(edges[:-1], edges[1:], cycles.histogram_percent(values_ms(group), edges), strict=True)
    ]
    _write(path, ["group", "from_ms", "to_ms", "percent"], rows)


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Records with the same keys; none, no file."""
    if records:
        _write(path, list(records[0]), [list(record.values()) for record in records])


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([[_cell(value) for value in row] for row in rows])


def _cell(value: Any) -> Any:
    """Six digits are enough; what is not known stays empty, and a time that never comes is "inf"."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value
