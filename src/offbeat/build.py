"""The only place that names concrete classes: from a configuration to the boxes of Figure 3, joined, and their loop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from offbeat.config import RunConfig
from offbeat.machine import keep_freed_memory
from offbeat.replay import Allocate, FrameReplay, zeros
from offbeat.schedules.asynchronous import run_asynchronous
from offbeat.schedules.channels import BatchSlots, WeightBuffer
from offbeat.schedules.reactive import run_reactive
from offbeat.schedules.sequential import run_sequential
from offbeat.schedules.shared import Board, SharedSlots, SharedWeights
from offbeat.schedules.workers import SampleWorker, UpdateWorker
from offbeat.timing.clock import Clock, VirtualClock
from offbeat.timing.ledger import EpisodeRecord, Ledger
from offbeat.timing.profile import TimingProfile
from offbeat.timing.wall import WallClock
from offbeat.types import Batch

_logger = logging.getLogger(__name__)
_SLOTS = 2  # one is filled while the other is used
_SAMPLING_KEY = 0x5A3B  # keeps the sampling stream apart from every other use of the run's seed


@dataclass(frozen=True)
class Parts:
    """The boxes of one run.

    replay, learner, env: the real ones, or those of a dry run. policy: what acts; asynchronously a copy with weights
    of its own, else the learner's. rng, batch: what a schedule that samples by itself samples with and into.
    beside: the parts of an asynchronous run that work beside the interaction, by name; empty otherwise.
    """

    clock: VirtualClock
    env: Any
    replay: Any
    learner: Any
    policy: Any
    log: Ledger
    rng: np.random.Generator
    batch: Batch
    weights: WeightBuffer
    beside: Mapping[str, Any]

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on, between two episodes."""
        return {
            **{name: part.state_dict() for name, part in self._stateful().items()},
            "rng": self.rng.bit_generator.state,
            "ledger": self.log.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`. Raises: OffbeatError, KeyError, ValueError when the state does not fit."""
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        self.rng.bit_generator.state = state["rng"]
        # Last, because it cuts off records: nothing is cut before everything else has been found to fit.
        self.log.load_state_dict(state["ledger"])

    def close(self) -> None:
        """Let go of what the environment holds, a renderer or a robot; a dry one holds nothing."""
        close = getattr(self.env, "close", None)
        if close is not None:
            close()

    def _stateful(self) -> dict[str, Any]:
        parts = {"clock": self.clock, "env": self.env, "replay": self.replay, "learner": self.learner}
        return parts | dict(self.beside)


def build_parts(config: RunConfig, profile: TimingProfile, log: Ledger, allocate: Allocate = zeros) -> Parts:
    """Build a run under the virtual clock.

    profile: what the stages cost. log: is told of every stage. allocate: where the replay's memory comes from.
    Raises: ConfigError, RunError when the configuration cannot be built on this machine.
    """
    clock = VirtualClock(profile, config.seed, log.on_stage)
    rng = build_rng(config)
    # One thread: sums of floats depend on how many threads share them.
    env, replay = build_env(config, clock, config.seed), _replay(config, allocate)
    learner = build_learner(config, 1, replay)
    policy = learner.policy
    batches = [build_batch(config, keeps_frames(config)) for _ in range(_SLOTS)]
    weights = WeightBuffer()
    beside: dict[str, Any] = {}
    if config.schedule == "asynchronous":
        policy = build_policy(config)
        slots = BatchSlots(batches)
        sampler = SampleWorker(replay, slots, rng, config.warmup_steps, config.max_updates_per_step)
        updater = UpdateWorker(learner, slots, weights, clock, log.update)
        clock.attach(sampler)
        clock.attach(updater)
        beside = {"policy": policy, "weights": weights, "slots": slots, "sampler": sampler, "updater": updater}
    return Parts(clock, env, replay, learner, policy, log, rng, batches[0], weights, beside)


def run_schedule(
    parts: Any, config: RunConfig, start_episode: int, after_episode: Callable[[EpisodeRecord], None]
) -> None:
    """Run parts, `Parts` or those of the wall clock, under the schedule of the configuration."""
    env, replay, clock, log = parts.env, parts.replay, parts.clock, parts.log
    if config.schedule == "asynchronous":
        run_asynchronous(env, parts.policy, replay, parts.weights, clock, config, log, start_episode, after_episode)
        return
    loop = {"sequential": run_sequential, "reactive": run_reactive}[config.schedule]
    sampling: dict[str, Any] = {"rng": parts.rng, "batch": parts.batch}
    span: dict[str, Any] = {"start_episode": start_episode, "after_episode": after_episode}
    loop(env, parts.learner, replay, clock, config, log, **sampling, **span)


def build_env(config: RunConfig, clock: VirtualClock, seed: int) -> Any:
    """The environment of a configuration, dry where it is dry, on any clock."""
    if config.dry:
        from offbeat.dry import DryEnv

        return DryEnv(config.env, clock)
    from offbeat.env import RealTimeEnv
    from offbeat.robots.sim import SimRig

    return RealTimeEnv(config.env, clock, SimRig(config.env, clock), seed)


def build_served_env(config: RunConfig, clock: WallClock, rig: Any, seed: int) -> Any:
    """The environment of a configuration on the wall clock, with the rig that `build_served_rig` made."""
    from offbeat.env import RealTimeEnv

    return RealTimeEnv(config.env, clock, rig, seed, stop_when_late=config.wall.overrun == "stop")


def build_served_rig(config: RunConfig, clock: WallClock, log: Path) -> Any:
    """The arm, real or simulated, in a process that outlives this one until it stands.

    Raises: RobotError when it cannot be reached or won't start.
    """
    if config.hardware.driver:
        from offbeat.robots.hardware import HardwareRig

        return HardwareRig(config.env, config.hardware, clock, clock.epoch_s, config.watchdog_s, log)
    from offbeat.robots.served import ServedRig

    return ServedRig(config.env, clock, clock.epoch_s, config.watchdog_s, log)


def require_drivers(config: RunConfig) -> None:
    """Raises: DriverError, in one sentence, when the drivers of arm and camera are unknown or lack a library."""
    if config.hardware.driver:
        from offbeat.robots.registry import require, require_camera

        require(config.hardware.driver)
        require_camera(config.hardware.camera)


def build_policy(config: RunConfig, seed: int | None = None) -> Any:
    """A policy with initial weights of its own. seed: of its noise, by default that of the run."""
    if config.dry:
        from offbeat.dry import DryPolicy

        return DryPolicy(config.env.joints)
    from offbeat.sac.policy import Policy

    return Policy(config.sac, config.env, config.seed if seed is None else seed)


def resolve_compute(config: RunConfig, profile: TimingProfile) -> RunConfig:
    """The configuration with every `auto` of `compute` replaced by what this machine can do, as the profile says where
    it was measured. Raises: ConfigError when something is asked for that it can not."""
    if config.dry:
        return config
    from offbeat.sac.compute import resolve

    return replace(config, compute=resolve(config.compute, profile.compute, _frames_bytes(config)))


def keeps_frames(config: RunConfig) -> bool:
    """Whether the learner has the replay's frames, so that batches only name theirs.

    On a GPU it has a copy. On a CPU it reads the replay itself: always in virtual time, where nobody else writes to it
    meanwhile; on the wall clock, where sampling is a process of its own, only where that is asked for.
    """
    compute = config.compute
    virtual_cpu = compute.resident_frames == "auto" and compute.device == "cpu" and config.clock == "virtual"
    return (compute.resident_frames == "on" or virtual_cpu) and not config.dry


def _frames_bytes(config: RunConfig) -> int:
    """Bytes of all frames that the replay of a configuration can hold."""
    sizes: dict[str, int] = {}

    def measure(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        sizes[name] = math.prod(shape) * np.dtype(dtype).itemsize
        return np.zeros((1, *shape[1:]), dtype)

    build_replay(config, measure)
    return sizes["frames"]


def build_learner(config: RunConfig, threads: int, replay: FrameReplay | None = None) -> Any:
    """The agent that learns. threads: cores that torch may use in this process. replay: what its batches are drawn
    from, where they may name their frames."""
    if config.dry:
        from offbeat.dry import DryLearner

        return DryLearner(config.env.joints)
    from offbeat.sac.learner import Learner

    frames = replay.frames if replay is not None and keeps_frames(config) else None
    learner = Learner(config.sac, config.env, config.seed, threads, config.compute, frames)
    if config.compute.keep_memory:
        keep_freed_memory()
    return learner


def build_replay(config: RunConfig, allocate: Allocate = zeros, threads: int = 1) -> FrameReplay:
    """The replay of a configuration. threads: cores that may gather one batch.

    It never holds more than the run makes. In virtual time its margin is what is added between two checkpoints, when
    it can wrap, and an episode more for a batch that was drawn before the first and names its frames. On the wall clock
    nothing is ever taken back, but a sampler in another process must not be overtaken while it gathers: an episode's
    time is ample.
    """
    env, total = config.env, config.episodes * config.env.episode_steps
    if config.clock == "wall":
        margin = env.episode_steps
    else:
        episodes = config.checkpoint_episodes + keeps_frames(config)
        margin = episodes * env.episode_steps if total > config.replay_steps else 0
    return FrameReplay(
        min(total, config.replay_steps),
        env.stack,
        env.height,
        env.width,
        allocate,
        margin=margin,
        episode_steps=env.episode_steps,
        return_steps=config.sac.return_steps(env.cycle_s),
        discount=config.discount_per_step,
        joints=env.joints,
        threads=threads,
        sample_share=config.sample_share,
    )


def build_rng(config: RunConfig, begun: int = 0) -> np.random.Generator:
    """The random stream of sampling; another one for each number of batches that were sampled before it began."""
    return np.random.default_rng(
        np.random.SeedSequence(config.seed, spawn_key=(_SAMPLING_KEY, begun)[: 1 + (begun > 0)])
    )


def build_batch(config: RunConfig, named: bool = False) -> Batch:
    """A minibatch to sample into. named: it names its frames, for a learner that keeps them."""
    if config.dry:
        from offbeat.dry import make_dry_batch

        return make_dry_batch()
    env, sac = config.env, config.sac
    steps = sac.return_steps(env.cycle_s)
    batch = Batch.empty(sac.batch_size, env.stack, env.height, env.width, steps, env.joints, named)
    if config.compute.device == "cuda":
        from offbeat.sac.device import pinned

        return pinned(batch)
    return batch


@dataclass(frozen=True)
class Channels:
    """What the processes of a run on the wall clock share; given to each when it is spawned."""

    slots: SharedSlots
    weights: SharedWeights
    board: Board


def build_channels(config: RunConfig, policy: Any, processes: int) -> Channels:
    """Memory for the run's batches, the policy's weights, and a board for so many worker processes."""
    env = config.env
    steps = config.sac.return_steps(env.cycle_s)
    count = _SLOTS + (config.compute.device == "cuda")  # one more, that travels to the GPU
    size = (config.sac.batch_size, env.stack, env.height, env.width)
    slots = SharedSlots(*size, steps, count, env.joints, keeps_frames(config))
    return Channels(slots, SharedWeights(len(policy.weights())), Board(processes))


def build_sampler(config: RunConfig, channels: Channels, allocate: Allocate, started: int) -> SampleWorker:
    """The sampling stage of a worker process. started: batches that were sampled, and used, before it."""
    replay, rng = build_replay(config, allocate), build_rng(config, started)
    sampler = SampleWorker(replay, channels.slots, rng, config.warmup_steps, config.max_updates_per_step)  # type: ignore[arg-type]
    sampler.load_state_dict(sampler.state_dict() | {"started": started})
    return sampler


def build_updater(config: RunConfig, learner: Any, channels: Channels, clock: Clock) -> UpdateWorker:
    """The updating stage of a worker process; batches go to a GPU from where they lie."""
    if config.compute.device == "cuda":
        from offbeat.sac.device import pin

        if not all(pin(batch) for batch in channels.slots.batches):
            _logger.warning("The memory of the batches could not be pinned: the GPU waits longer for each.")
    return UpdateWorker(learner, channels.slots, channels.weights, clock, channels.board.on_update)  # type: ignore[arg-type]


def _replay(config: RunConfig, allocate: Allocate) -> Any:
    if config.dry:
        from offbeat.dry import DryReplay

        return DryReplay(config.replay_steps)
    return build_replay(config, allocate)
