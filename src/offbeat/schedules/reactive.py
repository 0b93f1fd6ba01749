"""Act first, learn in what is left of the cycle (after Travnik et al. 2018): the schedule the paper did not try.

|observe|act|send|store|sample|-----update-----|..wait..|observe|...
'-- response time -'
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


def run_reactive(
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

    The command leaves as soon as the policy has answered; the transition before it is stored and learned from while
    the arm moves. Arguments as in `run_sequential`.
    """
    for episode in range(start_episode, run.episodes):
        log.begin_episode(episode)
        observation, _ = env.reset()
        replay.begin_episode(observation)
        transition = None
        terminated = truncated = False
        while not (terminated or truncated):
            with clock.stage(Stage.ACT):
                action = learner.policy.act(observation)
            env.send(action)
            if transition is not None:
                with clock.stage(Stage.STORE):
                    replay.add(*transition)
            if replay.added > run.warmup_steps:
                with clock.stage(Stage.SAMPLE):
                    replay.sample(rng, out=batch)
                with clock.stage(Stage.UPDATE):
                    log.update(learner.update(batch))
            observation, reward, terminated, truncated, info = env.receive()
            transition = (info["applied_action"], reward, observation, terminated, truncated)
            log.step(reward, info)
        if transition is not None:
            with clock.stage(Stage.STORE):
                replay.add(*transition)
        record = log.end_episode(clock.now())
        if after_episode is not None:
            after_episode(record)
