"""Figure 3's agent-environment interaction process; sampling and updating run beside it (Figure 4, bottom).

interaction  |observe|act|send|store|..........wait..........|observe|act|send|...
SampleWorker            |--sample--|        |--sample--|
UpdateWorker   |---------update---------|----------update----------|
"""

from __future__ import annotations

from collections.abc import Callable

from offbeat.config import RunConfig
from offbeat.schedules.contracts import Env, Policy, TransitionSink, WeightSource
from offbeat.timing.clock import VirtualClock
from offbeat.timing.ledger import EpisodeRecord, Ledger
from offbeat.timing.profile import Stage


def run_asynchronous(
    env: Env,
    policy: Policy,
    sink: TransitionSink,
    weights: WeightSource,
    clock: VirtualClock,
    run: RunConfig,
    log: Ledger,
    start_episode: int = 0,
    after_episode: Callable[[EpisodeRecord], None] | None = None,
) -> None:
    """Run the episodes from `start_episode` on; the interaction never waits for sampling or updating.

    policy: the actor's own copy, filled from `weights`. clock: a SampleWorker and an UpdateWorker are attached to it.
    after_episode: called between episodes with the record of the last one.
    """
    for episode in range(start_episode, run.episodes):
        log.begin_episode(episode)
        clock.paused = not run.learn_in_resets
        observation, _ = env.reset()
        clock.paused = False
        sink.begin_episode(observation)
        terminated = truncated = False
        while not (terminated or truncated):
            version, published_s = weights.load_newest(policy), weights.published_s
            with clock.stage(Stage.ACT):
                action = policy.act(observation)
            observation, reward, terminated, truncated, info = env.step(action)
            with clock.stage(Stage.STORE):
                sink.add(info["applied_action"], reward, observation, terminated, truncated)
            log.step(reward, info, version, published_s)
        record = log.end_episode(clock.now())
        if after_episode is not None:
            after_episode(record)
