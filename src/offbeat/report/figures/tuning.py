"""The figure of a tuning: return against cycle time, rung by rung."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from offbeat.report.figures.style import INK, SCHEDULE_COLOURS, SOFT, new_figure, styled
from offbeat.report.tuning import CycleResult, Held, find_best, last_rung

_TICKS_MS = (5, 10, 20, 40, 80, 160, 320, 640, 1280)
_APART = 1.02  # the schedules' marks stand beside each other where they share a cycle time
_BAR = 0.022  # of the axes' height, between two bars


@styled
def draw_tuning(results: Sequence[CycleResult], held: Sequence[Held], limit: float) -> Figure:
    """A panel for each rung: the mean return of every cycle time that was in it, with its 95% interval.

    limit: share of missed deadlines above which a mark is hollow. Bars at the bottom: what is too short for a schedule.
    """
    rungs = sorted({result.rung for result in results})
    figure, panels = new_figure(3.9, columns=len(rungs), sharex=True, sharey=True)
    for axes, rung in zip(panels, rungs, strict=True):
        shown = [result for result in results if result.rung == rung]
        axes.set_title(f"{round(shown[0].minutes, 2):g} min, {len(shown)} cycle{'s' if len(shown) > 1 else ''}")
        for place, hold in enumerate(held):
            own = [result for result in shown if result.schedule == hold.schedule]
            _draw_schedule(axes, own, _APART ** (place - (len(held) - 1) / 2), limit)
    _set_cycles(panels, [result.cycle_ms for result in results])
    _name_best(panels[-1], find_best(last_rung(results)).best)
    for axes in panels:
        _draw_limits(axes, held)
    panels[0].set_ylabel("return per episode")
    figure.supxlabel("action cycle time (ms)", fontsize=10)
    _explain(figure, held, any(result.missed_share > limit for result in results))
    return figure


def _draw_schedule(axes: Axes, results: Sequence[CycleResult], shift: float, limit: float) -> None:
    """One schedule's line, with an interval where there are several runs."""
    results = sorted(results, key=lambda result: result.cycle_s)
    colour = SCHEDULE_COLOURS[results[0].schedule] if results else INK
    cycles_ms = [result.cycle_ms * shift for result in results]
    axes.plot(cycles_ms, [result.estimate.value for result in results], color=colour, linewidth=1.3)
    for cycle_ms, result in zip(cycles_ms, results, strict=True):
        estimate = result.estimate
        if not math.isnan(estimate.low):
            axes.plot([cycle_ms, cycle_ms], [estimate.low, estimate.high], color=colour, linewidth=1.8, alpha=0.5)
        face = "none" if result.missed_share > limit else colour
        axes.plot(cycle_ms, estimate.value, "o", color=colour, markerfacecolor=face, markersize=5, markeredgewidth=1.2)


def _set_cycles(panels: Sequence[Axes], cycles_ms: Sequence[float]) -> None:
    """A logarithmic axis of cycle times, a little wider than they are."""
    low, high = min(cycles_ms) / 1.15, max(cycles_ms) * 1.15
    ticks = [tick for tick in _TICKS_MS if low <= tick <= high] or [round(cycles_ms[0])]
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", which="minor", length=0)


def _name_best(axes: Axes, best: CycleResult) -> None:
    """The best cycle time in figures, above its interval."""
    top = best.estimate.value if math.isnan(best.estimate.high) else best.estimate.high
    axes.annotate(
        f"{best.cycle_ms:g} ms", (best.cycle_ms, top), xytext=(0, 6), textcoords="offset points", ha="center",
        fontsize=9, fontweight="bold",
    )  # fmt: skip


def _draw_limits(axes: Axes, held: Sequence[Held]) -> None:
    """At the bottom a bar over the cycle times that are too short for each schedule."""
    low, high = axes.get_xlim()
    for place, hold in enumerate(held):
        end = min(high, hold.too_short_s * 1e3)
        if end > low:
            row = _BAR * (place + 0.7)
            axes.plot(
                [low, end], [row, row], transform=axes.get_xaxis_transform(), color=SCHEDULE_COLOURS[hold.schedule],
                linewidth=3, solid_capstyle="butt", alpha=0.55,
            )  # fmt: skip


def _explain(figure: Figure, held: Sequence[Held], hollow: bool) -> None:
    handles = [Line2D([], [], color=SCHEDULE_COLOURS[h.schedule], marker="o", label=h.schedule) for h in held]
    handles.append(Line2D([], [], color=SOFT, linewidth=3, alpha=0.55, label="too short"))
    if hollow:
        handles.append(
            Line2D([], [], color=SOFT, marker="o", markerfacecolor="none", linewidth=0, label="misses deadlines")
        )
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
