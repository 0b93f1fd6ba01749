"""A run directory: what lies in it, who may use it, and what of it is damaged.

config.json     the configuration and the version of offbeat
profile.json    the timing profile, as it was when the run began
episodes.csv, cycles.bin, stages.bin    the ledger
checkpoint.pt   what going on needs, replaced as a whole every `checkpoint_episodes`
replay/         the replay's memory; deleted when a virtual run has finished, unless `keep_replay`
robot.jsonl     what the arm's own process saw (wall clock only)
summary.json    written last: its presence says that the run has finished
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from offbeat import __version__
from offbeat.config import RunConfig
from offbeat.errors import ConfigError, RunError
from offbeat.timing.profile import TimingProfile

CONFIG, PROFILE, CHECKPOINT, SUMMARY = "config.json", "profile.json", "checkpoint.pt", "summary.json"
REPLAY, ROBOT_LOG, PROCESSES = "replay", "robot.jsonl", "processes.json"
_WALL, _RECORDS = "wall_s", ("episodes.csv", "cycles.bin", "stages.bin")
_FORMAT = 1  # of the checkpoint


def make_directory(config: RunConfig, profile: TimingProfile, directory: Path) -> None:
    """Make `directory` the directory of a new run. Raises: RunError when it is taken or cannot be written."""
    taken = next((name for name in (CONFIG, CHECKPOINT, SUMMARY, *_RECORDS) if (directory / name).exists()), None)
    if taken is not None:
        raise RunError(f"{directory} already holds a run ({taken}): choose another directory, or resume that run.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # "x": of two runs that start here at once one is refused.
        with (directory / CONFIG).open("x", encoding="utf-8") as file:
            file.write(_json(config.to_dict() | {"offbeat": __version__}))
    except OSError as error:
        raise RunError(f"{directory} cannot be made a run directory ({error.strerror}): choose another.") from error
    profile.save(directory / PROFILE)


def forget(directory: Path) -> None:
    """Take a run that never began out of its directory."""
    for name in (CONFIG, PROFILE, CHECKPOINT, ROBOT_LOG, PROCESSES, *_RECORDS):
        (directory / name).unlink(missing_ok=True)
    forget_replay(directory)


def forget_replay(directory: Path) -> None:
    """Delete the replay's memory."""
    shutil.rmtree(directory / REPLAY, ignore_errors=True)


@contextmanager
def sole_user(directory: Path) -> Iterator[None]:
    """Hold the run directory for this process; the system lets go of it when the process ends, however it ends.

    Raises: RunError when another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system: there is nothing to hold it by
        yield
        return
    with (directory / CONFIG).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"The run in {directory} is in use by another process: wait until it ends.") from error
        yield


def read_config(directory: Path) -> RunConfig:
    """The configuration of a run directory. Raises: RunError when there is none or it is damaged."""
    data = _read_json(directory / CONFIG, directory)
    data.pop("offbeat", None)
    try:
        return RunConfig.from_dict(data)
    except (ConfigError, ValueError, AttributeError) as error:
        raise RunError(f"{directory / CONFIG} does not describe a run: {error}") from error


def read_profile(directory: Path) -> TimingProfile:
    """The timing profile a run began with. Raises: RunError, ProfileError."""
    return TimingProfile.from_dict(_read_json(directory / PROFILE, directory))


def make_state(config: RunConfig, episode: int, parts: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's state, from which `episode` is the next."""
    return {"format": _FORMAT, "config": config.to_dict(), "episode": episode, "parts": parts}


def read_state(config: RunConfig, directory: Path) -> dict[str, Any]:
    """The last checkpoint, as `make_state` made it. Raises: RunError when it is missing, damaged or another run's."""
    from offbeat.checkpoint import read_checkpoint  # loads torch

    state = read_checkpoint(directory / CHECKPOINT)
    if state.get("format") != _FORMAT or not isinstance(state.get("parts"), dict):
        raise RunError(f"The checkpoint in {directory} has format {state.get('format')}: this offbeat reads {_FORMAT}.")
    if RunConfig.from_dict(state["config"]) != config:
        raise RunError(f"{directory / CONFIG} is not the configuration of the checkpoint beside it: restore the file.")
    return state


def is_finished(directory: Path) -> bool:
    """Whether the run has ended and has its summary."""
    return (directory / SUMMARY).exists()


def write_processes(directory: Path, ids: Mapping[str, int | None] | None) -> None:
    """Say which processes the run lives in, by name; None: in none any more."""
    if ids is None:
        (directory / PROCESSES).unlink(missing_ok=True)
    else:
        write_json(directory / PROCESSES, dict(ids))


def write_summary(directory: Path, summary: dict[str, Any]) -> None:
    """Write the summary, whole or not at all: the run has finished."""
    write_json(directory / SUMMARY, summary)


def tidy(directory: Path, config: RunConfig) -> None:
    """Delete what a finished run needs no more."""
    (directory / _WALL).unlink(missing_ok=True)
    if config.clock == "virtual" and not config.keep_replay:
        forget_replay(directory)


def read_wall(directory: Path) -> float:
    """Our own time that earlier parts of the run took (s)."""
    try:
        return float((directory / _WALL).read_text())
    except (OSError, ValueError):
        return 0.0  # a run that has just begun; a lost wall time spoils nothing else


def write_wall(directory: Path, wall_s: float) -> None:
    """Remember how much of our own time the run took so far (s)."""
    (directory / _WALL).write_text(f"{wall_s:.3f}\n")


def _read_json(path: Path, directory: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{directory} holds no run, {path.name} is missing: give the --out of a run.") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}): start a new run in another directory.") from error
    if not isinstance(data, dict):
        raise RunError(f"{path} is damaged (it holds no JSON object): start a new run in another directory.")
    return data


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON file of a run directory, whole or not at all."""
    write_whole(path, _json(data))


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all: whoever reads it meanwhile finds the one before."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2, sort_keys=True) + "\n"
