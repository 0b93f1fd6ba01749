"""Reads finished and unfinished run directories for the report; trains nothing, writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbeat.config import RunConfig
from offbeat.errors import ConfigError, RunError
from offbeat.timing.ledger import CYCLE_DTYPE, STAGE_DTYPE, read_episodes
from offbeat.timing.profile import Stage
from offbeat.timing.summary import missed_by_cause, timing_summary

FILM_TYPES = {".webm": "video/webm", ".webp": "image/webp", ".gif": "image/gif"}
"""Kinds of film a run directory may hold, by suffix, and their media types."""

_SHORT = 20  # episodes in "first" and "last" of the table
_RECORDED = ("response_ms", "missed_by_cause", "timing")  # columns that take reading every cycle


@dataclass(frozen=True)
class RunRecord:
    """What one run left behind.

    directory: where it was read from. config: how it was run.
    summary: every column of the tables; taken from summary.json, or worked out of the records of an unfinished run.
    episodes: one array per column of episodes.csv, one entry per episode.
    cycles, stages: the structured rows of cycles.bin and stages.bin, mapped: what is not looked at is not read. Of a
    run out of an archive none.
    film: a film of the learned policy, or None. finished: whether the run wrote its summary.
    """

    directory: Path
    config: RunConfig
    summary: Mapping[str, Any]
    episodes: Mapping[str, NDArray[Any]]
    cycles: NDArray[np.void]
    stages: NDArray[np.void]
    film: Path | None
    finished: bool


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed. label: short, unique in the report."""

    label: str
    runs: tuple[RunRecord, ...]

    @property
    def config(self) -> RunConfig:
        """The configuration the runs share, with the seed of the first."""
        return self.runs[0].config

    @property
    def schedule(self) -> str:
        """Name of the schedule the runs share."""
        return self.config.schedule

    def column(self, name: str) -> NDArray[np.float64]:
        """A column of episodes.csv, a row per run and as far as the shortest of them went: (R, E)."""
        count = min(len(run.episodes[name]) for run in self.runs)
        return np.stack([np.asarray(run.episodes[name][:count], np.float64) for run in self.runs])


def has_cycles(group: Group) -> bool:
    """Whether single cycles of a group's runs can be drawn: of any that is not out of an archive."""
    return any(run.cycles.size > 0 for run in group.runs)


def read_run(directory: Path | str) -> RunRecord:
    """Read one run directory. Raises: RunError, one sentence, when it is missing, empty or damaged."""
    directory = Path(directory)
    if not directory.is_dir():
        raise RunError(f"There is no directory {directory}: give that of a run, a study or an archive.")
    config = _read_config(directory)
    episodes = read_episodes(directory)
    cycles, stages = _map_rows(directory / "cycles.bin", CYCLE_DTYPE), _map_rows(directory / "stages.bin", STAGE_DTYPE)
    if stages.size and int(stages["stage"].max()) >= len(Stage):
        raise RunError(
            f"{directory / 'stages.bin'} is damaged (no stage has the number it names): train the run again."
        )
    if len(episodes["episode"]) == 0:
        raise RunError(f"The run in {directory} has not finished an episode yet: wait for one, or `offbeat resume` it.")
    saved = _read_json(directory / "summary.json") if (directory / "summary.json").is_file() else {}
    facts = _facts(config, episodes)
    if not set(_RECORDED) <= set(saved):  # a finished run has worked them out itself
        facts |= _record_facts(cycles, stages)
    summary = facts | saved
    film = next((path for suffix in FILM_TYPES if (path := directory / f"film{suffix}").is_file()), None)
    return RunRecord(directory, config, summary, episodes, cycles, stages, film, finished=bool(saved))


def read_runs(directories: Iterable[Path | str]) -> tuple[RunRecord, ...]:
    """Read several run directories, in the order given, each once. Raises: RunError."""
    unique = list(dict.fromkeys(Path(directory).resolve() for directory in directories))
    if not unique:
        raise RunError("No run directory was given: name at least one.")
    return tuple(read_run(directory) for directory in unique)


def group_runs(runs: Sequence[RunRecord]) -> tuple[Group, ...]:
    """Gather runs that share everything but the seed, in order of schedule, cycle time and appearance."""
    gathered: dict[str, list[RunRecord]] = {}
    for run in runs:
        shared = run.config.to_dict() | {"seed": None}
        gathered.setdefault(json.dumps(shared, sort_keys=True), []).append(run)
    order = ("sequential", "reactive", "asynchronous")
    parts = sorted(gathered.values(), key=lambda g: (order.index(g[0].config.schedule), g[0].config.env.cycle_s))
    labels = _labels([part[0].config for part in parts])
    return tuple(Group(label, tuple(part)) for label, part in zip(labels, parts, strict=True))


def _labels(configs: Sequence[RunConfig]) -> list[str]:
    """Schedule and cycle time, and of the rest only what is needed to tell the groups apart."""
    details = [[c.schedule, f"{c.env.cycle_s * 1e3:g} ms"] for c in configs]
    extras = [_extras(c) for c in configs]
    for values in zip(*extras, strict=True):
        labels = [", ".join(words) for words in details]
        # Only where it separates two groups that still look alike.
        for label in {name for name in labels if labels.count(name) > 1}:
            alike = [i for i, name in enumerate(labels) if name == label]
            if len({values[i] for i in alike}) > 1:
                for i in alike:
                    details[i].append(values[i])
    labels = [", ".join(words) for words in details]
    return [
        f"{name} ({labels[:i].count(name) + 1})" if labels.count(name) > 1 else name for i, name in enumerate(labels)
    ]


def _extras(config: RunConfig) -> tuple[str, ...]:
    """What may tell two runs of one schedule and cycle apart, the most telling first."""
    return (
        f"{config.env.width}x{config.env.height}",
        config.profile,
        f"{config.preset} preset",
        f"{config.minutes:g} min",
        f"cap {config.max_updates_per_step:g}",
        "learning in resets" if config.learn_in_resets else "no learning in resets",
        f"batch {config.sac.batch_size}",
    )


def _read_config(directory: Path) -> RunConfig:
    data = _read_json(directory / "config.json")
    data.pop("offbeat", None)
    try:
        return RunConfig.from_dict(data)
    except ConfigError as error:
        raise RunError(f"The configuration in {directory} cannot be used: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        where = f"The directory {path.parent} holds no run ({path.name} is missing)"
        raise RunError(f"{where}: give that of a run, a study or an archive.") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}): train the run again.") from error
    if not isinstance(data, dict):
        raise RunError(f"{path} holds no JSON object: train the run again.")
    return data


def _facts(config: RunConfig, episodes: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The table's columns out of configuration and episodes alone; a finished run's own summary takes precedence."""
    returns = np.asarray(episodes["return"], float)
    return {
        "setting": config.setting,
        "schedule": config.schedule,
        "scale": config.scale,
        "preset": config.preset,
        "cycle_s": config.env.cycle_s,
        "profile": config.profile,
        "seed": config.seed,
        "minutes": config.minutes,
        "dry": config.dry,
        "clock": config.clock,
        "steps": int(np.sum(episodes["steps"])),
        "episodes": len(returns),
        "updates": int(episodes["updates"][-1]),
        "return_first20": float(np.mean(returns[:_SHORT])),
        "return_last20": float(np.mean(returns[-_SHORT:])),
        "return_mean": float(np.mean(returns)),
        "missed_deadlines": int(np.sum(episodes["missed"])),
        "robot_s": float(episodes["robot_s"][-1]),
        "wall_s": None,
    }


def _record_facts(cycles: NDArray[np.void], stages: NDArray[np.void]) -> dict[str, Any]:
    """The table's columns that take reading every cycle."""
    timing = timing_summary(cycles, stages)
    return {
        "response_ms": {name: timing["response_ms"][name] for name in ("p50", "p99", "max")},
        "missed_by_cause": missed_by_cause(cycles),
        "timing": timing,
    }


def _map_rows(path: Path, dtype: np.dtype[Any]) -> NDArray[np.void]:
    """The whole rows of a record file, mapped into memory. Raises: RunError."""
    try:
        count = path.stat().st_size // dtype.itemsize
        # A run that was killed while writing may leave part of a row; a file without rows cannot be mapped.
        return np.memmap(path, dtype, "r", shape=(count,)) if count else np.empty(0, dtype)
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): give the directory of a run.") from error
