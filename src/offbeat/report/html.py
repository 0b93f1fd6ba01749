"""Writes the one page: text, tables, drawings and films in a single file that needs nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import TypeAlias

from offbeat.report.read import FILM_TYPES, Group

Cell: TypeAlias = str | tuple[str, str]
"""A table's cell: its text, or its text and the small print below it."""


@dataclass(frozen=True)
class Section:
    """One figure of the page: a heading, two or three plain sentences, the drawing as SVG text."""

    name: str
    heading: str
    text: str
    svg: str


@dataclass(frozen=True)
class Table:
    """One table of the page: a heading, a few plain sentences, columns, and rows of (schedule, cells).

    folded: whether the reader must open it first.
    """

    name: str
    heading: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    folded: bool = False


def render_page(title: str, lead: Sequence[str], parts: Sequence[str]) -> str:
    """The whole page as text. lead: opening sentences. parts: sections that the functions below made."""
    style = files("offbeat.report").joinpath("data/page.css").read_text(encoding="utf-8")
    opening = "".join(f"<p class=lead>{escape(sentence)}</p>\n" for sentence in lead)
    head = f"<header>\n<p class=eyebrow>offbeat</p>\n<h1>{escape(title)}</h1>\n{opening}</header>"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>offbeat: {escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in (head, *parts, _foot()) if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def inline_svg(svg: str, colours: Mapping[str, str], label: str) -> str:
    """An SVG drawing as a part of a page: no prologue, as wide as its column, in the page's own colours.

    colours: drawing colour (#rrggbb) -> CSS variable that replaces it on the page.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head) + f' role="img" aria-label="{escape(label, quote=True)}"'
    # Only the page has a background: the drawing's own white sheets (figure, axes) go.
    rest = re.sub(r"fill: #ffffff", "fill: none", rest)
    for colour, variable in colours.items():
        rest = rest.replace(colour, f"var({variable})")
    return f"{head}>{rest}".strip()


def figure_section(section: Section, colours: Mapping[str, str]) -> str:
    """A figure under its heading and text. colours: as in `inline_svg`."""
    drawing = inline_svg(section.svg, colours, section.heading)
    return (
        f'<section id="{section.name}"><h2>{escape(section.heading)}</h2><p>{escape(section.text)}</p>'
        f"<figure>{drawing}</figure></section>"
    )


def prose_section(
    name: str, heading: str, paragraphs: Sequence[Sequence[str]], points: Sequence[Sequence[str]] = ()
) -> str:
    """Paragraphs of sentences under a heading, with points listed after the first paragraph."""
    texts = [f"<p>{escape(' '.join(sentences))}</p>" for sentences in paragraphs]
    listed = "".join(f"<li>{escape(' '.join(sentences))}</li>" for sentences in points)
    texts.insert(1, f"<ul>{listed}</ul>" if listed else "")
    return f'<section id="{name}"><h2>{escape(heading)}</h2>{"".join(texts)}</section>'


def table_section(table: Table) -> str:
    """A table under its heading and text."""
    head = "".join(f"<th>{escape(title)}</th>" for title in table.columns)
    lines = "".join(
        f'<tr class="{schedule}">' + "".join(f"<td>{_cell(cell)}</td>" for cell in cells) + "</tr>"
        for schedule, cells in table.rows
    )
    body = f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    if table.folded:
        body = f"<details><summary>{len(table.rows)} lines</summary>{body}</details>"
    return f'<section id="{table.name}"><h2>{escape(table.heading)}</h2><p>{escape(table.text)}</p>{body}</section>'


def card_section(groups: Sequence[Group]) -> str:
    """What each group came to, in four numbers: for single runs, of which no interval can be given."""
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


def film_section(groups: Sequence[Group]) -> str:
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


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    text, small = cell
    return escape(text) + (f"<small>{escape(small)}</small>" if small else "")


def _foot() -> str:
    return (
        "<footer><p>Each figure lies beside this page as PNG and SVG, and its numbers as CSV. The study behind it: "
        "Parsaee, Shahriar, He and Tan, <cite>Synchronous vs Asynchronous Reinforcement Learning in a Real World "
        "Robot</cite>.</p></footer>"
    )
