"""The numbers of finished runs in three text files, to keep for good what would be gigabytes as run directories.

study.json      the study as plain data, each setting with the timing profile of its runs, if it has any
runs.jsonl      one line a run: setting, seed, the version of offbeat that made it, its summary
episodes.csv    every episode of every run: setting, seed, and the columns of a run's own episodes.csv, unchanged

An unpacked run is a run directory whose records of single cycles are empty: finished like any other, and a report says
the same of it, but does not draw its cycles. More runs come on top of those that are there, none is replaced.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from offbeat.config import RunConfig
from offbeat.directory import CONFIG, PROFILE, SUMMARY, is_finished, write_json
from offbeat.errors import ConfigError, RunError
from offbeat.studies.plan import Study
from offbeat.timing.ledger import EPISODE_COLUMNS
from offbeat.timing.profile import TimingProfile

RUNS = "runs.jsonl"
"""Its presence says that a directory is an archive."""

_STUDY, _EPISODES = "study.json", "episodes.csv"
_CYCLES = "cycles.bin", "stages.bin"
_HEADER = ("setting", "seed", *EPISODE_COLUMNS)


@dataclass(frozen=True)
class ArchivedRun:
    """One run: its configuration, timing profile, summary and episodes, as its directory held them.

    offbeat: the version that made it. episodes: the lines of episodes.csv, without that of the columns.
    """

    setting: str
    config: RunConfig
    profile: Mapping[str, Any]
    offbeat: str
    summary: Mapping[str, Any]
    episodes: tuple[str, ...]

    def unpack(self, directory: Path) -> None:
        """Write the run into an empty directory."""
        write_json(directory / CONFIG, self.config.to_dict() | {"offbeat": self.offbeat})
        TimingProfile.from_dict(dict(self.profile)).save(directory / PROFILE)
        _write(directory / _EPISODES, "\n".join((",".join(EPISODE_COLUMNS), *self.episodes, "")))
        for name in _CYCLES:
            (directory / name).touch()
        write_json(directory / SUMMARY, dict(self.summary))


def pack(study: Study, out: Path, archive: Path) -> int:
    """Add the finished runs of a study in the directory `out` to its archive; returns how many are in it then.

    The archive is empty or has been checked to be the study's. Raises: RunError when it is damaged.
    """
    kept = {(run.setting, run.config.seed): run for run in read_archive(archive)}
    for planned in study.runs():
        if is_finished(out / planned.directory):
            kept.setdefault((planned.setting, planned.seed), _read_run(planned.setting, out / planned.directory))
    order = [setting.name for setting in study.settings]
    runs = sorted(kept.values(), key=lambda run: (order.index(run.setting), run.config.seed))
    if runs:
        _write_archive(study, runs, archive)
    return len(runs)


def find_archives(directory: Path) -> list[Path]:
    """The archives in a directory and below it."""
    return sorted(path.parent for path in directory.rglob(RUNS))


def read_settings(directory: Path) -> dict[str, RunConfig]:
    """The settings of an archive's study by name, those without a run as well. Raises: RunError when it is damaged."""
    if not (directory / RUNS).exists():
        return {}
    try:
        data = json.loads((directory / _STUDY).read_text("utf-8"))
        return {entry["name"]: RunConfig.from_dict(entry["config"]) for entry in data["settings"]}
    except OSError as error:
        raise RunError(f"{error.filename} cannot be read ({error.strerror}): restore the archive.") from error
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise RunError(f"The archive in {directory} is damaged ({error}): restore it.") from error


def read_archive(directory: Path) -> list[ArchivedRun]:
    """The runs of an archive, none where there is nothing. Raises: RunError, one sentence, when it is damaged."""
    if not (directory / RUNS).exists():
        return []
    try:
        settings = {entry["name"]: entry for entry in json.loads((directory / _STUDY).read_text("utf-8"))["settings"]}
        episodes: dict[tuple[str, int], list[str]] = {}
        for setting, seed, line in _split((directory / _EPISODES).read_text("utf-8")):
            episodes.setdefault((setting, seed), []).append(line)
        runs = []
        for line in (directory / RUNS).read_text("utf-8").splitlines():
            run = json.loads(line)
            entry, key = settings[run["setting"]], (run["setting"], int(run["seed"]))
            config, own = RunConfig.from_dict(entry["config"] | {"seed": key[1]}), tuple(episodes.get(key, ()))
            if len(own) != config.episodes:
                raise ValueError(f"{key[0]} seed {key[1]} has {len(own)} of {config.episodes} episodes")
            runs.append(ArchivedRun(key[0], config, entry["profile"], run["offbeat"], run["summary"], own))
    except OSError as error:
        raise RunError(f"{error.filename} cannot be read ({error.strerror}): restore the archive.") from error
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise RunError(f"The archive in {directory} is damaged ({error}): restore it.") from error
    return runs


def _split(text: str) -> Iterator[tuple[str, int, str]]:
    """Setting, seed and the rest of every line of episodes.csv. Raises: ValueError when the columns are others."""
    first, *lines = text.splitlines()
    if tuple(next(csv.reader(StringIO(first)))) != _HEADER:
        raise ValueError(f"{_EPISODES} has other columns than {', '.join(_HEADER)}")
    for line in lines:
        setting, seed, rest = line.split(",", 2)
        yield setting, int(seed), rest


def _read_run(setting: str, directory: Path) -> ArchivedRun:
    data = json.loads((directory / CONFIG).read_text("utf-8"))
    version = str(data.pop("offbeat"))
    _, *episodes = (directory / _EPISODES).read_text("utf-8").splitlines()
    profile, summary = (json.loads((directory / name).read_text("utf-8")) for name in (PROFILE, SUMMARY))
    return ArchivedRun(setting, RunConfig.from_dict(data), profile, version, summary, tuple(episodes))


def _write_archive(study: Study, runs: Iterable[ArchivedRun], archive: Path) -> None:
    first: dict[str, ArchivedRun] = {}
    lines, rows = [], [",".join(_HEADER)]
    for run in runs:
        first.setdefault(run.setting, run)
        facts = {"setting": run.setting, "seed": run.config.seed, "offbeat": run.offbeat, "summary": run.summary}
        lines.append(json.dumps(facts))
        rows += [f"{run.setting},{run.config.seed},{line}" for line in run.episodes]
    settings = [
        {"name": own.name, "config": own.config.to_dict()}
        | ({"profile": first[own.name].profile} if own.name in first else {})
        for own in study.settings
    ]
    compare = [list(pair) for pair in study.compare]
    about = {"name": study.name, "question": study.question, "compare": compare, "settings": settings}
    archive.mkdir(parents=True, exist_ok=True)
    # The runs last: before them nobody misses the episodes.
    _write(archive / _STUDY, json.dumps(about, indent=1) + "\n")
    _write(archive / _EPISODES, "\n".join((*rows, "")))
    _write(archive / RUNS, "\n".join((*lines, "")))


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
