"""A run on the wall clock: the processes of Figure 3, what they share, and how they end.

    interaction          this process: environment, policy, ledger; writes the replay
    robot                the simulated arm, which stops by itself when no command comes (robots/served.py), or a real
                         one (robots/hardware.py), with a process `camera` beside it
    sampling, updating   the workers of an asynchronous run (jobs.py); `learning`, where one process is both

The sequential and the reactive schedule learn in this process, between their commands, and write their checkpoints
between episodes; else the updating process writes them.

Nothing that was stored is lost, however processes end: the replay lies in files of the run directory, and a resume
finds every transition that was counted. It learns on from the last checkpoint, catches up on the updates that were
lost with the processes, and begins a new episode with the records that are whole.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from offbeat.build import (
    build_batch,
    build_channels,
    build_learner,
    build_policy,
    build_replay,
    build_rng,
    build_served_env,
    build_served_rig,
    keeps_frames,
    run_schedule,
)
from offbeat.config import RunConfig
from offbeat.directory import REPLAY, ROBOT_LOG, write_processes
from offbeat.errors import RobotError, RunError, WorkerError
from offbeat.jobs import Start, build_job, learner_threads, save_learner, worker_names
from offbeat.replay import FrameReplay, memory_map
from offbeat.schedules.processes import Supervisor
from offbeat.schedules.shared import Board
from offbeat.signals import StopSignals
from offbeat.timing.adopt import adopt_records
from offbeat.timing.ledger import EpisodeRecord, Ledger
from offbeat.timing.realtime import (
    PRIORITY,
    Attempt,
    collect_between_episodes,
    keep_scheduler,
    raise_priority,
    take_short_slices,
    try_realtime,
)
from offbeat.timing.wall import WallClock
from offbeat.types import FloatArray, Observation

SAVE_S = 30.0
"""The longest wait for the checkpoint of a run that ends (s)."""

_logger = logging.getLogger(__name__)
_REASON_S = 1.5  # the longest wait for the reason why a robot or a camera fell silent


@dataclass(frozen=True)
class _Parts:
    """The boxes of a run on the wall clock, named as in `build.Parts`; those it has no use for are None."""

    clock: WallClock
    env: Any
    replay: Any
    log: Any
    policy: Any = None
    weights: Any = None
    learner: Any = None
    rng: Any = None
    batch: Any = None


class WallSession:
    """This process's work on a run directory, on the wall clock; implements `run.Session`."""

    def __init__(self, config: RunConfig, directory: Path) -> None:
        """Nothing is started yet."""
        self.log = Ledger(directory, config.env.cycle_s)
        self._config, self._directory = config, directory
        self._signals = StopSignals()
        self._open = ExitStack()
        self._favours: list[str] = []
        self._episode = 0  # the next one, for checkpoints written here
        self._rig: Any = None
        self._supervisor: Supervisor
        self._parts: _Parts

    def begin(self) -> None:
        """Start all processes; the first checkpoint is there when this returns."""
        self._start(Start(self._config.seed), None)

    def restore(self, state: dict[str, Any]) -> int:
        """Start all processes from a checkpoint; returns the next episode. Raises: RunError when it does not fit."""
        try:
            learner = state["parts"]["learner"]
            updates = int(learner["updates"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"The checkpoint in {self._directory} does not fit a run on the wall clock.") from error
        episode, now_s = adopt_records(self.log, self._directory, updates)
        # A resumed run must not meet the resets and the noise of its beginning again.
        seed = int(np.random.SeedSequence((self._config.seed, episode)).generate_state(1)[0])
        self._start(Start(seed, True, now_s, updates), learner)
        return episode

    def run(self, start_episode: int, after_episode: Callable[[EpisodeRecord], None]) -> None:
        """Run the episodes from `start_episode` on, and end all processes whatever happens.

        Raises: WorkerError when a process died or got stuck; KeyboardInterrupt, SystemExit on Ctrl-C and SIGTERM,
        when the robot has stopped and a checkpoint is written.
        """
        self._supervisor.remedy = f"`offbeat resume {self._directory}` goes on."
        self._episode = start_episode
        with self._open:
            try:
                with collect_between_episodes() as collect:

                    def between_episodes(record: EpisodeRecord) -> None:
                        after_episode(record)
                        collect()

                    run_schedule(self._parts, self._config, start_episode, between_episodes)
            except BaseException as error:
                self._rig.robot.stop()  # before anything else
                if isinstance(error, KeyboardInterrupt | SystemExit) and not self._save(wait=True):
                    _logger.warning("No checkpoint could be written within %g s.", SAVE_S)
                # A robot or a camera that fell silent may be a process that died: that is what to tell.
                failure = self._supervisor.failure(_REASON_S) if isinstance(error, RobotError) else None
                if failure is not None:
                    raise failure from error
                raise

    def save(self, episode: int) -> None:
        """Have a checkpoint written; the run's last one is waited for. Raises: WorkerError when it did not come."""
        self._episode = episode
        if not self._save(wait=episode == self._config.episodes):
            self._supervisor.check()
            raise WorkerError(f"The last checkpoint was not written within {SAVE_S:g} s. {self._supervisor.remedy}")

    def notes(self) -> dict[str, Any]:
        """What the run has instead of a profile: its processes, and what the system granted."""
        processes = ["interaction", *self._rig.watched, *worker_names(self._config)]
        favours = [f"{name} process: {service.favour}" for name, service in self._rig.watched.items() if service.favour]
        return {"profile": "wall", "processes": processes, "realtime": self._favours + favours}

    def _start(self, start: Start, learner: dict[str, Any] | None) -> None:
        """Start everything, or end again what was started when that fails. learner: its saved state."""
        with ExitStack() as stack:
            stack.enter_context(self._signals)
            self._parts = self._start_processes(stack, start, learner)
            self._supervisor.wait_ready(self._signals.check)
            processes = {name: process.pid for name, process in self._supervisor.processes.items()}
            write_processes(self._directory, {"interaction": os.getpid()} | processes)
            stack.callback(write_processes, self._directory, None)
            self._open = stack.pop_all()

    def _start_processes(self, stack: ExitStack, start: Start, learner: dict[str, Any] | None) -> _Parts:
        config, directory = self._config, self._directory
        allocate, epoch_s = memory_map(directory / REPLAY), time.monotonic() - start.now_s
        build_replay(config, allocate)  # makes its files, before others open them
        policy = build_policy(config, start.seed)
        names = worker_names(config)
        channels = build_channels(config, policy, len(names))
        if learner is not None:
            weights = {"version": start.updates, "published_s": start.now_s}
            channels.weights.load_state_dict(weights | {"flat": learner["policy"]["weights"].numpy()})
        jobs = {name: partial(build_job, name, config, directory, channels, start) for name in names}
        self._supervisor = Supervisor(channels.board, epoch_s, jobs, self._stop_robot)
        stack.callback(self._supervisor.close)
        self._supervisor.start()  # workers load their libraries while the arm starts

        pause = partial(setattr, channels.board, "paused")
        clock = WallClock(epoch_s, self.log.on_stage, config.wall.spin_s, self._check, pause)
        self._rig = build_served_rig(config, clock, directory / ROBOT_LOG)
        stack.callback(self._rig.close)
        stack.callback(self._supervisor.close)  # first: the end of the arm's process is no failure then
        for name, watched in self._rig.watched.items():
            self._supervisor.watch(name, watched)
        env = build_served_env(config, clock, self._rig, start.seed)
        take_short_slices()
        stack.enter_context(keep_scheduler())
        self._favours = [f"{favour.name}: {favour.found}" for favour in _ask_favours(config)]
        replay = build_replay(config, allocate, learner_threads(config))
        if names:
            import torch

            torch.set_num_threads(1)  # acting on one observation gains nothing from more, and the workers lose
            log, sink = _SharedLedger(self.log, channels.board), _RingingSink(replay, channels.board)
            return _Parts(clock, env, sink, log, policy, channels.weights)
        agent = build_learner(config, learner_threads(config), replay)
        if learner is None:
            save_learner(config, directory, agent, 0)
        else:
            agent.load_state_dict(learner)
        rng, batch = build_rng(config, start.updates), build_batch(config, keeps_frames(config))
        return _Parts(clock, env, replay, self.log, learner=agent, rng=rng, batch=batch)

    def _check(self) -> None:
        """What the clock asks in every cycle, between two commands."""
        self._supervisor.check()
        self._signals.check()

    def _stop_robot(self) -> None:
        if self._rig is not None:
            self._rig.robot.stop()

    def _save(self, wait: bool) -> bool:
        """Have a checkpoint written; False when it was waited for and did not come."""
        if self._parts.learner is not None:
            save_learner(self._config, self._directory, self._parts.learner, self._episode)
        elif wait:
            return self._supervisor.save(SAVE_S)
        else:
            self._supervisor.request_save()
        return True


class _SharedLedger:
    """The run's ledger, told at the end of every episode what the workers did in it."""

    def __init__(self, log: Ledger, board: Board) -> None:
        self._log, self._board = log, board
        self.step = log.step
        self.update = log.update

    def begin_episode(self, episode: int) -> None:
        self._board.episode = episode
        self._log.begin_episode(episode)

    def end_episode(self, robot_s: float) -> EpisodeRecord:
        for run in self._board.take_stages():
            self._log.on_stage(run.stage, run.begin_s, run.end_s)
            if run.metrics is not None:
                self._log.update(run.metrics)
        return self._log.end_episode(robot_s)


class _RingingSink:
    """The replay as the interaction sees it: every transition wakes the sampler. Implements TransitionSink."""

    def __init__(self, replay: FrameReplay, board: Board) -> None:
        self._add, self._ring = replay.add, board.added.ring
        self.begin_episode = replay.begin_episode

    def add(
        self, action: FloatArray, reward: float, observation: Observation, terminated: bool, truncated: bool
    ) -> None:
        self._add(action, reward, observation, terminated, truncated)
        self._ring()


def _ask_favours(config: RunConfig) -> tuple[Attempt, ...]:
    """Ask for what keeps the interaction on time, for the thread that calls."""
    if config.wall.realtime:
        return try_realtime()
    if config.hardware.driver:  # above the learner, below the arm's own processes, which may not wait for this one
        return (raise_priority(PRIORITY - 10),)
    return ()
