"""The demonstration: two runs side by side, live in the terminal, then their films and one page.

Sequential learning at the paper's 75 ms against asynchronous learning at its 40 ms, on the paper's timing, each in a
process and on a core of its own. Both write run directories like any other; this module only watches them.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from offbeat.config import RunConfig, make_config
from offbeat.errors import RunError
from offbeat.report import write_report
from offbeat.signals import end_processes

log = logging.getLogger(__name__)

SETTINGS = {"sequential": "sync-base", "asynchronous": "async-base"}
"""The two schedules that are compared and the paper's setting each of them runs."""

COLOURS = {"sequential": "dark_orange3", "asynchronous": "dodger_blue2"}
"""Terminal colours, near the report's."""

_POLL_S = 0.25
_LINE_S = 10.0  # between two lines where the output is no terminal
_PACE = 12  # sightings the time left is reckoned from
_FILM_S = 120.0  # a film that takes longer is left out
_STOP_S = 10.0  # a child that was asked to end is given this long
_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class Side:
    """One of the two runs, as far as it can be seen from outside.

    name: its schedule. directory: its run directory. config: what it runs. process: the child, or None when the run
    was already finished. returns: per episode so far. row: the newest line of its episodes.csv. sightings: when
    (monotonic, s) how many episodes were first seen to be finished.
    """

    name: str
    directory: Path
    config: RunConfig
    process: subprocess.Popen[bytes] | None = None
    returns: list[float] = field(default_factory=list)
    row: dict[str, str] = field(default_factory=dict)
    sightings: list[tuple[float, int]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether the run wrote its summary."""
        return (self.directory / "summary.json").is_file()

    @property
    def error_log(self) -> Path:
        """Where the child's complaints go."""
        return self.directory.with_name(f"{self.name}.log")

    @property
    def remaining_s(self) -> float | None:
        """Wall time to the end (s) at the pace of the newest episodes, None before there is a pace.

        The newest only: the episodes before the first update are much faster than all others.
        """
        if len(self.sightings) < 2:
            return None
        (then_s, before), (now_s, count) = self.sightings[-min(len(self.sightings), _PACE)], self.sightings[-1]
        since_s = time.monotonic() - now_s
        return max(0.0, (now_s - then_s) / (count - before) * (self.config.episodes - count) - since_s)

    def poll(self) -> None:
        """Read what the run has recorded so far; a line that is being written waits for the next time."""
        with contextlib.suppress(OSError), (self.directory / "episodes.csv").open(newline="", encoding="utf-8") as file:
            whole = [line for line in file if line.endswith("\n")]
            rows = [row for row in csv.DictReader(whole) if row["return"] not in ("", None)]
            self.returns = [float(row["return"]) for row in rows]
            self.row = rows[-1] if rows else {}
        if not self.sightings or self.sightings[-1][1] != len(self.returns):
            self.sightings.append((time.monotonic(), len(self.returns)))


def run_demo(
    out: Path | str, minutes: float = 12.0, seed: int = 0, open_browser: bool = False, console: Console | None = None
) -> Path:
    """Run the demonstration and return the path of its report.html.

    out: holds sequential/, asynchronous/ and report.html. minutes: training time of each run (robot minutes). A
    demonstration that was interrupted goes on where its runs left off. Raises: ConfigError for minutes or seed out of
    range; RunError when `out` holds a finished demonstration or another one, or when a run fails.
    """
    console = console or Console()
    out = Path(out)
    sides = [_prepare(name, out, minutes, seed) for name in SETTINGS]
    if all(side.finished for side in sides) and (out / "report.html").is_file():
        raise RunError(f"{out} already holds a finished demo: look at {out / 'report.html'}, or give another --out.")
    out.mkdir(parents=True, exist_ok=True)
    try:
        for side in sides:
            _start(side)
        _watch(sides, console)
        with console.status("Filming what each run learned ..."):
            _make_films(sides)
    finally:
        _stop(sides)
    with console.status("Writing the report ..."):
        page = write_report([side.directory for side in sides], out)
    console.print(_result(sides))
    console.print(f"Report: [bold]{page}[/bold]", soft_wrap=True)
    if open_browser:
        webbrowser.open(page.resolve().as_uri())
    return page


def _prepare(name: str, out: Path, minutes: float, seed: int) -> Side:
    """What is to run, checked against what `out` may already hold."""
    config = make_config(SETTINGS[name], scale="cpu", schedule=name, minutes=minutes, seed=seed, profile="paper")
    side = Side(name, out / name, config)
    saved = side.directory / "config.json"
    if not saved.is_file():
        if side.directory.is_dir() and any(side.directory.iterdir()):
            raise RunError(f"{side.directory} is not empty and holds no run: give another --out.")
        return side
    try:
        held = json.loads(saved.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{saved} cannot be read ({error}): give another --out.") from error
    for key, wanted in (("minutes", minutes), ("seed", seed), ("schedule", name)):
        if held.get(key) != wanted:
            raise RunError(f"{out} holds a demo with {key} {held.get(key)}, not {wanted}: give another --out.")
    return side


def _start(side: Side) -> None:
    """Start the side's run, or go on with it; a finished one is left as it is."""
    side.poll()
    if side.finished:
        return
    with side.error_log.open("wb") as errors:
        side.process = subprocess.Popen(
            run_command(side), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=_environment()
        )


def run_command(side: Side) -> list[str]:
    """The command line of a side: `offbeat train`, or `offbeat resume` where the run was begun before."""
    offbeat = [sys.executable, "-m", "offbeat"]
    if (side.directory / "config.json").is_file():
        return [*offbeat, "resume", str(side.directory)]
    choices = {
        "setting": side.config.setting,
        "schedule": side.config.schedule,
        "scale": side.config.scale,
        "profile": side.config.profile,
        "minutes": f"{side.config.minutes:g}",
        "seed": str(side.config.seed),
        "out": str(side.directory),
    }
    return [*offbeat, "train", *(word for key, value in choices.items() for word in (f"--{key}", value))]


def _environment() -> dict[str, str]:
    """One core for each child, and error sentences on one line."""
    return os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "1000", "NO_COLOR": "1"}


def _watch(sides: Sequence[Side], console: Console) -> None:
    """Show the runs until both have ended. Raises: RunError with a run's own sentence when it fails."""
    live = Live(console=console, refresh_per_second=8, transient=False) if console.is_terminal else None
    next_line_s = time.monotonic()
    with live or contextlib.nullcontext():
        while True:
            for side in sides:
                side.poll()
            if live:
                live.update(_panels(sides))
            elif time.monotonic() >= next_line_s:
                console.print(" | ".join(_line(side) for side in sides), highlight=False, soft_wrap=True)
                next_line_s += _LINE_S
            for side in sides:
                _check(side)
            if all(side.process is None or side.process.poll() is not None for side in sides):
                return
            time.sleep(_POLL_S)


def _check(side: Side) -> None:
    """Raises: RunError when the side's process ended without finishing its run."""
    code = side.process.poll() if side.process else 0
    if code is None or (code == 0 and side.finished):
        return
    text = side.error_log.read_text(encoding="utf-8", errors="replace") if side.error_log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = lines[-1] if lines else f"it ended with code {code} and said nothing"
    raise RunError(f"The {side.name} run failed: {reason} (everything it said is in {side.error_log})")


def _stop(sides: Sequence[Side]) -> None:
    """End what still runs: first as Ctrl-C would, so that it can close its files, then for good."""
    end_processes([side.process for side in sides if side.process], signal.SIGINT, _STOP_S)


def _make_films(sides: Sequence[Side]) -> None:
    """Film both policies at once; a film that fails is left out of the report, for the numbers stand without it."""
    films = []
    for side in sides:
        if any(side.directory.glob("film.*")):
            continue
        command = [sys.executable, "-m", "offbeat.film", str(side.directory), str(side.directory / "film.webm")]
        with side.error_log.open("ab") as errors:
            films.append((side, subprocess.Popen(command, stdout=errors, stderr=errors, env=_environment())))
    end_s = time.monotonic() + _FILM_S
    try:
        for side, process in films:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end_s - time.monotonic()))
            if process.poll() != 0:
                log.warning("No film of the %s run: see %s", side.name, side.error_log)
    finally:
        for _, process in films:
            if process.poll() is None:
                process.kill()
                process.wait()


def _panels(sides: Sequence[Side]) -> Table:
    """The two runs beside each other."""
    grid = Table.grid(expand=True, padding=(0, 1))
    for _ in sides:
        grid.add_column(ratio=1)
    grid.add_row(*(_panel(side) for side in sides))
    return grid


def _panel(side: Side) -> Panel:
    colour, row = COLOURS[side.name], side.row
    facts = Table.grid(padding=(0, 2))
    for label, value in (
        ("return, newest 20", _mean_text(side.returns[-20:])),
        ("first 20", _mean_text(side.returns[:20])),
        ("response time", f"{_number(row, 'response_ms_median'):.1f} ms" if row else "-"),
        ("updates", f"{_number(row, 'updates'):,.0f}" if row else "-"),
        ("robot time", f"{_number(row, 'training_s') / 60:.1f} of {side.config.minutes:g} min" if row else "-"),
        ("", _eta_text(side)),
    ):
        facts.add_row(Text(label, style="dim"), Text(value, style="bold"))
    bar = ProgressBar(
        total=side.config.episodes, completed=len(side.returns), complete_style=colour, finished_style=colour
    )
    curve = Text(sparkline(side.returns, 36), style=colour)
    title = f"[bold {colour}]{side.name}[/] every {side.config.env.cycle_s * 1e3:g} ms"
    return Panel(Group(bar, Text(), curve, Text(), facts), title=title, title_align="left", border_style=colour)


def _line(side: Side) -> str:
    """One run on a part of one line, for output that is no terminal."""
    return (
        f"{side.name}: {len(side.returns)}/{side.config.episodes} episodes, return {_mean_text(side.returns[-20:])}, "
        f"{int(_number(side.row, 'updates')):,} updates, {_eta_text(side)}"
    )


def sparkline(values: Sequence[float], width: int) -> str:
    """Values as a row of at most `width` bars, each the mean of its share, from 0 up to the highest of them."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    top = max(max(means), 1e-9)
    return "".join(_BARS[min(len(_BARS) - 1, max(0, int(len(_BARS) * mean / top)))] for mean in means)


def _result(sides: Sequence[Side]) -> Table:
    """The closing table, out of both runs' summaries."""
    title = "Same agent, same robot time, another schedule"
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)  # fits into 80 columns
    for heading in ("schedule", "steps", "updates", "first 20", "last 20", "ratio", "response", "wall"):
        table.add_column(heading, justify="left" if heading == "schedule" else "right", no_wrap=True)
    for side in sides:
        summary: dict[str, Any] = json.loads((side.directory / "summary.json").read_text(encoding="utf-8"))
        first, last = summary["return_first20"], summary["return_last20"]
        table.add_row(
            f"[bold {COLOURS[side.name]}]{side.name}[/]",
            f"{summary['steps']:,}",
            f"{summary['updates']:,}",
            f"{first:.0f}",
            f"{last:.0f}",
            f"{last / first:.1f}" if first else "-",
            f"{summary['response_ms']['p50']:.1f} ms",
            f"{summary['wall_s']:.0f} s",
        )
    return table


def _mean_text(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.0f}" if values else "-"


def _number(row: dict[str, str], name: str) -> float:
    return float(row.get(name) or 0.0)


def _eta_text(side: Side) -> str:
    if side.finished:
        return "finished"
    seconds = side.remaining_s
    return "starting" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"
