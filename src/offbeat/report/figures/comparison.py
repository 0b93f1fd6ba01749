"""Figures that compare settings: final returns, what each change is worth, and the probability of improvement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from offbeat.report import words
from offbeat.report.figures.style import INK, SCHEDULE_COLOURS, SOFT, new_figure, styled, write_beside
from offbeat.report.results import Change, Results, Summary
from offbeat.report.statistics import Estimate

_BETTER, _WORSE = SCHEDULE_COLOURS["asynchronous"], SCHEDULE_COLOURS["sequential"]
_ROW = 0.52  # inches


@styled
def draw_returns(results: Sequence[Results], summaries: Sequence[Summary]) -> Figure:
    """Final and whole-run return of every setting with its 95% interval, and every single run (a forest plot)."""
    figure, (axes,) = new_figure(1.15 + _ROW * len(results))
    for row, (r, summary) in enumerate(zip(results, summaries, strict=True)):
        colour = SCHEDULE_COLOURS[r.schedule]
        axes.plot(r.final.values, [row - 0.12] * r.runs, "|", color=colour, markersize=9, alpha=0.55, zorder=2)
        _mark(axes, summary.final, row - 0.12, colour, filled=True)
        _mark(axes, summary.whole, row + 0.2, colour, filled=False)
        write_beside(axes, row - 0.12, f"{words.with_interval(summary.final)}, n = {summary.runs}", INK)
        write_beside(axes, row + 0.22, f"{words.with_interval(summary.whole)}", SOFT)
    _set_rows(axes, [s.name for s in summaries])
    axes.set_xlim(left=0)
    axes.set_xlabel("return per episode")
    _explain(figure)
    return figure


@styled
def draw_changes(changes: Sequence[Change]) -> Figure | None:
    """What each change is worth: the difference in final and in whole-run return, with its 95% interval."""
    if not changes:
        return None
    figure, (axes,) = new_figure(1.45 + (_ROW + 0.06) * len(changes))
    axes.axvline(0, color=INK, linewidth=1.0, zorder=1)
    for row, change in enumerate(changes):
        colour = _BETTER if change.final.low > 0 else _WORSE if change.final.high < 0 else SOFT
        _mark(axes, change.final, row - 0.12, colour, filled=True)
        _mark(axes, change.whole, row + 0.2, colour, filled=False)
        write_beside(axes, row - 0.12, words.with_interval(change.final, sign=True), INK)
        if not math.isnan(change.final_share.value):
            write_beside(axes, row + 0.22, "the main gap" if change.main else _share(change), SOFT)
    _set_rows(axes, [f"{change.new}\nagainst {change.old}" for change in changes])
    axes.set_xlabel("difference in return per episode")
    main = next((change for change in changes if change.main), None)
    if main is not None and main.final.excludes(0.0):
        gap = main.final.value
        top = axes.secondary_xaxis("top", functions=(lambda x: 100 * x / gap, lambda x: x * gap / 100))
        top.set_xlabel(f"% of the main gap in final return, {main.new} over {main.old}", fontsize=9)
        top.spines["top"].set_visible(True)
    _explain(figure)
    return figure


@styled
def draw_improvement(names: Sequence[str], table: Mapping[tuple[str, str], Estimate]) -> Figure | None:
    """P(a run of the row ends higher than a run of the column), a cell for each pair of settings."""
    if len(names) < 2:
        return None
    count = len(names)
    roomy = count <= 7
    longest = max(len(name) for name in names)
    tilted = count * longest > 80
    head = 0.5 + 0.055 * longest if tilted else 0.7
    figure, (axes,) = new_figure((0.56 if roomy else 0.36) * count + head)
    for row, x in enumerate(names):
        for column, y in enumerate(names):
            if x != y:
                _cell(axes, row, column, table[x, y], roomy)
    tilt: dict[str, Any] = {"rotation": 40, "ha": "left", "va": "bottom", "rotation_mode": "anchor"} if tilted else {}
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    axes.set_yticks(range(count), names)
    axes.set_xticks(range(count), names, **tilt)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=5)
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_ylabel("a run of this setting ...")
    axes.set_title("... ends higher than a run of this one with probability", fontsize=10, fontweight="normal", pad=10)
    return figure


def _cell(axes: Axes, row: int, column: int, estimate: Estimate, roomy: bool) -> None:
    """One probability on blue above a half and on orange below it, the stronger the farther away."""
    above = estimate.value - 0.5
    axes.add_patch(
        Rectangle(
            (column - 0.48, row - 0.46),
            0.96,
            0.92,
            facecolor=_BETTER if above > 0 else _WORSE,
            alpha=0.06 + 0.8 * abs(above),
            linewidth=0,
        )
    )
    sure = estimate.excludes(0.5)
    number = words.number(estimate.value, 2)
    ends = words.interval(estimate, 2) if roomy else ""
    axes.text(
        column,
        row - (0.13 if ends else 0),
        number,
        ha="center",
        va="center",
        fontsize=10 if roomy else 8,
        fontweight="bold" if sure else "normal",
    )
    if ends:
        axes.text(column, row + 0.22, ends, ha="center", va="center", fontsize=8)


def _share(change: Change) -> str:
    """A change's part of the main gap: "79% of the main gap (59 to 111)"."""
    share = words.percent(change.final_share)
    return f"{words.number(share.value, 0)}% of the main gap ({words.interval(share, 0)})"


def _mark(axes: Axes, estimate: Estimate, row: float, colour: str, filled: bool) -> None:
    """A mean and its interval on a row: filled and thick for the final return, hollow and thin for the whole run."""
    if not math.isnan(estimate.low):
        axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=2.4 if filled else 1.2, zorder=3)
    axes.plot(
        estimate.value,
        row,
        "o",
        color=colour,
        markerfacecolor=colour if filled else "none",
        markersize=6.5 if filled else 5,
        markeredgewidth=1.2,
        zorder=4,
    )


def _set_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)


def _explain(figure: Figure) -> None:
    """What the two kinds of marks are, above the axes."""
    handles = [
        Line2D([], [], color=INK, marker="o", markersize=6.5, linewidth=2.4, label="last tenth of training"),
        Line2D([], [], color=INK, marker="o", markersize=5, linewidth=1.2, markerfacecolor="none", label="whole run"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
