"""The progress of a run on the terminal: a bar with the time left, and what the last episode brought."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from offbeat.config import RunConfig
from offbeat.timing.ledger import EpisodeRecord

_LINES = 20  # lines a whole run writes where there is no terminal


@contextmanager
def show_progress(console: Console, config: RunConfig) -> Iterator[Callable[[EpisodeRecord], None]]:
    """Yields what to call with the record of every episode; without a terminal it writes a line now and then."""
    if not console.is_terminal:
        every = max(1, config.episodes // _LINES)

        def print_line(record: EpisodeRecord) -> None:
            if (record.episode + 1) % every == 0 or record.episode + 1 == config.episodes:
                line = f"{record.episode + 1}/{config.episodes} episodes, {describe(record)}"
                console.print(line, highlight=False, soft_wrap=True)

        yield print_line
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # On the wall clock nothing is drawn within a cycle: the bar moves between episodes only.
    by_itself = config.clock == "virtual"
    with Progress(*columns, console=console, refresh_per_second=4, auto_refresh=by_itself) as progress:
        task = progress.add_task("building", total=config.episodes)

        def advance(record: EpisodeRecord) -> None:
            progress.update(task, completed=record.episode + 1, description=describe(record), refresh=not by_itself)

        yield advance


def describe(record: EpisodeRecord) -> str:
    """Return, response time, updates and deadlines of an episode, in a few words."""
    lateness = f"late {record.lateness_ms_p99:.2f} ms (p99), {record.missed} missed"
    response = f"response {record.response_ms_median:5.1f} ms"
    return f"return {record.return_:6.1f}  {response}  {record.updates:,} updates  {lateness}"
