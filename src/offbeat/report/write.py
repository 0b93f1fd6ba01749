"""Puts a report together: figures as PNG and SVG, numbers as CSV, and report.html."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from offbeat.errors import RunError
from offbeat.report import html, numbers, results
from offbeat.report.conclude import conclude
from offbeat.report.learner import LearnerSummary, learners_table, summarise_learners
from offbeat.report.read import Group, has_cycles
from offbeat.report.results import THRESHOLD, Change, Summary
from offbeat.report.settings import changes_table, settings_table, terminal_lines
from offbeat.report.subject import Subject, read_subject
from offbeat.report.table import runs_table
from offbeat.report.texts import HEADINGS, TEXTS, curves_text, methods, pairs_text
from offbeat.report.timing import timing_table

_HISTOGRAMS, _FLOWS, _BARS, _LINES = 6, 4, 12, 4  # groups that a figure shows at most


def write_report(
    paths: Iterable[Path | str],
    out: Path | str,
    *,
    reference: bool = True,
    threshold: float = THRESHOLD,
    show: Callable[[str], None] | None = None,
) -> Path:
    """Report on run directories, a study directory, or the paper's returns.csv; returns the path of its report.html.

    `out` also receives every figure as PNG and SVG and the numbers behind it as CSV. Runs that differ only in their
    seed are one setting, drawn as one curve with a band. reference: whether the real robot's curves stand behind the
    settings that repeat the paper's. threshold: return whose first passing is timed. show: is given the table of
    settings, line by line. Raises: RunError, one sentence, for what is missing or damaged.
    """
    given = [Path(path) for path in paths]
    subject = read_subject(given)
    out = _make_directory(Path(out), given)
    summaries = [results.summarise(r, threshold) for r in subject.results]
    changes = results.compare_settings(subject.results, subject.compare)
    improvement = results.improvement_table(subject.results)
    learners = summarise_learners(subject.groups)
    numbers.write_settings(out, subject.results, summaries, changes, improvement, threshold)
    numbers.write_stages(out, subject.stages)
    if subject.groups:
        numbers.write_runs(out, subject.groups)
    numbers.write_learners(out, learners)
    from offbeat.report import figures  # heavy, and only needed once there is something to draw

    drawings = {"curves": figures.draw_curves(subject.results, reference), **_cycle_figures(subject)}
    if subject.replicated:
        drawings |= {
            "returns": figures.draw_returns(subject.results, summaries),
            "changes": figures.draw_changes(changes),
            "pairs": figures.draw_pairs(subject.results, changes, reference),
            "improvement": figures.draw_improvement([r.name for r in subject.results], improvement),
            "totals": figures.draw_totals(summaries),
        }
    sections = {
        name: html.figure_section(_save(out, name, figure, _text(subject, name, reference)), figures.page_colours())
        for name, figure in drawings.items()
        if figure is not None
    }
    page = out / "report.html"
    parts = _parts(subject, sections, summaries, changes, learners, threshold)
    page.write_text(html.render_page(subject.title, subject.lead, parts), encoding="utf-8")
    if show is not None and subject.replicated:
        for line in terminal_lines(summaries, threshold):
            show(line)
    return page


def _make_directory(out: Path, paths: Sequence[Path]) -> Path:
    """Make `out`, and take what an earlier report left there away, for it may have been about something else."""
    if out.resolve() in {(path if path.is_dir() else path.parent).resolve() for path in paths}:
        raise RunError(f"The report would lie among what it is made from in {out}: give another --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (*numbers.FILES, *(f"{figure}.{kind}" for figure in HEADINGS for kind in ("png", "svg"))):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"The report cannot be written to {out} ({error.strerror}): give another --out.") from error
    return out


def representatives(groups: Sequence[Group], first: Sequence[str], limit: int) -> list[Group]:
    """At most `limit` groups, in their order: all when they fit; else those called `first`, then one for each schedule,
    cycle time and timing profile that is not yet among them, for groups alike in these have the same timing."""
    if len(groups) <= limit:
        return list(groups)
    chosen: dict[tuple[Any, ...], Group] = {}
    for group in sorted(groups, key=lambda g: g.label not in first):
        config = group.config
        size = (config.env.width, config.env.height)
        chosen.setdefault((config.schedule, config.env.cycle_s, config.profile, config.setting, size), group)
    kept = {group.label for group in list(chosen.values())[:limit]}
    return [group for group in groups if group.label in kept]


def _cycle_figures(subject: Subject) -> dict[str, Any]:
    """The figures of where a cycle's time goes, of a legible number of groups."""
    from offbeat.report import figures

    groups = [group for group in subject.groups if has_cycles(group)]

    def few(limit: int) -> list[Group]:
        return representatives(groups, [name for pair in subject.compare[:1] for name in pair], limit)

    shown = {group.label for group in few(_BARS)} or {bar.name for bar in subject.stages}
    drawings: dict[str, Any] = {"stages": figures.draw_stages([bar for bar in subject.stages if bar.name in shown])}
    if groups:
        drawings |= {
            "response": figures.draw_responses(few(_HISTOGRAMS)),
            "lateness": figures.draw_lateness(few(_HISTOGRAMS)),
            "flow": figures.draw_flow(few(_FLOWS)),
        }
        if not subject.replicated:
            drawings["updates"] = figures.draw_updates(few(_LINES))
    return drawings


def _text(subject: Subject, name: str, reference: bool) -> str:
    """What the page says about a figure, and of how many groups it is."""
    if name == "curves":
        return curves_text(subject, reference)
    if name == "pairs":
        return pairs_text(subject, reference)
    limits = {"response": _HISTOGRAMS, "lateness": _HISTOGRAMS, "flow": _FLOWS, "stages": _BARS, "updates": _LINES}
    limit, count = limits.get(name, len(subject.results)), len(subject.groups)
    if count <= limit:
        return TEXTS[name]
    return f"{TEXTS[name]} Of {count} settings only those are shown that differ in their timing, at most {limit}."


def _save(out: Path, name: str, figure: Any, text: str) -> html.Section:
    """Write a figure's files and return its section of the page."""
    from offbeat.report import figures

    svg = figures.to_svg(figure, name)
    (out / f"{name}.svg").write_text(svg, encoding="utf-8")
    (out / f"{name}.png").write_bytes(figures.to_png(figure))
    figures.close(figure)
    return html.Section(name, HEADINGS[name], text, svg)


def _parts(
    subject: Subject,
    figures: dict[str, str],
    summaries: Sequence[Summary],
    changes: Sequence[Change],
    learners: Sequence[LearnerSummary],
    threshold: float,
) -> list[str]:
    """The page's sections in reading order; figures: sections by name, of those that were drawn."""
    schedules = {r.name: r.schedule for r in subject.results}

    def drawn(*names: str) -> list[str]:
        return [figures[name] for name in names if name in figures]

    said, tables, compared, how = [], [], [], []
    if subject.replicated:
        found = conclude(subject.results, summaries, changes, threshold)
        paragraphs = (found.opening, *found.closing)
        said = [html.prose_section("conclusion", "What the numbers say", paragraphs, found.points)]
        tables = [html.table_section(settings_table(summaries, threshold))]
        compared = [html.table_section(changes_table(changes, schedules))] if changes else []
        how = [html.prose_section("methods", "How every number was made", methods(threshold))]
    runs = []
    if subject.groups:
        named = subject.replicated
        runs = [html.table_section(make(subject.groups, named)) for make in (timing_table, runs_table)]
    return [
        *said,
        "" if subject.replicated else html.card_section(subject.groups),
        html.film_section(subject.groups),
        *drawn("curves", "returns"),
        *tables,
        *drawn("changes"),
        *compared,
        *drawn("pairs", "improvement", "totals"),
        html.table_section(learners_table(learners)) if learners else "",
        *drawn("response", "lateness", "flow", "stages", "updates"),
        *runs,
        *how,
    ]
