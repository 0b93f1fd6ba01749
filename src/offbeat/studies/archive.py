"""The numbers of finished runs in three text files, to keep for good what would be gigabytes as run directories.

study.json      the study as plain data, each setting with the timing profile of its runs, if it has any
runs.jsonl      one line a run: setting, seed, the version of offbeat that made it, its summary
episodes.csv    every episode of every run: setting, seed, and the columns of a run's own episodes.csv, unchanged

An unpacked run is a run directory whose records of single cycles are empty: finished like any other, and a report says
the same of it, but does not draw its cycles. More runs come on top of those that are there, none is replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from offbeat.config import RunConfig
from offbeat.directory import CONFIG, PROFILE, SUMMARY, is_finished, write_json, write_whole
from offbeat.errors import ConfigError, RunError
from offbeat.studies.plan import Study, StudyRun
from offbeat.timing.ledger import EPISODE_COLUMNS
from offbeat.timing.profile import TimingProfile

RUNS = "runs.jsonl"
"""Its presence says that a directory is an archive."""

_STUDY, _EPISODES = "study.json", "episodes.csv"
_CYCLES = "cycles.bin", "stages.bin"
_HEADER = ",".join(("setting", "seed", *EPISODE_COLUMNS))


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
        write_whole(directory / _EPISODES, "\n".join((",".join(EPISODE_COLUMNS), *self.episodes, "")))
        for name in _CYCLES:
            (directory / name).touch()
        write_json(directory / SUMMARY, dict(self.summary))


@dataclass(frozen=True)
class Archive:
    """What an archive holds; nothing, where there is none yet.

    settings: of its study by name, those without a run as well, with seed 0. runs: in the order of settings and seeds.
    """

    settings: Mapping[str, RunConfig] = field(default_factory=dict)
    runs: tuple[ArchivedRun, ...] = ()

    @property
    def profiles(self) -> dict[str, Mapping[str, Any]]:
        """The timing profile of every setting that has a run."""
        return {run.setting: run.profile for run in self.runs}


def pack(study: Study, out: Path, directory: Path) -> int:
    """Add the finished runs of a study in `out` to its archive in `directory`; returns how many are in it then.

    The archive is empty or has been checked to be the study's. Raises: RunError when it is damaged.
    """
    kept = {(run.setting, run.config.seed): run for run in read_archive(directory).runs}
    for planned in study.runs():
        if (planned.setting, planned.seed) not in kept and is_finished(out / planned.directory):
            kept[planned.setting, planned.seed] = _read_run(planned.setting, out / planned.directory)
    order = [setting.name for setting in study.settings]
    runs = sorted(kept.values(), key=lambda run: (order.index(run.setting), run.config.seed))
    if runs:
        _write(study, runs, directory)
    return len(runs)


def unpack(directory: Path, out: Path) -> None:
    """Write an archive into the empty directory `out`, as a study's directory of its runs. Raises: RunError."""
    archive = read_archive(directory)
    if not archive.runs:
        raise RunError(f"The archive in {directory} holds no run: restore it.")
    seeds = sorted({run.config.seed for run in archive.runs})
    write_json(out / _STUDY, {"seeds": seeds} | json.loads((directory / _STUDY).read_text("utf-8")))
    for run in archive.runs:
        place = out / StudyRun(run.setting, run.config.seed, run.config).directory
        place.mkdir(parents=True)
        run.unpack(place)


def find_archives(directory: Path) -> list[Path]:
    """The archives in a directory and below it."""
    return sorted(path.parent for path in directory.rglob(RUNS))


def read_archive(directory: Path) -> Archive:
    """Read an archive. Raises: RunError, one sentence, when it is damaged or the directory is something else's."""
    if not (directory / RUNS).exists():
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise RunError(f"{directory} is there and holds no archive: give an empty or a new directory as --archive.")
        return Archive()
    try:
        entries = {entry["name"]: entry for entry in json.loads((directory / _STUDY).read_text("utf-8"))["settings"]}
        settings = {name: RunConfig.from_dict(entry["config"]) for name, entry in entries.items()}
        episodes: dict[tuple[str, int], list[str]] = {}
        for name, seed, line in _split((directory / _EPISODES).read_text("utf-8")):
            episodes.setdefault((name, seed), []).append(line)
        runs = []
        for line in (directory / RUNS).read_text("utf-8").splitlines():
            run = json.loads(line)
            name, seed = run["setting"], int(run["seed"])
            config, own = replace(settings[name], seed=seed), tuple(episodes.get((name, seed), ()))
            if len(own) != config.episodes:
                raise ValueError(f"{name} seed {seed} has {len(own)} of {config.episodes} episodes")
            runs.append(ArchivedRun(name, config, entries[name]["profile"], run["offbeat"], run["summary"], own))
    except OSError as error:
        raise RunError(f"{error.filename} cannot be read ({error.strerror}): restore the archive.") from error
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise RunError(f"The archive in {directory} is damaged ({error}): restore it.") from error
    return Archive(settings, tuple(runs))


def _split(text: str) -> Iterator[tuple[str, int, str]]:
    """Setting, seed and the rest of every line of episodes.csv. Raises: ValueError when the columns are others."""
    first, *lines = text.splitlines()
    if first != _HEADER:
        raise ValueError(f"{_EPISODES} has other columns than {_HEADER.replace(',', ', ')}")
    for line in lines:
        setting, seed, rest = line.split(",", 2)
        yield setting, int(seed), rest


def _read_run(setting: str, directory: Path) -> ArchivedRun:
    data = json.loads((directory / CONFIG).read_text("utf-8"))
    version = str(data.pop("offbeat"))
    _, *episodes = (directory / _EPISODES).read_text("utf-8").splitlines()
    profile, summary = (json.loads((directory / name).read_text("utf-8")) for name in (PROFILE, SUMMARY))
    return ArchivedRun(setting, RunConfig.from_dict(data), profile, version, summary, tuple(episodes))


def _write(study: Study, runs: Sequence[ArchivedRun], directory: Path) -> None:
    about, lines, rows = study.to_dict(), [], [_HEADER]
    profiles = {run.setting: {"profile": run.profile} for run in runs}
    about["settings"] = [entry | profiles.get(entry["name"], {}) for entry in about["settings"]]
    for run in runs:
        facts = {"setting": run.setting, "seed": run.config.seed, "offbeat": run.offbeat, "summary": run.summary}
        lines.append(json.dumps(facts))
        rows += [f"{run.setting},{run.config.seed},{line}" for line in run.episodes]
    directory.mkdir(parents=True, exist_ok=True)
    # The runs last: before them nobody misses the episodes.
    write_whole(directory / _STUDY, json.dumps(about, indent=1) + "\n")
    write_whole(directory / _EPISODES, "\n".join((*rows, "")))
    write_whole(directory / RUNS, "\n".join((*lines, "")))
