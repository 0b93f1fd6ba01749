"""A study's directory: what lies in it, and what of it fits the study that is to go on in it.

study.json              the study as plain data, for the report; settings and seeds only ever come on top
<setting>/seed-<n>/     an ordinary run directory
<setting>/seed-<n>.log  what a run that failed said
report/                 the report
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from offbeat import __version__
from offbeat.build import resolve_compute
from offbeat.config import ComputeConfig, RunConfig
from offbeat.directory import CHECKPOINT, CONFIG, SUMMARY, is_finished, read_config, read_profile, tidy, write_whole
from offbeat.errors import ConfigError, RunError, UserError
from offbeat.studies.archive import Archive, find_archives, read_archive
from offbeat.studies.plan import Study, StudyRun, StudySetting
from offbeat.timing.profile import load_profile

STUDY = "study.json"
_ARRIVING = ".arriving"  # ends the name of a run directory that is not whole yet


@contextmanager
def sole_study(out: Path) -> Iterator[None]:
    """Hold the study's directory, made where it is missing, for this process; however that ends, it is let go.

    A directory that is still empty then, because the study was refused, is taken away again.

    Raises: RunError when another process holds it, or it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"{out} cannot be made a study's directory ({error.strerror}): give another --out.") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            with suppress(OSError):  # it is not empty
                out.rmdir()
    except BlockingIOError as error:
        raise RunError(f"The study in {out} is in use by another process: wait until it ends.") from error
    finally:
        os.close(held)


def open_study(study: Study, out: Path, archive: Path | None = None) -> Study:
    """Begin the study in `out`, or go on with the one that is there; returns it as it is to be run.

    archive: where numbers of its runs may be. What `auto` in a configuration's `compute` became here, or where the
    archive was made, is saved, so that all runs are computed alike, wherever the study goes on. More seeds and more
    settings come on top. Raises: RunError, one sentence, when a setting was changed or is gone, when a run is another
    than the study's, or when something is damaged. Nothing is written before that.
    """
    path = out / STUDY
    saved = _read(path) if path.exists() else {"seeds": [], "settings": {}}
    if archive is not None and archive.resolve() == out.resolve():
        raise RunError(f"{archive} is the study's own directory: give another --archive.")
    archived = read_archive(archive) if archive is not None else Archive()
    seeds = sorted({*study.seeds, *saved["seeds"]})
    computed = {**archived.settings, **saved["settings"]}
    study = replace(study, settings=tuple(_settle(setting, computed) for setting in study.settings))
    _check_settings(study, saved["settings"], f"{out} holds", "--out")
    _check_settings(study, archived.settings, f"{archive} holds", "--archive")
    for name, profile in archived.profiles.items():
        config = archived.settings[name]
        if profile["stages"] != _wanted_profile(config):
            raise RunError(
                f"{archive} holds the setting {name!r} with another timing profile {config.profile!r} than that is "
                "now: give another --archive."
            )
    for run in study.runs():
        _check_run(run, out)
    for half in out.glob(f"*/*{_ARRIVING}"):  # of a study that was killed
        shutil.rmtree(half)
    data = {"offbeat": __version__, "seeds": seeds} | study.to_dict()
    write_whole(path, json.dumps(data, indent=1) + "\n")
    return study


def copy_runs(runs: Iterable[StudyRun], out: Path, finished: Mapping[str, Finished]) -> set[StudyRun]:
    """Copy the runs that have not begun here and have finished elsewhere (`find_finished`); returns which.

    The same configuration and timing profile give the same bytes, wherever they are run.
    """
    copied = set()
    for run in runs:
        source, target = finished.get(_key(run.config)), out / run.directory
        if source is None or (target / CONFIG).exists() or source.stages() != _wanted_profile(run.config):
            continue
        with arriving(target) as temporary:
            source.copy(temporary)
        copied.add(run)
    return copied


@dataclass(frozen=True)
class Finished:
    """A finished run somewhere else. stages: of its timing profile. copy: write it into an empty directory."""

    stages: Callable[[], dict[str, Any]]
    copy: Callable[[Path], object]


@contextmanager
def arriving(target: Path) -> Iterator[Path]:
    """Yields an empty directory that becomes the run directory `target` as a whole, instead of what was begun there."""
    temporary = target.with_name(f"{target.name}{_ARRIVING}")
    temporary.mkdir(parents=True)
    yield temporary
    shutil.rmtree(target, ignore_errors=True)
    os.rename(temporary, target)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
        return {
            "seeds": [int(seed) for seed in data["seeds"]],
            "settings": {entry["name"]: RunConfig.from_dict(entry["config"]) for entry in data["settings"]},
        }
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{path} does not describe a study ({error}): give another --out.") from error


def _settle(setting: StudySetting, saved: Mapping[str, RunConfig]) -> StudySetting:
    """The setting with every `auto` of `compute` replaced by what was saved, or else by what this machine can do."""
    config = setting.config
    before = saved.get(setting.name)
    if before is not None:
        chosen = {f.name: getattr(before.compute, f.name) for f in fields(ComputeConfig)}
        autos = {name: value for name, value in chosen.items() if getattr(config.compute, name) == "auto"}
        return replace(setting, config=replace(config, compute=replace(config.compute, **autos)))
    return replace(
        setting, config=resolve_compute(config, load_profile(config.profile, config.setting, config.schedule))
    )


def _check_settings(study: Study, saved: Mapping[str, RunConfig], holds: str, option: str) -> None:
    """Raises: RunError when a saved setting is another now, or gone. holds: how the sentence begins."""
    now = {setting.name: setting.config for setting in study.settings}
    for name, config in saved.items():
        if name not in now:
            raise RunError(
                f"{holds} the setting {name!r}, which the study has no more: put it back or give another {option}."
            )
        if now[name] != config:
            raise RunError(
                f"{holds} the setting {name!r} with {difference(config, now[name])}: "
                f"change it back or give another {option}."
            )


def _check_run(run: StudyRun, out: Path) -> None:
    """Raises: RunError when the directory of a run holds another one, or a damaged one; tidies a finished one."""
    directory = out / run.directory
    if not (directory / CONFIG).exists():
        return
    try:
        held, profile = read_config(directory), _profile_of(directory)
    except UserError:
        if (directory / CHECKPOINT).exists():
            raise
        return  # it was killed while it began, and will begin anew
    if held != run.config:
        raise RunError(
            f"{directory} holds a run with {difference(held, run.config)}: change it back or give another --out."
        )
    if profile != _wanted_profile(run.config):
        raise RunError(
            f"{directory} holds a run with another timing profile {run.config.profile!r} than that is now: "
            "give another --out."
        )
    if is_finished(directory):
        tidy(directory, run.config)


def difference(before: RunConfig, now: RunConfig) -> str:
    """The first option that is not the same, and its two values."""
    one, other = _flat(before.to_dict()), _flat(now.to_dict())
    name = next(name for name in one if one[name] != other[name])
    return f"{name} {one[name]!r}, not {other[name]!r} as now"


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def find_finished(directories: Iterable[Path]) -> dict[str, Finished]:
    """Finished runs below directories, which hold run directories or archives, by their configuration.

    Whole ones come before those of archives. Raises: RunError when a directory is missing or a run is damaged.
    """
    whole: dict[str, Finished] = {}
    archived: dict[str, Finished] = {}
    for directory in directories:
        if not directory.is_dir():
            raise RunError(f"There is no directory {directory} to reuse runs from: give one that holds a study.")
        for summary in sorted(directory.rglob(SUMMARY)):
            run = summary.parent
            found = Finished(partial(_profile_of, run), partial(shutil.copytree, run, dirs_exist_ok=True))
            whole.setdefault(_key(read_config(run)), found)
        for one in (one for archive in find_archives(directory) for one in read_archive(archive).runs):
            found = Finished(partial(dict, one.profile["stages"]), one.unpack)
            archived.setdefault(_key(one.config), found)
    return archived | whole


def _key(config: RunConfig) -> str:
    return json.dumps(config.to_dict(), sort_keys=True)


def _profile_of(directory: Path) -> dict[str, Any]:
    return dict(read_profile(directory).to_dict()["stages"])


def _wanted_profile(config: RunConfig) -> dict[str, Any]:
    return dict(load_profile(config.profile, config.setting, config.schedule).to_dict()["stages"])
