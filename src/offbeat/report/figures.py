"""Draws the report's figures with matplotlib (Agg); one colour per schedule, one per stage, safe for colour-blind eyes.

Every function takes groups and returns a figure. Colours are Okabe and Ito's (2008). The page replaces them by its own
variables (see html.py), so that one drawing serves a light and a dark page.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from offbeat.report import curves
from offbeat.report.read import Group
from offbeat.timing.clock import WAKE_S
from offbeat.timing.profile import Stage

SCHEDULE_COLOURS = {"sequential": "#d55e00", "reactive": "#009e73", "asynchronous": "#0072b2"}
"""One colour per schedule, everywhere."""

STAGE_COLOURS = {Stage.ACT: "#cc79a7", Stage.STORE: "#a3a3a3", Stage.SAMPLE: "#e69f00", Stage.UPDATE: "#56b4e9"}
"""One colour per stage, none of them a schedule's."""

INK, FAINT, PAPER = "#1c2024", "#d9dce0", "#8b9096"
"""Text and axes; grid lines; the real robot's curves."""

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "svg.fonttype": "path",
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
}
_styled = matplotlib.rc_context(_STYLE)  # a decorator: what a function draws, it draws in the house style
_WIDTH = 8.4  # inches; the page scales the drawing to its column


@_styled
def draw_curves(groups: Sequence[Group], paper: bool = True) -> Figure:
    """Smoothed return against training time, a band over seeds, and the real robot's curves behind."""
    figure, axes = _figure(4.4)
    ends = [_draw_curve(axes, group, style) for group, style in zip(groups, _styles(groups), strict=True)]
    axes.set_xlim(0, max(ends))
    if paper:
        _draw_paper(axes, groups, max(ends))
    axes.set_ylim(bottom=0)
    axes.set(xlabel="training time on the robot (minutes)", ylabel="return per episode")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _draw_curve(axes: Axes, group: Group, style: str) -> float:
    curve, colour = curves.learning_curve(group), SCHEDULE_COLOURS[group.schedule]
    name = group.label if len(group.runs) == 1 else f"{group.label} ({len(group.runs)} runs)"
    axes.plot(curve.minutes, curve.mean, style, color=colour, linewidth=2.2, label=name, zorder=3)
    if len(group.runs) == 1:
        axes.scatter(curve.minutes, curve.returns[0], s=9, color=colour, alpha=0.28, linewidths=0, zorder=2)
    else:
        axes.fill_between(curve.minutes, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0, zorder=2)
    return float(curve.minutes[-1])


def _draw_paper(axes: Axes, groups: Sequence[Group], end: float) -> None:
    """The paper's own curves for the settings that are shown, as far as the runs go."""
    settings = list(dict.fromkeys(group.config.setting for group in groups))
    for setting, style in zip(settings, cycle(("--", ":", "-."))):
        known = curves.paper_curve(setting)
        if known is None:
            continue
        minutes, mean, half = (values[known[0] <= end] for values in known)
        name = f"real robot, {setting} (paper, 25 runs)"
        axes.plot(minutes, mean, style, color=PAPER, linewidth=1.3, label=name, zorder=1)
        axes.fill_between(minutes, mean - half, mean + half, color=PAPER, alpha=0.15, linewidth=0, zorder=0)


@_styled
def draw_responses(groups: Sequence[Group]) -> Figure:
    """How long a command waits behind the observation it answers, one histogram per group on one time axis."""
    edges = curves.response_edges(groups)
    figure, rows = _figure(1.1 + 1.15 * len(groups), rows=len(groups), sharex=True)
    for axes, group in zip(rows, groups, strict=True):
        values, colour = curves.response_ms(group), SCHEDULE_COLOURS[group.schedule]
        share = curves.histogram_percent(values, edges)
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.85)
        axes.set(title=group.label, xlim=(0, edges[-1]), ylim=(0, 1.35 * max(1e-9, share.max())), ylabel="% of cycles")
        axes.grid(axis="x", visible=False)
        if values.size:
            _mark_median(axes, float(np.median(values)), float(np.percentile(values, 99)), float(edges[-1]), colour)
    rows[-1].set_xlabel("response time (ms): from observation to the command that answers it")
    return figure


def _mark_median(axes: Axes, median: float, top: float, end: float, colour: str) -> None:
    axes.axvline(median, color=INK, linewidth=1.2)
    right = median > 0.6 * end
    axes.annotate(
        f"half within {median:.1f} ms, 99% within {top:.1f} ms",
        (median, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if right else 6, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        fontsize=9.5,
        color=INK,
    )


@_styled
def draw_lateness(groups: Sequence[Group]) -> Figure | None:
    """How late the cycles ended, one histogram per group on one logarithmic axis; None without a wall clock."""
    shown = [group for group in groups if group.config.clock == "wall"]
    if not shown:
        return None
    edges = curves.lateness_edges(shown)
    figure, rows = _figure(1.1 + 1.15 * len(shown), rows=len(shown), sharex=True)
    for axes, group in zip(rows, shown, strict=True):
        values, colour = curves.lateness_ms(group), SCHEDULE_COLOURS[group.schedule]
        share = curves.histogram_percent(values, edges)
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.85)
        within = f"half within {np.median(values) * 1e3:.0f} µs, 99% within {np.percentile(values, 99):.2f} ms"
        axes.set(title=f"{group.label}: {within}", xscale="log", xlim=(edges[0], edges[-1]), ylabel="% of cycles")
        axes.grid(axis="x", visible=False)
        axes.axvline(WAKE_S * 1e3, color=INK, linewidth=1.2)
        axes.xaxis.set_major_formatter("{x:g}")
    rows[-1].set_xlabel("lateness (ms): from the deadline to the end of the cycle; later than the line is missed")
    return figure


@_styled
def draw_flow(groups: Sequence[Group]) -> Figure | None:
    """Figure 4 of the paper, drawn from what was recorded: stages in lanes, and what each command answers."""
    shown = [(group, flow) for group in groups if (flow := curves.flow_window(group.runs[0])) is not None]
    if not shown:
        return None
    lanes = [3 if group.schedule == "asynchronous" else 1 for group, _ in shown]
    height = 1.2 + 0.5 * sum(lanes) + 0.75 * len(lanes)
    figure, rows = _figure(height, rows=len(shown), sharex=True, height_ratios=[count + 1.6 for count in lanes])
    for axes, (group, flow), count in zip(rows, shown, lanes, strict=True):
        _draw_lanes(axes, group, flow, count)
    rows[-1].set_xlabel("time (ms)")
    stages = [Patch(color=colour, label=stage.value) for stage, colour in STAGE_COLOURS.items()]
    seen = plt.Line2D([], [], marker="v", color=INK, linestyle="none", label="observation")
    sent = plt.Line2D([], [], marker="^", color=INK, linestyle="none", label="command that answers it")
    handles = [*stages, seen, sent]
    figure.legend(handles=handles, loc="outside upper center", ncols=6, columnspacing=1.4, handlelength=1.2)
    return figure


def _draw_lanes(axes: Axes, group: Group, flow: curves.Flow, count: int) -> None:
    """One panel: the answers on top, below them the interaction and, when asynchronous, its two neighbours."""
    colour = SCHEDULE_COLOURS[group.schedule]
    for lane, stage, begin, end in flow.blocks:
        shape = [(begin, end - begin)], (-lane - 0.36, 0.72)
        axes.broken_barh(*shape, facecolors=STAGE_COLOURS[stage], edgecolor="none", zorder=2)
    for observed, sent in flow.answers:
        axes.plot([observed, sent], [1, 1], color=colour, linewidth=5, solid_capstyle="butt", zorder=3)
        axes.plot(observed, 1.28, marker="v", markersize=6, color=INK, markeredgewidth=0)
        axes.plot(sent, 0.72, marker="^", markersize=6, color=INK, markeredgewidth=0)
        axes.vlines(observed, 0.4 - count, 1, color=FAINT, linewidth=0.8, zorder=1)
    names = ["interaction", "sampling", "updating"] if count == 3 else ["all in one loop"]
    axes.set_yticks([1, *(-lane for lane in range(count))], ["response", *names])
    axes.tick_params(axis="y", length=0)
    axes.set(title=group.label, xlim=(-0.02 * flow.length_ms, flow.length_ms), ylim=(0.4 - count, 1.6))
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)


@_styled
def draw_stages(groups: Sequence[Group]) -> Figure | None:
    """Mean time of each stage, end to end, against the action cycle it would have to fit in (Figure 5)."""
    shown = [(group, times) for group in groups if (times := curves.stage_times_ms(group))]
    if not shown:
        return None
    figure, axes = _figure(1.3 + 0.62 * len(shown))
    for row, (group, times) in enumerate(shown):
        left = 0.0
        for stage, values in times.items():
            mean = float(values.mean())
            axes.barh(row, mean, 0.56, left=left, color=STAGE_COLOURS[stage], label=stage.value if row == 0 else None)
            if mean > 6:
                axes.text(left + mean / 2, row, f"{mean:.1f}", ha="center", va="center", fontsize=9, color="#000000")
            left += mean
        cycle_ms = group.config.env.cycle_s * 1e3
        axes.plot([cycle_ms] * 2, [row - 0.42, row + 0.42], color=SCHEDULE_COLOURS[group.schedule], linewidth=3.5)
    axes.plot([], [], color=INK, linewidth=3.5, label="action cycle")
    axes.set_yticks(range(len(shown)), [group.label for group, _ in shown])
    axes.set_ylim(len(shown) - 0.45, -0.55)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("mean time (ms)")
    figure.legend(loc="outside upper center", ncols=5)
    return figure


@_styled
def draw_updates(groups: Sequence[Group]) -> Figure:
    """Gradient updates so far and steps so far against training time."""
    figure, (left, right) = _figure(3.2, columns=2)
    for group, style in zip(groups, _styles(groups), strict=True):
        colour = SCHEDULE_COLOURS[group.schedule]
        for position, run in enumerate(group.runs):
            minutes, label = run.episodes["training_s"] / 60, group.label if position == 0 else None
            left.plot(minutes, run.episodes["updates"] / 1e3, style, color=colour, linewidth=2, label=label)
            right.plot(minutes, np.cumsum(run.episodes["steps"]) / 1e3, style, color=colour, linewidth=2)
    end = max(float(run.episodes["training_s"][-1]) for group in groups for run in group.runs) / 60
    for axes, title in ((left, "gradient updates (thousands)"), (right, "environment steps (thousands)")):
        axes.set(title=title, xlabel="training time on the robot (minutes)", xlim=(0, end), ylim=(0, None))
    left.legend(loc="upper left")
    return figure


def to_svg(figure: Figure, name: str) -> str:
    """The figure as SVG text; `name` keeps identifiers of several drawings on one page apart, and the bytes fixed."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def to_png(figure: Figure) -> bytes:
    """The figure as PNG bytes, on white, at 160 dots an inch."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def close(figure: Figure) -> None:
    """Free a figure's memory."""
    plt.close(figure)


def _figure(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure in the house style; a list of axes when there is more than one row, or always when `sharex` is given."""
    figure, axes = plt.subplots(rows, columns, figsize=(_WIDTH, height), squeeze=False, **options)
    flat = list(axes.flat)
    return figure, flat if len(flat) > 1 or options else flat[0]


def _styles(groups: Sequence[Group]) -> list[str]:
    """Line styles that tell groups of one schedule, and so of one colour, apart."""
    seen: dict[str, int] = {}
    styles = []
    for group in groups:
        styles.append(("-", "--", ":", "-.")[seen.get(group.schedule, 0) % 4])
        seen[group.schedule] = seen.get(group.schedule, 0) + 1
    return styles


def page_colours() -> dict[str, str]:
    """Each colour used in a drawing and the CSS variable that stands for it on the page."""
    stages = {colour: f"--{stage.value}" for stage, colour in STAGE_COLOURS.items()}
    schedules = {colour: f"--{schedule}" for schedule, colour in SCHEDULE_COLOURS.items()}
    return {INK: "--ink", FAINT: "--faint", PAPER: "--paper"} | stages | schedules
