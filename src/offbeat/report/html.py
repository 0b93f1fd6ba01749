"""Writes the one page: text, table, drawings and films in a single file that needs nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from offbeat.report.read import FILM_TYPES, Group
from offbeat.report.table import HEADINGS, describe, table_rows
from offbeat.report.timing import TIMING_HEADINGS, timing_rows


@dataclass(frozen=True)
class Section:
    """One figure of the page: a heading, two or three plain sentences, the drawing as SVG text."""

    name: str
    heading: str
    text: str
    svg: str


def render_page(groups: Sequence[Group], sections: Sequence[Section], colours: Mapping[str, str]) -> str:
    """The whole page as text. colours: drawing colour (#rrggbb) -> CSS variable that replaces it on the page."""
    style = files("offbeat.report").joinpath("data/page.css").read_text(encoding="utf-8")
    drawn = [_section(section, colours) for section in sections]
    body = [_head(groups), _cards(groups), _films(groups), *drawn, _timing(groups), _table(groups), _foot()]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>offbeat: learning while the robot moves</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def inline_svg(svg: str, colours: Mapping[str, str], label: str) -> str:
    """An SVG drawing as a part of a page: no prologue, as wide as its column, in the page's own colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head) + f' role="img" aria-label="{escape(label, quote=True)}"'
    # Only the page has a background: the drawing's own two white sheets (figure, axes) go.
    rest = re.sub(r"fill: #ffffff", "fill: none", rest)
    for colour, variable in colours.items():
        rest = rest.replace(colour, f"var({variable})")
    return f"{head}>{rest}".strip()


def _head(groups: Sequence[Group]) -> str:
    return (
        "<header>\n<p class=eyebrow>offbeat</p>\n<h1>Learning while the robot moves</h1>\n"
        + "".join(f"<p class=lead>{sentence}</p>\n" for sentence in describe(groups))
        + "</header>"
    )


def _cards(groups: Sequence[Group]) -> str:
    cards = []
    for group in groups:
        summaries = [run.summary for run in group.runs]

        def mean(name: str, summaries: list[Mapping[str, float]] = summaries) -> float:
            return sum(s[name] for s in summaries) / len(summaries)

        response = sum(s["response_ms"]["p50"] for s in summaries) / len(summaries)
        facts = (
            (f"{mean('return_last20'):.0f}", f"return, last 20 episodes (first 20: {mean('return_first20'):.0f})"),
            (f"{response:.1f} ms", "median response time"),
            (f"{mean('steps'):,.0f}", "actions taken"),
            (f"{mean('updates'):,.0f}", "gradient updates"),
        )
        items = "".join(f"<div><dt>{escape(what)}</dt><dd>{value}</dd></div>" for value, what in facts)
        cards.append(f'<article class="card {group.schedule}"><h2>{escape(group.label)}</h2><dl>{items}</dl></article>')
    return f"<section class=cards>{''.join(cards)}</section>"


def _films(groups: Sequence[Group]) -> str:
    """The films side by side, each a data address; empty where no run has one."""
    found = [(group, next((run.film for run in group.runs if run.film), None)) for group in groups]
    films = [(group, path) for group, path in found if path]
    if not films:
        return ""
    figures = []
    for group, path in films:
        kind = FILM_TYPES[path.suffix]
        address = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
        film = (
            f'<video autoplay loop muted playsinline src="{address}"></video>'
            if kind.startswith("video")
            else f'<img alt="film of the policy learned by {escape(group.label, quote=True)}" src="{address}">'
        )
        name = f"<figcaption>{escape(group.label)}</figcaption>"
        figures.append(f'<figure class="film {group.schedule}">{film}{name}</figure>')
    text = (
        "What each run learned, played once more after training, at the timing it was trained under. Left, the "
        "scene; right, what the wrist camera sees, with the pixels that earn reward outlined. The closer the hand "
        "comes to the red bag, the more of the image the bag fills, and the more reward every moment earns."
    )
    shown = f"<div class=films>{''.join(figures)}</div>"
    return f'<section id="films"><h2>The learned policies</h2><p>{text}</p>{shown}</section>'


def _section(section: Section, colours: Mapping[str, str]) -> str:
    drawing = inline_svg(section.svg, colours, section.heading)
    return (
        f'<section id="{section.name}"><h2>{escape(section.heading)}</h2><p>{escape(section.text)}</p>'
        f"<figure>{drawing}</figure></section>"
    )


def _timing(groups: Sequence[Group]) -> str:
    text = (
        "One line per run. Late is how long after its deadline a cycle ended; a deadline counts as missed when the "
        "work took longer than the cycle or the wake-up came more than a millisecond late, and is put down to what "
        "took the most time in that cycle. A stage's share is of the whole time, resets included; the ages are those "
        "of the weights when a command was chosen and of a batch when its update began. Ages and waits are medians."
    )
    return _table_section("timing", "Where the time went", text, TIMING_HEADINGS, timing_rows(groups))


def _table(groups: Sequence[Group]) -> str:
    text = (
        "One line per run. The ratio is the return of the last 20 episodes over that of the first 20; missed counts "
        "the deadlines a cycle was late for. Robot time includes the resets between episodes; wall time is what the "
        "run took on this machine."
    )
    return _table_section("table", "Every number", text, HEADINGS, table_rows(groups))


def _table_section(
    name: str, heading: str, text: str, headings: Mapping[str, str], rows: Sequence[Mapping[str, str]]
) -> str:
    """A table under its heading and text. headings: column -> what it is called; rows: column -> text."""
    head = "".join(f"<th>{escape(title)}</th>" for title in headings.values())
    lines = "".join(
        f'<tr class="{row["schedule"]}">' + "".join(f"<td>{escape(row[column])}</td>" for column in headings) + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<section id="{name}"><h2>{heading}</h2><p>{text}</p><div class=scroll>{table}</div></section>'


def _foot() -> str:
    return (
        "<footer><p>Each figure lies beside this page as PNG and SVG, and its numbers as CSV. The study behind it: "
        "Parsaee, Shahriar, He and Tan, <cite>Synchronous vs Asynchronous Reinforcement Learning in a Real World "
        "Robot</cite>.</p></footer>"
    )
