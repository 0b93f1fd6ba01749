"""The three record files of a run: their columns, how they are appended to and how they are read.

episodes.csv   one line an episode, `EpisodeRecord`
cycles.bin     one row a cycle,     `CYCLE_DTYPE`
stages.bin     one row a stage run, `STAGE_DTYPE`
"""

from __future__ import annotations

import csv
from collections.abc import Reversible, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbeat.errors import RunError

CYCLE_DTYPE = np.dtype(
    [
        ("episode", "<i4"),
        ("step", "<i4"),
        ("captured_s", "<f8"),
        ("observed_s", "<f8"),
        ("act_begin_s", "<f8"),
        ("act_end_s", "<f8"),
        ("sent_s", "<f8"),
        ("deadline_s", "<f8"),
        ("lateness_s", "<f4"),
        ("response_s", "<f4"),
        ("reward", "<f4"),
        ("mask_share", "<f4"),
        ("weights_version", "<i4"),
        ("weights_age_s", "<f4"),
        ("slack_s", "<f4"),
        ("robot_s", "<f4"),
        ("camera_s", "<f4"),
        ("cause", "u1"),
    ]
)
"""One cycle: the stamps (s, run clock) of the observation that was answered, of the answer and of the deadline that
ended the cycle; weights_age_s is from the publication of the weights to the beginning of ACT, NaN before the first;
slack_s from the beginning of the waiting to the deadline, negative when the work was late; robot_s, camera_s what
reading and commanding the robot and what reading the camera took; cause a `Cause`, 0 where the deadline was kept."""

STAGE_DTYPE = np.dtype([("stage", "u1"), ("begin_s", "<f8"), ("end_s", "<f8")])
"""One run of a stage: its index in `list(Stage)`, begin and end (s, run clock)."""

_EPISODES = "episodes.csv"


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One line of episodes.csv.

    robot_s: the clock at the episode's end, resets included. training_s: time in episodes so far, resets left out.
    updates: total so far. missed: deadlines missed in the episode. response_ms_median: median response time (ms).
    lateness_ms_p99: what 99% of the cycles' ends were not later than (ms).
    Losses, temperature and entropy: means over the episode's updates, NaN (an empty cell) when there were none.
    """

    episode: int
    steps: int
    return_: float
    robot_s: float
    training_s: float
    updates: int
    missed: int
    response_ms_median: float
    lateness_ms_p99: float
    critic_loss: float
    actor_loss: float
    temperature: float
    entropy: float


EPISODE_COLUMNS = tuple(name.rstrip("_") for name in EpisodeRecord.__dataclass_fields__)
"""Columns of episodes.csv."""

_INTEGERS = ("episode", "steps", "updates", "missed")


class Rows:
    """Rows of one structured type: appended to a file at each flush, or kept in memory without one."""

    def __init__(self, path: Path | None, dtype: np.dtype[Any]) -> None:
        """Rows of `dtype` in the file `path`, or in memory when it is None."""
        self._path = path
        self._dtype = dtype
        self._pending: list[tuple[Any, ...]] = []
        self._kept: list[NDArray[Any]] = []
        self._flushed = 0
        self.append = self._pending.append  # bound once: it is called for every stage of every cycle

    def waiting(self) -> Reversible[tuple[Any, ...]]:
        """The rows appended since the last flush."""
        return self._pending

    def flush(self) -> None:
        """Move the waiting rows to the file."""
        rows = np.array(self._pending, self._dtype)
        self._pending.clear()
        self._flushed += len(rows)
        if self._path is None:
            self._kept.append(rows)
        else:
            with self._path.open("ab") as file:
                file.write(rows.tobytes())

    def read(self) -> NDArray[Any]:
        """All rows so far (n,)."""
        self.flush()
        if self._path is not None:
            return _read_rows(self._path, self._dtype)
        return np.concatenate([np.empty(0, self._dtype), *self._kept])

    def count(self) -> int:
        """Rows so far, waiting ones included."""
        return self._flushed + len(self._pending)

    def check(self, count: int) -> None:
        """Raises: RunError when there are fewer than `count` rows."""
        if count:
            check_count(self._path or "The ledger's memory", len(self.read()), count)

    def truncate(self, count: int) -> None:
        """Forget everything after the first `count` rows. Raises: RunError when there are fewer."""
        self.check(count)
        self._pending.clear()
        self._flushed = count
        if self._path is None:
            self._kept = [self.read()[:count]]
        elif self._path.exists():
            with self._path.open("r+b") as file:
                file.truncate(count * self._dtype.itemsize)


def append_episodes(directory: Path, records: Sequence[EpisodeRecord]) -> None:
    """Append lines to episodes.csv, after the line of column names when it is new. NaN becomes an empty cell."""
    path = directory / _EPISODES
    is_new = not path.exists() or path.stat().st_size == 0
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(EPISODE_COLUMNS)
        writer.writerows([["" if value != value else value for value in astuple(record)] for record in records])


def truncate_episodes(directory: Path, count: int) -> list[EpisodeRecord]:
    """Keep the first `count` lines of episodes.csv and return them. Raises: RunError when there are fewer."""
    path = directory / _EPISODES
    if count == 0 and not path.exists():
        return []
    # Only what stays is parsed: a run that was killed while writing may leave part of a line after it.
    kept = _read_bytes(path).splitlines(keepends=True)[: count + 1]
    check_count(path, len(kept) - 1, count)
    table = _parse_episodes(path, b"".join(kept).decode())
    with path.open("r+b") as file:
        file.truncate(sum(len(line) for line in kept))
    return [EpisodeRecord(*row) for row in zip(*(table[name].tolist() for name in EPISODE_COLUMNS), strict=True)]


def check_count(where: object, held: int, needed: int) -> None:
    """Raises: RunError when `where` holds fewer rows than a checkpoint needs."""
    if held < needed:
        raise RunError(
            f"{where} holds {held} rows and the checkpoint needs {needed}: the records are damaged, start a new run."
        )


def read_cycles(directory: Path) -> NDArray[Any]:
    """The cycles of a run, `CYCLE_DTYPE`. Raises: RunError when the file is missing or damaged."""
    return _read_rows(directory / "cycles.bin", CYCLE_DTYPE)


def read_stages(directory: Path) -> NDArray[Any]:
    """The stages of a run, `STAGE_DTYPE`. Raises: RunError when the file is missing or damaged."""
    return _read_rows(directory / "stages.bin", STAGE_DTYPE)


def read_episodes(directory: Path) -> dict[str, NDArray[Any]]:
    """The columns of episodes.csv (n,): int64 for counts, float64 else, NaN for an empty cell.

    Raises: RunError when the file is missing or damaged.
    """
    path = directory / _EPISODES
    return _parse_episodes(path, _read_bytes(path).decode(errors="replace"))


def _parse_episodes(path: Path, text: str) -> dict[str, NDArray[Any]]:
    try:
        rows = list(csv.DictReader(text.splitlines()))
        return {
            name: np.array([int(row[name]) for row in rows], np.int64)
            if name in _INTEGERS
            else np.array([float(row[name] or "nan") for row in rows], np.float64)
            for name in EPISODE_COLUMNS
        }
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}): a line lacks a column or a number.") from error


def _read_rows(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    data = _read_bytes(path)
    # A run that was killed while writing may leave part of a row: what came before it is whole.
    return np.frombuffer(data[: len(data) - len(data) % dtype.itemsize], dtype)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): give the directory of a run.") from error
