"""What can be seen of a study's runs from outside, and the time that is left."""

from __future__ import annotations

import heapq
import json
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from statistics import fmean

from offbeat.config import RunConfig
from offbeat.directory import SUMMARY, is_finished
from offbeat.studies.plan import StudyRun
from offbeat.timing.ledger import EPISODE_COLUMNS

_SHORT = 20  # episodes whose mean return is shown
_PACE_S = 60.0  # the speed of a run is that of its last minute
_RETURN = EPISODE_COLUMNS.index("return")
_STEP_SAMPLES = 10  # acting and rendering take about as long as this many samples of an update, measured


class State(Enum):
    """Where a run stands."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    COPIED = "copied"
    FAILED = "failed"


@dataclass(frozen=True)
class RunStatus:
    """A run as it stands.

    episodes: finished so far. return_last20: mean return of the last 20, None before the first. speed: robot seconds
    in episodes per second of ours, None where it is not known. reason: why it failed, else "".
    """

    run: StudyRun
    state: State
    episodes: int = 0
    return_last20: float | None = None
    speed: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Event:
    """A study as it stands. runs: in the study's order. remaining_s: of our time (s), None before it is known."""

    runs: tuple[RunStatus, ...]
    remaining_s: float | None


@dataclass
class _Sight:
    """What was seen of one run; sightings: when (monotonic, s) there were how many episodes."""

    state: State = State.WAITING
    reason: str = ""
    size: int = -1
    episodes: int = 0
    return_last20: float | None = None
    wall_s: float | None = None
    sightings: deque[tuple[float, int]] = field(default_factory=deque)


class Watch:
    """Reads the records of a study's runs as they grow."""

    def __init__(self, runs: Sequence[StudyRun], out: Path, copied: Iterable[StudyRun] = ()) -> None:
        """out: the study's directory. Runs that are finished there count as such, or as copied."""
        self._out = out
        self._sights = {run: _Sight() for run in runs}
        copied = set(copied)
        for run in runs:
            if is_finished(out / run.directory):
                self.ended(run, None)
                if run in copied:
                    self._sights[run].state = State.COPIED

    def waiting(self) -> list[StudyRun]:
        """The runs that are neither begun nor ended in this process."""
        return [run for run, sight in self._sights.items() if sight.state is State.WAITING]

    def failed(self) -> dict[StudyRun, str]:
        """Why which run failed."""
        return {run: sight.reason for run, sight in self._sights.items() if sight.state is State.FAILED}

    def finished(self) -> tuple[StudyRun, ...]:
        """The runs that have their summaries."""
        ended = (State.FINISHED, State.COPIED)
        return tuple(run for run, sight in self._sights.items() if sight.state in ended)

    def started(self, run: StudyRun) -> None:
        """A run is being carried out from now on."""
        self._sights[run].state = State.RUNNING

    def ended(self, run: StudyRun, reason: str | None) -> None:
        """A run has ended; reason: why it failed, or None."""
        sight, summary = self._sights[run], self._out / run.directory / SUMMARY
        if reason is None and summary.exists():
            data = json.loads(summary.read_text("utf-8"))
            sight.state, sight.episodes = State.FINISHED, int(data["episodes"])
            sight.return_last20, sight.wall_s = data["return_last20"], data["wall_s"]
        else:
            sight.state, sight.reason = State.FAILED, reason or "it ended without a summary"

    def look(self, jobs: int, elsewhere: Mapping[StudyRun, tuple[int, float | None]] | None = None) -> Event:
        """Read what the running runs have recorded. jobs: runs at a time.

        elsewhere: episodes and return of the runs whose records are not in the study's directory yet.
        """
        now_s = time.monotonic()
        for run, sight in self._sights.items():
            if sight.state is not State.RUNNING:
                continue
            if elsewhere is None:
                _read_episodes(self._out / run.directory / "episodes.csv", sight)
            elif run in elsewhere:
                sight.episodes, sight.return_last20 = elsewhere[run]
            if sight.sightings and sight.episodes < sight.sightings[-1][1]:
                sight.sightings.clear()  # it went back to its checkpoint
            if not sight.sightings or sight.sightings[-1][1] != sight.episodes:
                sight.sightings.append((now_s, sight.episodes))
            while len(sight.sightings) > 2 and sight.sightings[1][0] < now_s - _PACE_S:
                sight.sightings.popleft()
        statuses = tuple(
            RunStatus(run, s.state, s.episodes, s.return_last20, _speed(run, s), s.reason)
            for run, s in self._sights.items()
        )
        return Event(statuses, _remaining_s(statuses, jobs))


def workload(config: RunConfig) -> float:
    """How much a run has to compute, in samples of an update times pixels; only ratios mean something."""
    steps = config.episodes * config.env.episode_steps
    if config.dry:
        return float(steps)
    updates = config.max_updates_per_step if config.schedule == "asynchronous" else 1.0
    return steps * config.env.height * config.env.width * (_STEP_SAMPLES + updates * config.sac.batch_size)


def _read_episodes(path: Path, sight: _Sight) -> None:
    """Count the whole lines of episodes.csv and average the last returns; nothing where nothing was added."""
    try:
        size = path.stat().st_size
        if size == sight.size:
            return
        lines = path.read_bytes().split(b"\n")[1:-1]  # neither the names of the columns nor a line half written
    except OSError:
        return  # not begun yet
    sight.size, sight.episodes = size, len(lines)
    if lines:
        sight.return_last20 = fmean(float(line.split(b",")[_RETURN] or b"nan") for line in lines[-_SHORT:])


def _speed(run: StudyRun, sight: _Sight) -> float | None:
    """Robot seconds in episodes per second of ours: of the whole run where it has finished, else of late."""
    episode_s = run.config.env.episode_s
    if sight.wall_s is not None:
        return run.config.episodes * episode_s / max(sight.wall_s, 1e-3)
    if len(sight.sightings) < 2:
        return None
    (then_s, before), (now_s, episodes) = sight.sightings[0], sight.sightings[-1]
    return (episodes - before) * episode_s / max(now_s - then_s, 1e-3)


def _remaining_s(statuses: Sequence[RunStatus], jobs: int) -> float | None:
    """Our time to the end of all runs (s), from the speeds seen; None before there are any.

    A setting without a speed is as fast as the others, work for work.
    """
    speeds: dict[str, list[float]] = {}
    for states in (State.FINISHED, State.COPIED), (State.RUNNING,):
        seen = [status for status in statuses if status.state in states and status.speed]
        for setting in {status.run.setting for status in seen} - speeds.keys():
            speeds[setting] = [status.speed for status in seen if status.run.setting == setting and status.speed]
    rates = [
        workload(status.run.config) / (status.run.config.minutes * 60) * fmean(speeds[status.run.setting])
        for status in statuses
        if status.run.setting in speeds
    ]
    if not rates:
        return None
    free_s = [0.0] * jobs
    for state in State.RUNNING, State.WAITING:
        for status in (status for status in statuses if status.state is state):
            config = status.run.config
            speed = speeds.get(status.run.setting)
            whole_s = config.minutes * 60 / fmean(speed) if speed else workload(config) / fmean(rates)
            left_s = whole_s * (1 - status.episodes / config.episodes)
            heapq.heappush(free_s, heapq.heappop(free_s) + max(0.0, left_s))
    return max(free_s)
