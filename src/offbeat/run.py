"""Runs: training one into a directory, and going on where it stopped, on either clock.

A virtual run writes the same bytes every time, stopped and resumed or not, but for `wall_s` in summary.json. A run on
the wall clock keeps all that it stored and learns on from its last checkpoint.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from offbeat.build import (
    Parts,
    build_env,
    build_parts,
    build_policy,
    require_drivers,
    resolve_compute,
    run_schedule,
)
from offbeat.config import RunConfig
from offbeat.directory import (
    CHECKPOINT,
    REPLAY,
    forget,
    is_finished,
    make_directory,
    make_state,
    read_config,
    read_profile,
    read_state,
    read_wall,
    sole_user,
    tidy,
    write_summary,
    write_wall,
)
from offbeat.errors import OffbeatError, RunError, UserError
from offbeat.machine import describe_machine
from offbeat.replay import memory_map
from offbeat.timing.clock import VirtualClock
from offbeat.timing.ledger import EpisodeRecord, Ledger
from offbeat.timing.profile import TimingProfile, load_profile

AfterEpisode = Callable[[EpisodeRecord], None]


def train(config: RunConfig, directory: Path, after_episode: AfterEpisode | None = None) -> dict[str, Any]:
    """Make a run directory and run it to its end.

    directory: must not hold a run yet. after_episode: is told every episode's record, for progress. Returns the
    summary. Raises: RunError when the directory is taken or cannot be written; ProfileError, ConfigError, DriverError;
    on the wall clock WorkerError when a process died, SystemExit when SIGTERM came.
    """
    profile = load_profile(config.profile, config.setting, config.schedule)
    config = resolve_compute(config, profile)
    require_drivers(config)
    make_directory(config, profile, directory)
    with sole_user(directory):
        try:
            session = _open(config, profile, directory)
            session.begin()
        except BaseException:
            # Not begun: leave no half of a run that blocks the next try.
            forget(directory)
            raise
        return _run(session, config, directory, 0, after_episode)


def resume(directory: Path, after_episode: AfterEpisode | None = None) -> dict[str, Any]:
    """Go on with a run from its last checkpoint; a virtual one to the same bytes as if it had never stopped.

    Raises: RunError when the directory holds no run, a finished one, one in use, or a damaged one; else as `train`.
    """
    config = read_config(directory)
    if is_finished(directory):
        raise RunError(f"The run in {directory} is finished ({config.episodes} episodes): there is nothing to resume.")
    require_drivers(config)
    with sole_user(directory):
        profile = read_profile(directory)
        state = read_state(config, directory)
        session = _open(config, profile, directory)
        return _run(session, config, directory, session.restore(state), after_episode)


def read_weights(directory: Path) -> Any:
    """The learned policy's weights (P,) float32 in a run's last checkpoint; None in a dry run. Raises: RunError."""
    config = read_config(directory)
    state = read_state(config, directory)
    return None if config.dry else state["parts"]["learner"]["policy"]["weights"].numpy()


def build_player(directory: Path, seed: int) -> tuple[RunConfig, Any, Any, VirtualClock]:
    """What plays a run's learned policy: its configuration, a fresh environment, the policy and their clock.

    seed: of the environment's resets and of the clock. The policy of a dry run is None. Raises: RunError.
    """
    config = read_config(directory)
    clock = VirtualClock(read_profile(directory), seed)
    policy = None
    if not config.dry:
        policy = build_policy(config)
        policy.load_weights(read_weights(directory))
    return config, build_env(config, clock, seed), policy, clock


class Session(Protocol):
    """One process's work on a run directory, on one clock or the other."""

    log: Ledger

    def begin(self) -> None:
        """Build everything and write the first checkpoint; closes all again when that fails."""
        ...

    def restore(self, state: dict[str, Any]) -> int:
        """Build everything as a checkpoint says; returns the next episode. Raises: RunError when it does not fit."""
        ...

    def run(self, start_episode: int, after_episode: AfterEpisode) -> None:
        """Run the episodes from `start_episode` on, and close everything whatever happens."""
        ...

    def save(self, episode: int) -> None:
        """Have a checkpoint written from which `episode` is the next."""
        ...

    def notes(self) -> dict[str, Any]:
        """The summary's fields that depend on the clock."""
        ...


def _open(config: RunConfig, profile: TimingProfile, directory: Path) -> Session:
    if config.clock == "wall":
        from offbeat.wall import WallSession

        return WallSession(config, directory)
    return _VirtualSession(config, profile, directory)


def _run(
    session: Session, config: RunConfig, directory: Path, start_episode: int, after_episode: AfterEpisode | None
) -> dict[str, Any]:
    """Run a session to the end of its run, then write the summary."""
    wall_before_s, began_s = read_wall(directory), time.monotonic()

    def wall_s() -> float:
        return wall_before_s + time.monotonic() - began_s

    def between_episodes(record: EpisodeRecord) -> None:
        finished = record.episode + 1
        if finished % config.checkpoint_episodes == 0 or finished == config.episodes:
            session.save(finished)
            write_wall(directory, wall_s())
        if after_episode is not None:
            after_episode(record)

    session.run(start_episode, between_episodes)
    summary = _summary(session, config, round(wall_s(), 3))
    write_summary(directory, summary)
    tidy(directory, config)
    return summary


def _summary(session: Session, config: RunConfig, wall_s: float) -> dict[str, Any]:
    names = ("clock", "schedule", "seed", "setting", "scale", "preset", "dry", "minutes")
    fields = {name: getattr(config, name) for name in names} | {"wall_s": wall_s, "cycle_s": config.env.cycle_s}
    return session.log.summary() | fields | {"machine": describe_machine()} | session.notes()


class _VirtualSession:
    """A run under the virtual clock, in this process alone; implements Session."""

    def __init__(self, config: RunConfig, profile: TimingProfile, directory: Path) -> None:
        self._config, self._profile, self._directory = config, profile, directory
        self.log = Ledger(directory, config.env.cycle_s)
        _make_torch_deterministic(config.compute.compile == "on")
        self._parts: Parts = build_parts(config, profile, self.log, memory_map(directory / REPLAY))

    def begin(self) -> None:
        self.save(0)

    def restore(self, state: dict[str, Any]) -> int:
        try:
            self._parts.load_state_dict(state["parts"])
            return int(state["episode"])
        except UserError:
            raise
        except (OffbeatError, KeyError, ValueError, TypeError, IndexError) as error:
            raise RunError(
                f"The run in {self._directory} cannot go on, its checkpoint does not fit ({error}): it or the replay "
                "is damaged or of another version of offbeat. Train anew, into another --out."
            ) from error

    def run(self, start_episode: int, after_episode: AfterEpisode) -> None:
        try:
            run_schedule(self._parts, self._config, start_episode, after_episode)
        finally:
            self._parts.close()

    def save(self, episode: int) -> None:
        from offbeat.checkpoint import write_checkpoint

        self._parts.replay.flush()  # first: a checkpoint must never count what is not on the disk
        state = make_state(self._config, episode, self._parts.state_dict())
        write_checkpoint(self._directory / CHECKPOINT, state)

    def notes(self) -> dict[str, Any]:
        return {"profile": self._profile.name}


def _make_torch_deterministic(compiles: bool = False) -> None:
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    if compiles:
        torch.use_deterministic_algorithms(True)
    else:  # the same but for the compiler, which the other loads, in seconds
        torch.set_deterministic_debug_mode("error")
    # Nothing reads it, and filling it costs a seventh of an update.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
