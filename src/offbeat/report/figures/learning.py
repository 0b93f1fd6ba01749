"""Figures of learning: return, updates and steps against robot time (Figures 6 and 7 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from offbeat.report import words
from offbeat.report.figures.style import (
    FAINT,
    INK,
    LINES,
    PAPER,
    SCHEDULE_COLOURS,
    SHADES,
    SOFT,
    Look,
    looks,
    new_figure,
    styled,
)
from offbeat.report.paper import paper_curve
from offbeat.report.read import Group
from offbeat.report.results import Change, Curve, Results, Summary, learning_curve
from offbeat.report.statistics import mean

TOGETHER, REFERENCES = 6, 2
"""Settings, and real robot's curves, that one pair of axes shows; more get a panel each."""

_CONTEXT_POINTS = 60  # of a curve that only stands behind another
_TIME = "training time on the robot (minutes)"


@styled
def draw_curves(results: Sequence[Results], reference: bool) -> Figure:
    """Smoothed return against training time, with a band over runs.

    Few settings share the axes; many have a panel each, with all others faint behind. reference: whether the real
    robot's curves stand behind the settings that repeat the paper's.
    """
    curves = [learning_curve(r) for r in results]
    schedules = [r.schedule for r in results]
    alike = max(schedules.count(name) for name in SHADES)  # that their shades must tell apart
    real = {r.reference for r in results if r.reference and reference}
    crowded = len(results) > TOGETHER or alike > len(LINES) or len(real) > REFERENCES
    if crowded:
        return _draw_panels(results, curves, reference)
    figure, (axes,) = new_figure(4.4)
    for r, curve, look in zip(results, curves, looks(schedules), strict=True):
        _draw_curve(axes, curve, look, r.name if r.runs == 1 else f"{r.name} ({r.runs} runs)")
    _set_limits([axes], curves)
    if reference:
        _draw_paper(axes, [r.reference for r in results], name=True)
    axes.set(xlabel=_TIME, ylabel="return per episode")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _draw_panels(results: Sequence[Results], curves: Sequence[Curve], reference: bool) -> Figure:
    """One panel per setting: its curve in its schedule's colour, all others faint behind it."""
    columns = 4 if len(results) > 9 or len(results) == 4 else 3
    figure, panels = _panels(len(results), columns, 1.85)
    for axes, r, curve in zip(panels, results, curves, strict=True):
        for other in curves:
            step = max(1, len(other.minutes) // _CONTEXT_POINTS)
            axes.plot(other.minutes[::step], other.mean[::step], color=FAINT, linewidth=0.9, zorder=1)
        _draw_curve(axes, curve, Look(SCHEDULE_COLOURS[r.schedule], "-"))
        final = words.with_interval(mean(r.final), 0)
        _head(axes, r.name, [f"{final}, n = {r.runs}"])
    _set_limits(panels, curves)
    if reference:
        for axes, r in zip(panels, results, strict=True):
            _draw_paper(axes, [r.reference], name=False)
    figure.supxlabel(_TIME, fontsize=10)
    figure.supylabel("return per episode", fontsize=10)
    return figure


@styled
def draw_pairs(results: Sequence[Results], changes: Sequence[Change], reference: bool) -> Figure | None:
    """One panel per comparison: the new setting in its schedule's colour, the old one in ink."""
    if not changes:
        return None
    named = {r.name: (r, learning_curve(r)) for r in results}
    figure, panels = _panels(len(changes), _pair_columns(len(changes)), 2.35)
    for axes, change in zip(panels, changes, strict=True):
        (new, new_curve), (old, old_curve) = named[change.new], named[change.old]
        _draw_curve(axes, old_curve, Look(INK, "-"), width=1.5, band=0.13)
        _draw_curve(axes, new_curve, Look(SCHEDULE_COLOURS[new.schedule], "-"))
        difference = words.with_interval(change.final, sign=True)
        _head(axes, change.new, [f"against {change.old}", f"{difference}, n = {new.runs}, {old.runs}"])
    _set_limits(panels, [curve for _, curve in named.values()])
    for axes, change in zip(panels, changes, strict=True):
        if reference:
            _draw_paper(axes, [named[name][0].reference for name in (change.new, change.old)], name=False)
    figure.supxlabel(_TIME, fontsize=10)
    figure.supylabel("return per episode", fontsize=10)
    return figure


@styled
def draw_totals(summaries: Sequence[Summary]) -> Figure:
    """Gradient updates (Figure 7) and environment steps of a whole run, one bar per setting each."""
    figure, (left, right) = new_figure(1.1 + 0.34 * len(summaries), columns=2, sharey=True)
    rows = range(len(summaries))
    colours = [SCHEDULE_COLOURS[s.schedule] for s in summaries]
    for axes, title, values in (
        (left, "gradient updates of a run", [s.updates for s in summaries]),
        (right, "environment steps of a run", [s.steps for s in summaries]),
    ):
        known = [0.0 if np.isnan(v.value) else v.value for v in values]
        axes.barh(rows, known, 0.62, color=colours)
        for row, value in enumerate(values):
            text = f"{words.number(value.value, 0)} (n = {value.runs})" if value.runs else "not recorded"
            axes.annotate(text, (known[row], row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.set(title=title, xlim=(0, 1.45 * max(1.0, *known)), ylim=(len(summaries) - 0.5, -0.5))
        axes.set_yticks(rows, [s.name for s in summaries])
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
    return figure


@styled
def draw_updates(groups: Sequence[Group]) -> Figure:
    """Gradient updates so far and steps so far against training time, one line per run."""
    figure, (left, right) = new_figure(3.2, columns=2)
    for group, look in zip(groups, looks([group.schedule for group in groups]), strict=True):
        for position, run in enumerate(group.runs):
            minutes, label = run.episodes["training_s"] / 60, group.label if position == 0 else None
            style = {"color": look.colour, "linewidth": 2, "linestyle": look.line}
            left.plot(minutes, run.episodes["updates"] / 1e3, label=label, **style)
            right.plot(minutes, np.cumsum(run.episodes["steps"]) / 1e3, **style)
    end = max(float(run.episodes["training_s"][-1]) for group in groups for run in group.runs) / 60
    for axes, title in ((left, "gradient updates (thousands)"), (right, "environment steps (thousands)")):
        axes.set(title=title, xlabel=_TIME, xlim=(0, end), ylim=(0, None))
    left.legend(loc="upper left")
    return figure


def _draw_curve(
    axes: Axes, curve: Curve, look: Look, name: str | None = None, width: float = 2.2, band: float = 0.2
) -> None:
    """A mean curve with its band, or with the single episodes where there is only one run."""
    axes.plot(curve.minutes, curve.mean, look.line, color=look.colour, linewidth=width, label=name, zorder=3)
    if len(curve.returns) == 1:
        axes.scatter(curve.minutes, curve.returns[0], s=9, color=look.colour, alpha=0.28, linewidths=0, zorder=2)
    else:
        axes.fill_between(curve.minutes, curve.low, curve.high, color=look.colour, alpha=band, linewidth=0, zorder=2)


def _draw_paper(axes: Axes, settings: Sequence[str | None], name: bool) -> None:
    """The real robot's own curves of these settings; they are cut where the axes end."""
    for setting, style in zip(dict.fromkeys(filter(None, settings)), cycle(("--", ":", "-."))):
        known = paper_curve(setting)
        if known is None:
            continue
        minutes, mean, low, high = known
        label = f"real robot, {setting} (paper, 25 runs)" if name else None
        inside = minutes <= axes.get_xlim()[1] + 1  # the limits are set already
        axes.plot(minutes[inside], mean[inside], style, color=PAPER, linewidth=1.3, label=label, zorder=1)
        axes.fill_between(minutes[inside], low[inside], high[inside], color=PAPER, alpha=0.15, linewidth=0, zorder=0)


def _panels(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """`count` small axes that share both scales, in rows of `height` inches."""
    rows = -(-count // columns)
    figure, panels = new_figure(0.5 + height * rows, rows, columns, sharex=True, sharey=True)
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes in panels[max(0, count - columns) : count]:  # the lowest of each column says its times
        axes.tick_params(labelbottom=True)
    return figure, panels[:count]


def _pair_columns(count: int) -> int:
    return count if count <= 3 else 2 if count == 4 else 3


def _head(axes: Axes, title: str, lines: Sequence[str]) -> None:
    """A panel's heading: its name, and one or two lines of lesser text between it and the axes."""
    axes.set_title(title, fontsize=9, pad=4 + 11 * len(lines))
    for row, line in enumerate(reversed(lines)):
        axes.annotate(
            line,
            (0, 1),
            xycoords="axes fraction",
            xytext=(0, 4 + 11 * row),
            textcoords="offset points",
            fontsize=8,
            color=SOFT,
        )


def _set_limits(panels: Sequence[Axes], curves: Sequence[Curve]) -> None:
    """Time from 0 to the longest curve's end; return from 0 to a little above the highest point that is drawn."""
    tops = [curve.returns[0] if len(curve.returns) == 1 else curve.high for curve in curves]
    end = max(float(curve.minutes[-1]) for curve in curves)
    top = 1.05 * max(1.0, *(float(np.nanmax(values)) for values in tops))
    for axes in panels:
        axes.set(xlim=(0, end), ylim=(0, top))
