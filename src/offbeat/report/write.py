"""Puts a report together: figures as PNG and SVG, numbers as CSV, and report.html."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offbeat.errors import RunError
from offbeat.report import curves
from offbeat.report.html import Section, render_page
from offbeat.report.read import Group, RunRecord, group_runs, read_runs
from offbeat.report.table import HEADINGS, table_values
from offbeat.report.timing import TIMING_HEADINGS, timing_values

_HEADINGS = {
    "curves": "How fast each schedule learns",
    "response": "How old the picture is when the command leaves",
    "lateness": "How late each cycle ended",
    "flow": "What happens when",
    "stages": "What each stage costs",
    "updates": "What the robot's time is turned into",
}

_TEXTS = {
    "response": (
        "The response time of every cycle: from the start of an observation to the command that answers it. In a "
        "sequential loop sampling and updating stand between seeing and acting, so the arm answers a world that "
        "has moved on (its few quick cycles are from before learning began). Beside the loop, or after the "
        "command, they add nothing, and what is left is the time the policy itself needs."
    ),
    "lateness": (
        "Every cycle has a deadline, at which the arm is looked at again. The interaction sleeps until just before it "
        "and then spins, so on a machine at rest a cycle ends within microseconds of it. What lies further right "
        "is the system letting other work run first, or a cycle whose own work took too long."
    ),
    "flow": (
        "A few cycles of each run as they were recorded. The thick line on top reaches from an observation to the "
        "command that answers it; below stand the stages that fill the time. Sequentially, each stage waits for "
        "the one before it and the cycle must be long enough for all of them; asynchronously, three lanes run "
        "side by side and only acting stands between seeing and doing."
    ),
    "stages": (
        "Mean time of each stage, laid end to end; the thick mark is the action cycle. A sequential loop only "
        "keeps a cycle that is longer than its whole bar. An asynchronous one may choose a shorter cycle, because "
        "nothing but acting and storing has to fit into it."
    ),
    "updates": (
        "Gradient updates and environment steps against training time. A shorter cycle gives more steps in the "
        "same minutes; asynchronous updates take place beside acting, and during resets, and so can keep up with "
        "them."
    ),
}


def _curves_text(groups: Sequence[Group]) -> str:
    """What the learning curves show depends on how many seeds were run and whether the paper has the setting."""
    several = any(len(group.runs) > 1 for group in groups)
    single = any(len(group.runs) == 1 for group in groups)
    text = "Return per episode against training time, resets left out. A line averages over one minute"
    text += "; dots are single episodes" if single else ""
    if several:
        text += "; where several seeds were run it is their mean, with its 95% bootstrap band"
    text += (
        ". A shorter cycle takes more actions in the same minutes, and acting beside learning answers a fresher image."
    )
    if any(curves.paper_curve(group.config.setting) for group in groups):
        text += (
            " Grey, for scale, is the beginning of the paper's 72 minutes on a real robot: 25 runs a setting, larger "
            "images and networks, and 200 seconds before the first update."
        )
    return text


def write_report(directories: Iterable[Path | str], out: Path | str) -> Path:
    """Read the run directories and write the report into `out`; returns the path of its report.html.

    `out` also receives every figure as PNG and SVG and the numbers behind it as CSV. Runs that differ only in their
    seed are drawn as one curve with a band. Raises: RunError, one sentence, for a missing or damaged directory.
    """
    groups = group_runs(read_runs(directories))
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"The report cannot be written to {out} ({error.strerror}): give another --out.") from error
    _write_numbers(groups, out)
    from offbeat.report import figures  # heavy, and only needed once there is something to draw

    drawings = {
        "curves": figures.draw_curves(groups),
        "response": figures.draw_responses(groups),
        "lateness": figures.draw_lateness(groups),
        "flow": figures.draw_flow(groups),
        "stages": figures.draw_stages(groups),
        "updates": figures.draw_updates(groups),
    }
    sections = []
    for name, figure in drawings.items():
        if figure is None:
            continue
        svg = figures.to_svg(figure, name)
        (out / f"{name}.svg").write_text(svg, encoding="utf-8")
        (out / f"{name}.png").write_bytes(figures.to_png(figure))
        figures.close(figure)
        text = _TEXTS.get(name) or _curves_text(groups)
        sections.append(Section(name, _HEADINGS[name], text, svg))
    page = out / "report.html"
    page.write_text(render_page(groups, sections, figures.page_colours()), encoding="utf-8")
    return page


def _write_numbers(groups: Sequence[Group], out: Path) -> None:
    """The numbers behind the table and each figure, one CSV file each."""
    runs = [run for g in groups for run in g.runs]
    _write_csv(out / "table.csv", list(HEADINGS), [list(table_values(run).values()) for run in runs])
    _write_csv(out / "timing.csv", list(TIMING_HEADINGS), [list(timing_values(run).values()) for run in runs])
    lines = [(g.label, len(g.runs), curves.learning_curve(g)) for g in groups]
    _write_csv(
        out / "curves.csv",
        ["group", "runs", "minutes", "mean", "low95", "high95"],
        [[label, n, *point] for label, n, c in lines for point in zip(c.minutes, c.mean, c.low, c.high, strict=True)],
    )
    _write_histogram(out / "response.csv", groups, curves.response_ms, curves.response_edges(groups))
    _write_histogram(out / "lateness.csv", groups, curves.lateness_ms, curves.lateness_edges(groups))
    _write_csv(
        out / "stages.csv",
        ["group", "stage", "count", "mean_ms", "p50_ms", "p99_ms"],
        [
            [g.label, stage.value, len(ms), ms.mean(), *np.percentile(ms, [50, 99])]
            for g in groups
            for stage, ms in curves.stage_times_ms(g).items()
        ],
    )
    _write_csv(
        out / "updates.csv",
        ["group", "seed", "minutes", "updates", "steps"],
        [
            [g.label, run.config.seed, *point]
            for g in groups
            for run in g.runs
            for point in zip(*_progress(run), strict=True)
        ],
    )


def _write_histogram(path: Path, groups: Sequence[Group], values_ms: Callable[[Group], Any], edges: Any) -> None:
    """Per cent of each group's cycles in each bin. values_ms: of a group (ms). edges: of the bins (ms)."""
    rows = [
        [group.label, *bin_]
        for group in groups
        for bin_ in zip(edges[:-1], edges[1:], curves.histogram_percent(values_ms(group), edges), strict=True)
    ]
    _write_csv(path, ["group", "from_ms", "to_ms", "percent"], rows)


def _progress(run: RunRecord) -> tuple[Any, Any, Any]:
    """Minutes of training time, updates and steps at the end of every episode."""
    episodes = run.episodes
    return episodes["training_s"] / 60, episodes["updates"], np.cumsum(episodes["steps"])


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([[_cell(value) for value in row] for row in rows])


def _cell(value: Any) -> Any:
    """Six digits are enough, and what is not known stays empty."""
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return "" if value is None else value
