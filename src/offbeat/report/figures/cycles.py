"""Figures of where a cycle's time goes: response, lateness, flow (Figure 4 of the paper) and stages (Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from offbeat.report import cycles
from offbeat.report.figures.style import FAINT, INK, SCHEDULE_COLOURS, STAGE_COLOURS, new_figure, styled, write_beside
from offbeat.report.read import Group
from offbeat.report.subject import StageBar
from offbeat.timing.clock import WAKE_S


@styled
def draw_responses(groups: Sequence[Group]) -> Figure:
    """How long a command waits behind the observation it answers, one histogram per group on one time axis."""
    edges = cycles.response_edges(groups)
    figure, rows = new_figure(1.1 + 1.15 * len(groups), rows=len(groups), sharex=True)
    for axes, group in zip(rows, groups, strict=True):
        values, colour = cycles.response_ms(group), SCHEDULE_COLOURS[group.schedule]
        share = cycles.histogram_percent(values, edges)
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.85)
        axes.set(title=group.label, xlim=(0, edges[-1]), ylim=(0, 1.35 * max(1e-9, share.max())), ylabel="% of cycles")
        axes.grid(axis="x", visible=False)
        if values.size:
            _mark_median(axes, values, float(edges[-1]))
    rows[-1].set_xlabel("response time (ms): from observation to the command that answers it")
    return figure


def _mark_median(axes: Axes, values: cycles.Array, end: float) -> None:
    median, top = np.percentile(values, [50, 99]).tolist()
    axes.axvline(median, color=INK, linewidth=1.2)
    right = median > 0.6 * end
    axes.annotate(
        f"half within {median:.1f} ms, 99% within {top:.1f} ms, n = {len(values):,}",
        (median, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if right else 6, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        fontsize=9.5,
        color=INK,
    )


@styled
def draw_lateness(groups: Sequence[Group]) -> Figure | None:
    """How late the cycles ended, one histogram per group on one logarithmic axis; None without a wall clock."""
    shown = [group for group in groups if group.config.clock == "wall"]
    if not shown:
        return None
    edges = cycles.lateness_edges(shown)
    figure, rows = new_figure(1.1 + 1.15 * len(shown), rows=len(shown), sharex=True)
    for axes, group in zip(rows, shown, strict=True):
        values, colour = cycles.lateness_ms(group), SCHEDULE_COLOURS[group.schedule]
        share = cycles.histogram_percent(values, edges)
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.85)
        half, most = np.percentile(values, [50, 99]).tolist()
        within = f"half within {half * 1e3:.0f} µs, 99% within {most:.2f} ms, n = {len(values):,}"
        axes.set(title=f"{group.label}: {within}", xscale="log", xlim=(edges[0], edges[-1]), ylabel="% of cycles")
        axes.grid(axis="x", visible=False)
        axes.axvline(WAKE_S * 1e3, color=INK, linewidth=1.2)
        axes.xaxis.set_major_formatter("{x:g}")
    rows[-1].set_xlabel("lateness (ms): from the deadline to the end of the cycle; later than the line is missed")
    return figure


@styled
def draw_flow(groups: Sequence[Group]) -> Figure | None:
    """Figure 4 of the paper, drawn from what was recorded: stages in lanes, and what each command answers."""
    shown = [(group, flow) for group in groups if (flow := cycles.flow_window(group.runs[0])) is not None]
    if not shown:
        return None
    lanes = [3 if group.schedule == "asynchronous" else 1 for group, _ in shown]
    height = 1.2 + 0.5 * sum(lanes) + 0.75 * len(lanes)
    figure, rows = new_figure(height, rows=len(shown), sharex=True, height_ratios=[count + 1.6 for count in lanes])
    for axes, (group, flow), count in zip(rows, shown, lanes, strict=True):
        _draw_lanes(axes, group, flow, count)
    rows[-1].set_xlabel("time (ms)")
    stages = [Patch(color=colour, label=stage.value) for stage, colour in STAGE_COLOURS.items()]
    seen = plt.Line2D([], [], marker="v", color=INK, linestyle="none", label="observation")
    sent = plt.Line2D([], [], marker="^", color=INK, linestyle="none", label="command that answers it")
    handles = [*stages, seen, sent]
    figure.legend(handles=handles, loc="outside upper center", ncols=6, columnspacing=1.4, handlelength=1.2)
    return figure


def _draw_lanes(axes: Axes, group: Group, flow: cycles.Flow, count: int) -> None:
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


@styled
def draw_stages(bars: Sequence[StageBar]) -> Figure | None:
    """Mean time of each stage, end to end, against the action cycle it would have to fit in (Figure 5)."""
    if not bars:
        return None
    row_height = 0.62 if len(bars) <= 6 else 0.44
    figure, (axes,) = new_figure(1.3 + row_height * len(bars))
    longest = max(max(bar.cycle_ms, _total_ms(bar)) for bar in bars)
    for row, bar in enumerate(bars):
        left = 0.0
        for stage, colour in STAGE_COLOURS.items():
            if stage not in bar.times:
                continue
            mean = bar.times[stage].mean_ms
            axes.barh(row, mean, 0.56, left=left, color=colour)
            middle = left + mean / 2
            if abs(middle - bar.cycle_ms) < 0.04 * longest:  # the mark of the cycle stands there
                middle = left + mean / 4
            if mean > 0.06 * longest:
                axes.text(middle, row, f"{mean:.1f}", ha="center", va="center", fontsize=9, color="#000000")
            left += mean
        axes.plot([bar.cycle_ms] * 2, [row - 0.4, row + 0.4], color=SCHEDULE_COLOURS[bar.schedule], linewidth=3.5)
        times = max(time.count for time in bar.times.values())
        write_beside(axes, row, f"{left:.1f} ms in all, n = {times:,}", INK)
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
    axes.set(xlim=(0, 1.05 * longest), ylim=(len(bars) - 0.45, -0.55), xlabel="mean time (ms)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    shown = [stage for stage in STAGE_COLOURS if any(stage in bar.times for bar in bars)]
    handles = [Patch(color=STAGE_COLOURS[stage], label=stage.value) for stage in shown]
    handles.append(plt.Line2D([], [], color=INK, linewidth=3.5, label="action cycle"))
    figure.legend(handles=handles, loc="outside upper center", ncols=5)
    return figure


def _total_ms(bar: StageBar) -> float:
    return sum(time.mean_ms for time in bar.times.values())
