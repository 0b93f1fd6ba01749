"""What the worker processes of a run on the wall clock do, and what they save.

A worker process imports this module and builds its job itself: the sampling process loads neither torch nor mujoco.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offbeat.build import Channels, build_learner, build_replay, build_sampler, build_updater, keeps_frames
from offbeat.config import RunConfig
from offbeat.directory import CHECKPOINT, REPLAY, make_state, read_state
from offbeat.machine import usable_cores
from offbeat.replay import memory_map
from offbeat.schedules.processes import Job
from offbeat.timing.clock import Clock, Worker

_SEPARATE_CORES = 4  # with as many, interaction, arm, sampling and updating find one each


@dataclass(frozen=True)
class Start:
    """Where a part of a run starts: at its beginning, or at a checkpoint.

    seed: of resets and noise. now_s: where the run's clock stands (s). updates: made so far.
    """

    seed: int
    resumed: bool = False
    now_s: float = 0.0
    updates: int = 0


def worker_names(config: RunConfig) -> tuple[str, ...]:
    """The worker processes of a run on this machine; none for the schedules that learn between their commands."""
    if config.schedule != "asynchronous":
        return ()
    joined = config.wall.processes == "joined" or (config.wall.processes == "auto" and usable_cores() < _SEPARATE_CORES)
    return ("learning",) if joined else ("sampling", "updating")


def learner_threads(config: RunConfig) -> int:
    """Cores for the updates: all but those of the arm, the interaction and the sampling, where these are processes."""
    return max(1, int(usable_cores()) - 1 - len(worker_names(config)))


def build_job(name: str, config: RunConfig, directory: Path, channels: Channels, start: Start, clock: Clock) -> Job:
    """The job of the worker process of this name; one that learns has a checkpoint on the disk when it begins."""
    slots, added = channels.slots, channels.board.added
    workers: list[Worker] = []
    if name != "updating":
        workers.append(build_sampler(config, channels, memory_map(directory / REPLAY), start.updates))
    if name == "sampling":

        def wait(timeout_s: float) -> None:
            if slots.free > 0:
                added.wait(timeout_s)
            else:
                slots.wait_free(timeout_s)

        return Job(workers, wait)
    replay = build_replay(config, memory_map(directory / REPLAY, readonly=True)) if keeps_frames(config) else None
    learner = build_learner(config, learner_threads(config), replay)
    if start.resumed:
        learner.load_state_dict(read_state(config, directory)["parts"]["learner"])
    else:
        save_learner(config, directory, learner, 0)
    workers.append(build_updater(config, learner, channels, clock))

    def save() -> None:
        save_learner(config, directory, learner, channels.board.episode)

    return Job(workers, slots.wait_filled if name == "updating" else added.wait, save)


def save_learner(config: RunConfig, directory: Path, learner: Any, episode: int) -> None:
    """Write the checkpoint of a run on the wall clock: its replay and its records are in files of their own."""
    from offbeat.checkpoint import write_checkpoint  # loads torch

    write_checkpoint(directory / CHECKPOINT, make_state(config, episode, {"learner": learner.state_dict()}))
