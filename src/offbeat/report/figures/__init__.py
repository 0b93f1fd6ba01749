"""Draws the report's figures with matplotlib; every function takes what was read and returns a figure."""

from __future__ import annotations

from offbeat.report.figures.comparison import draw_changes, draw_improvement, draw_returns
from offbeat.report.figures.cycles import draw_flow, draw_lateness, draw_responses, draw_stages
from offbeat.report.figures.learning import draw_curves, draw_pairs, draw_totals, draw_updates
from offbeat.report.figures.style import close, page_colours, to_png, to_svg
from offbeat.report.figures.tuning import draw_tuning

__all__ = [
    "close",
    "draw_changes",
    "draw_curves",
    "draw_flow",
    "draw_improvement",
    "draw_lateness",
    "draw_pairs",
    "draw_responses",
    "draw_returns",
    "draw_stages",
    "draw_totals",
    "draw_tuning",
    "draw_updates",
    "page_colours",
    "to_png",
    "to_svg",
]
