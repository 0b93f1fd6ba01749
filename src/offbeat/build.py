"""The only place that names concrete classes: from a configuration to the boxes of Figure 3, joined but not yet run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from offbeat.config import RunConfig
from offbeat.replay import Allocate, FrameReplay, zeros
from offbeat.schedules.channels import BatchSlots, WeightBuffer
from offbeat.schedules.workers import SampleWorker, UpdateWorker
from offbeat.timing.clock import VirtualClock
from offbeat.timing.ledger import Ledger
from offbeat.timing.profile import TimingProfile
from offbeat.types import Batch

SLOTS = 2  # one is filled while the other is used
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
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(_SAMPLING_KEY,)))
    env, learner, replay = build_env(config, clock, config.seed), _learner(config), _replay(config, allocate)
    policy = learner.policy
    batches = [_batch(config) for _ in range(SLOTS)]
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


def build_env(config: RunConfig, clock: VirtualClock, seed: int) -> Any:
    """The environment of a configuration, dry where it is dry, on any clock."""
    if config.dry:
        from offbeat.dry import DryEnv

        return DryEnv(config.env, clock)
    from offbeat.env import RealTimeEnv
    from offbeat.robots.sim import SimRig

    return RealTimeEnv(config.env, clock, SimRig(config.env, clock), seed)


def build_policy(config: RunConfig) -> Any:
    """A policy with initial weights of its own."""
    if config.dry:
        from offbeat.dry import DryPolicy

        return DryPolicy()
    from offbeat.sac.policy import Policy

    return Policy(config.sac, config.env, config.seed)


def build_replay(config: RunConfig, allocate: Allocate = zeros) -> FrameReplay:
    """The replay of a configuration.

    It never holds more than the run makes. Its margin is what is added between two checkpoints, when it can wrap.
    """
    env, total = config.env, config.episodes * config.env.episode_steps
    between = config.checkpoint_episodes * env.episode_steps
    capacity, margin = (total, 0) if total <= config.replay_steps else (config.replay_steps, between)
    return FrameReplay(
        capacity, env.stack, env.height, env.width, allocate, margin=margin, episode_steps=env.episode_steps
    )


def _learner(config: RunConfig) -> Any:
    if config.dry:
        from offbeat.dry import DryLearner

        return DryLearner()
    from offbeat.sac.learner import Learner

    # One thread: sums of floats depend on how many threads share them.
    return Learner(config.sac, config.env, config.seed, threads=1)


def _replay(config: RunConfig, allocate: Allocate) -> Any:
    if config.dry:
        from offbeat.dry import DryReplay

        return DryReplay(config.replay_steps)
    return build_replay(config, allocate)


def _batch(config: RunConfig) -> Batch:
    if config.dry:
        from offbeat.dry import make_dry_batch

        return make_dry_batch()
    return Batch.empty(config.sac.batch_size, config.env.stack, config.env.height, config.env.width)
