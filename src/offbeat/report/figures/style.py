"""The look of every figure: colours, type, sizes, and how a drawing becomes a file.

Colours are Okabe and Ito's (2008), safe for colour-blind eyes: one per schedule, in three shades, and one per stage.
The page replaces them by its own variables (see html.py), so that one drawing serves a light and a dark page.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from offbeat.timing.profile import Stage

SHADES = {
    "sequential": ("#d55e00", "#8c3d00", "#f0a36b"),
    "reactive": ("#009e73", "#005f45", "#5fc9a8"),
    "asynchronous": ("#0072b2", "#003f63", "#6fb1dc"),
}
"""Colours of the schedules: the first everywhere, the others where settings of one schedule share a picture."""

SCHEDULE_COLOURS = {schedule: shades[0] for schedule, shades in SHADES.items()}
"""One colour per schedule, everywhere."""

STAGE_COLOURS = {Stage.ACT: "#cc79a7", Stage.STORE: "#a3a3a3", Stage.SAMPLE: "#e69f00", Stage.UPDATE: "#56b4e9"}
"""One colour per stage, none of them a schedule's."""

INK, SOFT, FAINT, PAPER = "#1c2024", "#5b6269", "#d9dce0", "#8b9096"
"""Text and axes; lesser text; grid lines; the real robot's curves."""

LINES = ("-", "--", ":")
"""Line styles that go with the shades."""

WIDTH = 8.4
"""Inches; the page scales a drawing to its column."""

PNG_BYTES = 300_000
"""No PNG file is larger: one that would be is drawn with fewer dots an inch."""

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
}
_DOTS = (160, 130, 100, 72)  # an inch

_Arguments = ParamSpec("_Arguments")
_Drawn = TypeVar("_Drawn", bound=Figure | None)


@dataclass(frozen=True)
class Look:
    """How a setting is drawn: its colour and its line."""

    colour: str
    line: str


def styled(draw: Callable[_Arguments, _Drawn]) -> Callable[_Arguments, _Drawn]:
    """A decorator: what a function draws, it draws in the house style, with its parts laid out once for all files."""

    @wraps(draw)
    def decorated(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Drawn:
        with matplotlib.rc_context(_STYLE):
            figure = draw(*arguments, **options)
            if figure is not None:
                ConstrainedLayoutEngine().execute(figure)
        return figure

    return decorated


def looks(schedules: Sequence[str]) -> list[Look]:
    """A look for each of several settings of these schedules, which tells up to three of one schedule apart."""
    seen: dict[str, int] = {}
    found = []
    for schedule in schedules:
        number = seen.get(schedule, 0) % len(LINES)
        found.append(Look(SHADES[schedule][number], LINES[number]))
        seen[schedule] = seen.get(schedule, 0) + 1
    return found


def new_figure(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, list[Any]]:
    """A figure in the house style, `height` inches high, and its axes in reading order."""
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **options)
    return figure, list(axes.flat)


def write_beside(axes: Any, row: float, text: str, colour: str) -> None:
    """Write a number right of the axes, at a row of theirs."""
    axes.annotate(
        text,
        (1, row),
        xycoords=("axes fraction", "data"),
        xytext=(10, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5 if colour == INK else 8,
        color=colour,
    )


def to_svg(figure: Figure, name: str) -> str:
    """The figure as SVG text; `name` keeps identifiers of several drawings on one page apart, and the bytes fixed."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def to_png(figure: Figure) -> bytes:
    """The figure as PNG bytes on white: in 256 colours, and as fine as `PNG_BYTES` allow."""
    from PIL import Image  # comes with matplotlib

    data = b""
    for dots in _DOTS:
        drawn, packed = io.BytesIO(), io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            figure.savefig(drawn, format="png", dpi=dots)
        Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
        data = packed.getvalue()
        if len(data) <= PNG_BYTES:
            break
    return data


def close(figure: Figure) -> None:
    """Free a figure's memory."""
    plt.close(figure)


def page_colours() -> dict[str, str]:
    """Each colour used in a drawing and the CSS variable that stands for it on the page."""
    stages = {colour: f"--{stage.value}" for stage, colour in STAGE_COLOURS.items()}
    schedules = {
        colour: f"--{schedule}" + (f"-{number}" if number > 1 else "")
        for schedule, shades in SHADES.items()
        for number, colour in enumerate(shades, 1)
    }
    return {INK: "--ink", SOFT: "--soft", FAINT: "--faint", PAPER: "--paper"} | stages | schedules
