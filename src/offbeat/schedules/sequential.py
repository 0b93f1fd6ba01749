"""The paper's synchronous schedule (Figure 4, top): one thing after the other.

|observe|store|sample|-----update-----|act|send|...wait...|observe|...
'------------ response time ---------------'
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from offbeat.config import RunConfig
from offbeat.schedules.contracts import Env, Learner, Replay
from offbeat.timing.clock import Clock
from offbeat.timing.ledger import EpisodeRecord, Ledger
from offbeat.timing.profile import Stage
from offbeat.types import Batch


def run_sequential(
    env: Env,
    learner: Learner,
    replay: Replay,
    clock: Clock,
    run: RunConfig,
    log: Ledger,
    *,
    rng: np.random.Generator,
    batch: Batch,
    start_episode: int = 0,
    after_episode: Callable[[EpisodeRecord], None] | None = None,
) -> None:
    """Run the episodes from `start_episode` on, one update a step once the warm-up is over.

    Sampling and updating stand between seeing and acting, so both count as response time. rng, batch: what the replay
    samples with and into. after_episode: called between episodes with the record of the last one.
    """
    for episode in range(start_episode, run.episodes):
        log.begin_episode(episode)
        observation, _ = env.reset()
        replay.begin_episode(observation)
        terminated = truncated = False
        while not (terminated or truncated):
            with clock.stage(Stage.ACT):
                action = learner.policy.act(observation)
            observation, reward, terminated, truncated, info = env.step(action)
            with clock.stage(Stage.STORE):
                replay.add(info["applied_action"], reward, observation, terminated, truncated)
            # Counted over the whole run, as the asynchronous cap is: the ring may hold less than the warm-up.
            if replay.added > run.warmup_steps:
                with clock.stage(Stage.SAMPLE):
                    replay.sample(rng, out=batch)
                with clock.stage(Stage.UPDATE):
                    log.update(learner.update(batch))
            log.step(reward, info)
        record = log.end_episode(clock.now())
        if after_episode is not None:
            after_episode(record)
