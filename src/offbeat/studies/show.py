"""A study's progress: a live table on a terminal; elsewhere a line a finished run, and one now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from offbeat.studies.watch import Event, RunStatus, State

_LINE_S = 60.0  # between two lines where there is no terminal
_FRAME = 5  # lines of a terminal that are not a run's
_COLOURS = {State.RUNNING: "dodger_blue2", State.FAILED: "red", State.WAITING: "dim"}
_FIRST = (State.RUNNING, State.FAILED, State.WAITING, State.FINISHED, State.COPIED)  # where a terminal is too short


@contextmanager
def show_study(console: Console) -> Iterator[Callable[[Event], None]]:
    """Yields what to call with every event of a study."""
    if not console.is_terminal:
        yield _Lines(console).show
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda event: live.update(_table(event, console.height - _FRAME), refresh=True)


def progress_line(event: Event) -> str:
    """How far a study is, in one line."""
    running = [_describe(status) for status in event.runs if status.state is State.RUNNING]
    failed = sum(status.state is State.FAILED for status in event.runs)
    parts = [f"{_ended(event)} of {len(event.runs)} runs finished", *([f"{failed} failed"] if failed else [])]
    return "; ".join([*parts, *running, _left(event)])


class _Lines:
    """Writes lines for output that is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, State] = {}
        self._next_s = time.monotonic() + _LINE_S

    def show(self, event: Event) -> None:
        for status in event.runs:
            name = str(status.run)
            if status.state in (State.WAITING, State.RUNNING) or self._told.get(name) is status.state:
                continue
            self._told[name] = status.state
            self._print(f"{status.state.value} {_describe(status)}")
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LINE_S
            self._print(progress_line(event))

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(event: Event, height: int) -> Group:
    """A line a run; where there are more than `height`, those that matter now."""
    kept = sorted(range(len(event.runs)), key=lambda place: _FIRST.index(event.runs[place].state))[: max(height, 1)]
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "right", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    table.add_row("", "", "", *(Text(heading, style="dim") for heading in ("return", "speed", "")))
    for place in sorted(kept):
        table.add_row(*_row(event.runs[place]))
    left_out = [status for place, status in enumerate(event.runs) if place not in kept]
    summary = f"{_ended(event)} of {len(event.runs)} runs finished, {_left(event)}"
    return Group(table, *([Text(f"and {_count(left_out)}", style="dim")] if left_out else []), Text(summary))


def _row(status: RunStatus) -> tuple[Text | ProgressBar, ...]:
    colour = _COLOURS.get(status.state, "green")
    bar = ProgressBar(
        total=status.run.config.episodes, completed=status.episodes, width=20, complete_style=colour,
        finished_style=colour,
    )  # fmt: skip
    state = status.reason or ("" if status.state is State.RUNNING else status.state.value)
    texts = (_percent(status), _return(status), _speed(status), state)
    return Text(str(status.run), style=colour), bar, *(Text(text, style=colour) for text in texts)


def _describe(status: RunStatus) -> str:
    """`async-base seed 0: 45%, return 130.2, 3.1 times real time`, or why it failed."""
    if status.reason:
        return f"{status.run}: {status.reason}"
    speed = f", {_speed(status)} real time" if status.speed else ""
    return f"{status.run}: {_percent(status)}, return {_return(status)}{speed}"


def _percent(status: RunStatus) -> str:
    return f"{100 * status.episodes // status.run.config.episodes}%"


def _return(status: RunStatus) -> str:
    return "-" if status.return_last20 is None else f"{status.return_last20:.1f}"


def _speed(status: RunStatus) -> str:
    return "-" if status.speed is None else f"{status.speed:.1f}x"


def _ended(event: Event) -> int:
    return sum(status.state in (State.FINISHED, State.COPIED) for status in event.runs)


def _left(event: Event) -> str:
    if event.remaining_s is None:
        return "time left not known yet"
    minutes, seconds = divmod(round(event.remaining_s), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"


def _count(statuses: Sequence[RunStatus]) -> str:
    counts = {state: sum(status.state is state for status in statuses) for state in _FIRST}
    return ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
