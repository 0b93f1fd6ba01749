"""A run directory: what a run is, records, checkpoints, and going on where it stopped.

    config.json     the configuration and the version of offbeat
    profile.json    the timing profile, as it was when the run began
    episodes.csv, cycles.bin, stages.bin    the ledger
    checkpoint.pt   what going on needs, replaced as a whole every `checkpoint_episodes`
    replay/         the replay's memory; deleted when the run has finished, unless `keep_replay`
    summary.json    written last: its presence says that the run has finished

A virtual run writes the same bytes every time, stopped and resumed or not, but for `wall_s` in summary.json.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from offbeat import __version__
from offbeat.build import Parts, build_env, build_parts, build_policy
from offbeat.checkpoint import read_checkpoint, write_checkpoint
from offbeat.config import RunConfig
from offbeat.errors import ConfigError, OffbeatError, RunError, UserError
from offbeat.replay import memory_map
from offbeat.schedules.asynchronous import run_asynchronous
from offbeat.schedules.reactive import run_reactive
from offbeat.schedules.sequential import run_sequential
from offbeat.timing.clock import VirtualClock
from offbeat.timing.ledger import EpisodeRecord, Ledger
from offbeat.timing.profile import TimingProfile, load_profile

CONFIG, PROFILE, CHECKPOINT, SUMMARY = "config.json", "profile.json", "checkpoint.pt", "summary.json"
_REPLAY, _WALL, _RECORDS = "replay", "wall_s", ("episodes.csv", "cycles.bin", "stages.bin")
_FORMAT = 1  # of the checkpoint

AfterEpisode = Callable[[EpisodeRecord], None]


def train(config: RunConfig, directory: Path, after_episode: AfterEpisode | None = None) -> dict[str, Any]:
    """Make a run directory and run it to its end.

    directory: must not hold a run yet. after_episode: is told every episode's record, for progress. Returns the
    summary. Raises: RunError when the directory is taken or cannot be written; ProfileError, ConfigError.
    """
    profile = load_profile(config.profile, config.setting, config.schedule)
    _make_directory(config, profile, directory)
    with _sole_user(directory):
        session = _Session(config, profile, directory)
        try:
            parts = session.build()
            session.save(parts, episode=0)
        except BaseException:
            # Not begun: leave no half of a run that blocks the next try.
            _forget(directory)
            raise
        return session.run(parts, 0, after_episode)


def resume(directory: Path, after_episode: AfterEpisode | None = None) -> dict[str, Any]:
    """Go on with a run from its last checkpoint, to the same bytes as if it had never stopped.

    Raises: RunError when the directory holds no run, a finished one, one in use, or a damaged one.
    """
    config = read_config(directory)
    if (directory / SUMMARY).exists():
        raise RunError(f"The run in {directory} is finished ({config.episodes} episodes): there is nothing to resume.")
    with _sole_user(directory):
        profile = _read_profile(directory)
        state = read_checkpoint(directory / CHECKPOINT)
        _check_state(state, config, directory)
        session = _Session(config, profile, directory)
        parts = session.build()
        try:
            parts.load_state_dict(state["parts"])
        except UserError:
            raise
        except (OffbeatError, KeyError, ValueError, TypeError, IndexError) as error:
            raise RunError(f"The run in {directory} cannot go on, its checkpoint does not fit ({error}).") from error
        return session.run(parts, int(state["episode"]), after_episode)


def read_config(directory: Path) -> RunConfig:
    """The configuration of a run directory. Raises: RunError when there is none or it is damaged."""
    data = _read_json(directory / CONFIG, directory)
    data.pop("offbeat", None)
    try:
        return RunConfig.from_dict(data)
    except (ConfigError, ValueError, AttributeError) as error:
        raise RunError(f"{directory / CONFIG} does not describe a run: {error}") from error


def read_weights(directory: Path) -> Any:
    """The learned policy's weights (P,) float32 in a run's last checkpoint; None in a dry run. Raises: RunError."""
    config = read_config(directory)
    state = read_checkpoint(directory / CHECKPOINT)
    _check_state(state, config, directory)
    return None if config.dry else state["parts"]["learner"]["policy"]["weights"].numpy()


def build_player(directory: Path, seed: int) -> tuple[RunConfig, Any, Any, VirtualClock]:
    """What plays a run's learned policy: its configuration, a fresh environment, the policy and their clock.

    seed: of the environment's resets and of the clock. The policy of a dry run is None. Raises: RunError.
    """
    config = read_config(directory)
    clock = VirtualClock(_read_profile(directory), seed)
    policy = None
    if not config.dry:
        policy = build_policy(config)
        policy.load_weights(read_weights(directory))
    return config, build_env(config, clock, seed), policy, clock


class _Session:
    """One process's work on a run directory."""

    def __init__(self, config: RunConfig, profile: TimingProfile, directory: Path) -> None:
        self._config, self._profile, self._directory = config, profile, directory
        self._began = time.monotonic()
        self._log = Ledger(directory, config.env.cycle_s)

    def build(self) -> Parts:
        _make_torch_deterministic()
        return build_parts(self._config, self._profile, self._log, memory_map(self._directory / _REPLAY))

    def save(self, parts: Parts, episode: int) -> None:
        """Write a checkpoint from which `episode` is the next."""
        parts.replay.flush()  # first: a checkpoint must never count what is not on the disk
        state = {"format": _FORMAT, "config": self._config.to_dict(), "episode": episode, "parts": parts.state_dict()}
        write_checkpoint(self._directory / CHECKPOINT, state)

    def run(self, parts: Parts, start_episode: int, after_episode: AfterEpisode | None) -> dict[str, Any]:
        """Run from `start_episode` to the end, then write the summary."""
        config = self._config
        wall_before_s = _read_wall(self._directory)

        def wall_s() -> float:
            return wall_before_s + time.monotonic() - self._began

        def between_episodes(record: EpisodeRecord) -> None:
            finished = record.episode + 1
            if finished % config.checkpoint_episodes == 0 or finished == config.episodes:
                self.save(parts, finished)
                (self._directory / _WALL).write_text(f"{wall_s():.3f}\n")
            if after_episode is not None:
                after_episode(record)

        try:
            run_schedule(parts, config, start_episode, between_episodes)
        finally:
            parts.close()
        summary = self._summary(round(wall_s(), 3))
        _write_json(self._directory / SUMMARY, summary)
        (self._directory / _WALL).unlink(missing_ok=True)
        if not config.keep_replay:
            shutil.rmtree(self._directory / _REPLAY, ignore_errors=True)
        return summary

    def _summary(self, wall_s: float) -> dict[str, Any]:
        config = self._config
        return self._log.summary() | {
            "wall_s": wall_s,
            "clock": "virtual",
            "schedule": config.schedule,
            "profile": self._profile.name,
            "seed": config.seed,
            "setting": config.setting,
            "scale": config.scale,
            "preset": config.preset,
            "cycle_s": config.env.cycle_s,
            "dry": config.dry,
            "minutes": config.minutes,
        }


def run_schedule(parts: Parts, config: RunConfig, start_episode: int, after_episode: AfterEpisode) -> None:
    """Run the parts under the schedule of the configuration."""
    env, replay, clock, log = parts.env, parts.replay, parts.clock, parts.log
    if config.schedule == "asynchronous":
        run_asynchronous(env, parts.policy, replay, parts.weights, clock, config, log, start_episode, after_episode)
        return
    loop = {"sequential": run_sequential, "reactive": run_reactive}[config.schedule]
    sampling: dict[str, Any] = {"rng": parts.rng, "batch": parts.batch}
    span: dict[str, Any] = {"start_episode": start_episode, "after_episode": after_episode}
    loop(env, parts.learner, replay, clock, config, log, **sampling, **span)


def _make_torch_deterministic() -> None:
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.use_deterministic_algorithms(True)


def _make_directory(config: RunConfig, profile: TimingProfile, directory: Path) -> None:
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


def _forget(directory: Path) -> None:
    for name in (CONFIG, PROFILE, CHECKPOINT, *_RECORDS):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / _REPLAY, ignore_errors=True)


@contextmanager
def _sole_user(directory: Path) -> Iterator[None]:
    """Hold the run directory for this process; the system lets go of it when the process ends, however it ends."""
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


def _check_state(state: dict[str, Any], config: RunConfig, directory: Path) -> None:
    if state.get("format") != _FORMAT or not isinstance(state.get("parts"), dict):
        raise RunError(f"The checkpoint in {directory} has format {state.get('format')}: this offbeat reads {_FORMAT}.")
    if RunConfig.from_dict(state["config"]) != config:
        raise RunError(f"{directory / CONFIG} is not the configuration of the checkpoint beside it: restore the file.")


def _read_profile(directory: Path) -> TimingProfile:
    return TimingProfile.from_dict(_read_json(directory / PROFILE, directory))


def _read_wall(directory: Path) -> float:
    try:
        return float((directory / _WALL).read_text())
    except (OSError, ValueError):
        return 0.0  # a run that has just begun; a lost wall time spoils nothing else


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


def _write_json(path: Path, data: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(_json(data), encoding="utf-8")
    os.replace(temporary, path)


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2, sort_keys=True) + "\n"
