"""Schedules: the order of Figure 4, who waits for whom, the cap on updates, the same bytes twice and when resumed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offbeat.build import Parts, build_parts
from offbeat.config import EnvConfig, RunConfig
from offbeat.dry import DryPolicy, make_dry_batch
from offbeat.schedules.asynchronous import run_asynchronous
from offbeat.schedules.channels import BatchSlots, WeightBuffer
from offbeat.schedules.reactive import run_reactive
from offbeat.schedules.sequential import run_sequential
from offbeat.schedules.workers import allowed_updates
from offbeat.timing.ledger import EpisodeRecord, Ledger
from offbeat.timing.profile import Stage, load_profile
from offbeat.types import Batch

COSTS = "constant:act=3,store=1,sample=4,update=50"
SCHEDULES = ("sequential", "reactive", "asynchronous")


def make_run(schedule: str, cycle_s: float = 0.075, episodes: int = 4, **changes: Any) -> RunConfig:
    """A dry run of episodes of 0.6 s, warmed up after the first."""
    env = EnvConfig(cycle_s=cycle_s, episode_s=0.6, reset_s=1.0)
    settings_ = {"schedule": schedule, "minutes": 0.01 * episodes, "warmup_s": 0.6, "dry": True, "env": env}
    return RunConfig(**{**settings_, **changes})


def build(run: RunConfig, costs: str = COSTS) -> Parts:
    return build_parts(run, load_profile(costs), Ledger(None, run.env.cycle_s))


def play(
    run: RunConfig,
    parts: Parts,
    start_episode: int = 0,
    after_episode: Callable[[EpisodeRecord], None] | None = None,
) -> Ledger:
    common: dict[str, Any] = {"start_episode": start_episode, "after_episode": after_episode}
    if run.schedule == "asynchronous":
        run_asynchronous(parts.env, parts.policy, parts.replay, parts.weights, parts.clock, run, parts.log, **common)
    else:
        loop = run_sequential if run.schedule == "sequential" else run_reactive
        sampling = {"rng": parts.rng, "batch": parts.batch}
        loop(parts.env, parts.learner, parts.replay, parts.clock, run, parts.log, **sampling, **common)
    return parts.log


def last_cycle(log: Ledger) -> list[tuple[str, float, float]]:
    """Stages that began in the last cycle but one, with begin and end (ms after the observation)."""
    cycle = log.cycles()[-2]
    names = [stage.value for stage in Stage]
    return [
        (names[row["stage"]], *(round((row[key] - cycle["observed_s"]) * 1e3, 3) for key in ("begin_s", "end_s")))
        for row in log.stages()
        if cycle["observed_s"] - 1e-9 <= row["begin_s"] < cycle["deadline_s"] - 1e-9
    ]


def test_sequential_learns_between_seeing_and_acting() -> None:
    run = make_run("sequential")
    log = play(run, build(run))
    assert last_cycle(log) == [("store", 0, 1), ("sample", 1, 5), ("update", 5, 55), ("act", 55, 58)]
    assert log.cycles()["response_s"][-1] == pytest.approx(0.058)
    assert log.summary()["missed_deadlines"] == 0


def test_reactive_answers_first() -> None:
    run = make_run("reactive")
    log = play(run, build(run))
    assert last_cycle(log) == [("act", 0, 3), ("store", 3, 4), ("sample", 4, 8), ("update", 8, 58)]
    np.testing.assert_allclose(log.cycles()["response_s"], 0.003, rtol=1e-5)


def test_asynchronous_never_waits_for_learning() -> None:
    run = make_run("asynchronous", cycle_s=0.02)
    log = play(run, build(run))  # an update takes two and a half cycles
    # STORE (1 ms) and ACT (3 ms); at the start of an episode there is nothing to store.
    expected_s = np.where(log.cycles()["step"] == 0, 0.003, 0.004)
    np.testing.assert_allclose(log.cycles()["response_s"], expected_s, rtol=1e-5)
    assert log.summary()["missed_deadlines"] == 0
    assert log.summary()["robot_s"] == pytest.approx(4 * 1.601)  # reset, episode, last STORE


def test_reactive_misses_deadlines_that_learning_does_not_leave_room_for() -> None:
    run = make_run("reactive", cycle_s=0.04)
    summary = play(run, build(run)).summary()
    assert summary["missed_deadlines"] == summary["updates"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_transition_is_stored_once(schedule: str) -> None:
    run = make_run(schedule)
    parts = build(run)
    play(run, parts)
    assert parts.replay.added == run.episodes * run.env.episode_steps == 32


@pytest.mark.parametrize(("schedule", "updates"), [("sequential", 24), ("reactive", 23)])
def test_one_update_a_step_after_the_warm_up(schedule: str, updates: int) -> None:
    # 32 steps less 8 of warm-up; the last transition of a reactive run is stored, but no cycle is left to learn in.
    run = make_run(schedule)
    assert play(run, build(run)).summary()["updates"] == updates


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_warm_up_may_be_longer_than_the_replay(schedule: str) -> None:
    run = make_run(schedule, episodes=6, warmup_s=1.8, replay_s=1.2)
    assert play(run, build(run)).summary()["updates"] > 0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_warm_up_learns_from_the_first_transition(schedule: str) -> None:
    run = make_run(schedule, warmup_s=0.0)
    assert play(run, build(run)).summary()["updates"] >= 30


def test_learning_goes_on_in_resets_or_not() -> None:
    for learns in (True, False):
        run = make_run("asynchronous", cycle_s=0.02, learn_in_resets=learns)
        log = play(run, build(run))
        starts_s, cycles = log.stages()["begin_s"], log.cycles()
        ends_s, begins_s = (cycles["deadline_s"][29:-1:30], cycles["observed_s"][30::30])
        in_resets = [((starts_s > end) & (starts_s < begin)).any() for end, begin in zip(ends_s, begins_s, strict=True)]
        # Nothing is allowed before the second episode; whatever it could not finish is left for the resets after it.
        assert in_resets == [False, learns, learns]


@given(
    update_ms=st.floats(0.0, 200.0),
    sample_ms=st.floats(0.0, 60.0),
    cap=st.sampled_from([0.1, 0.29, 0.5, 1.0, 2.0, 3.7]),
)
@settings(max_examples=25)
def test_updates_never_exceed_the_cap(update_ms: float, sample_ms: float, cap: float) -> None:
    run = make_run("asynchronous", cycle_s=0.04, episodes=5, max_updates_per_step=cap)
    log = play(run, build(run, f"constant:act=3,store=1,sample={sample_ms},update={update_ms}"))
    stages = log.stages()
    stored_s = stages["end_s"][stages["stage"] == 1]
    for index in (2, 3):  # neither samples nor updates
        begin_s = np.sort(stages["begin_s"][stages["stage"] == index])
        added = np.searchsorted(stored_s, begin_s, side="right")
        allowed = np.array([allowed_updates(int(count), run.warmup_steps, cap) for count in added])
        assert (np.arange(1, len(begin_s) + 1) <= allowed).all()


def test_a_fast_learner_sits_at_the_cap() -> None:
    run = make_run("asynchronous", cycle_s=0.04, episodes=5, max_updates_per_step=2.0)
    summary = play(run, build(run, "constant:act=3,store=0,sample=1,update=5")).summary()
    # 2 x (75 - 15) steps are allowed by the end, and there is no time left for the last two.
    assert summary["updates"] == 118


def test_allowed_updates() -> None:
    assert [allowed_updates(added, 10, 1.0) for added in (0, 10, 11, 15)] == [0, 0, 1, 5]
    assert allowed_updates(110, 10, 0.29) == 29  # 0.29 * 100 is 28.999999999999996


def test_an_action_uses_the_weights_published_before_it() -> None:
    run = make_run("asynchronous", cycle_s=0.02)
    log = play(run, build(run))
    cycles, stages = log.cycles(), log.stages()
    published_s = stages["end_s"][stages["stage"] == 3]
    versions = np.searchsorted(published_s, cycles["act_begin_s"], side="right")
    assert cycles["weights_version"].tolist() == versions.tolist()
    assert versions[-1] > 0
    acted = versions > 0
    expected_s = cycles["act_begin_s"][acted] - published_s[versions[acted] - 1]
    np.testing.assert_allclose(cycles["weights_age_s"][acted], expected_s, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_two_runs_of_one_seed_are_the_same(schedule: str) -> None:
    run = make_run(schedule, seed=5)
    one, other = (play(run, build(run, "paper-base")) for _ in range(2))
    assert one.cycles().tobytes() == other.cycles().tobytes()
    assert one.stages().tobytes() == other.stages().tobytes()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_is_the_same(schedule: str, stop: int) -> None:
    run = make_run(schedule, cycle_s=0.04, episodes=5)
    states: dict[int, Any] = {}
    whole = build(run, "paper-base")

    def keep(record: EpisodeRecord) -> None:
        states[record.episode] = copy.deepcopy(whole.state_dict())

    log = play(run, whole, after_episode=keep)
    assert bool(states[2]["clock"]["running"]) == (schedule == "asynchronous")  # stages in flight are saved as well
    resumed = build(run, "paper-base")
    # The records up to the checkpoint are on disk in a real run; here they stay with the first ledger.
    state = states[stop - 1]
    resumed.log.load_state_dict({**state["ledger"], "cycles": 0, "stages": 0, "episodes": 0})
    for name, part in resumed._stateful().items():
        part.load_state_dict(state[name])
    resumed.rng.bit_generator.state = state["rng"]
    play(run, resumed, start_episode=stop)
    assert resumed.log.cycles().tobytes() == log.cycles()[state["ledger"]["cycles"] :].tobytes()
    assert resumed.log.stages().tobytes() == log.stages()[state["ledger"]["stages"] :].tobytes()


def test_slots_go_round_in_order() -> None:
    slots = BatchSlots([make_dry_batch() for _ in range(2)])
    first, second = slots.claim(), slots.claim()
    assert (first, second, slots.free, slots.filled) == (0, 1, 0, 0)
    slots.fill(second)
    slots.fill(first)
    assert [slots.take(), slots.take()] == [second, first]
    slots.give_back(first)
    assert (slots.claim(), slots.free) == (first, 0)


def test_slots_come_back_with_what_they_hold() -> None:
    slots, other = (BatchSlots([Batch.empty(2, 1, 4, 4) for _ in range(3)]) for _ in range(2))
    slots.batches[slots.claim()].reward[:] = (1.0, 2.0)
    slots.fill(0)
    slots.batches[slots.claim()].reward[:] = (3.0, 4.0)  # still being filled
    other.load_state_dict(slots.state_dict())
    assert (other.free, other.filled, other.take()) == (1, 1, 0)
    assert [batch.reward.tolist() for batch in other.batches] == [[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]


def test_slots_need_a_batch() -> None:
    with pytest.raises(ValueError, match="got 0 batches"):
        BatchSlots([])


class CountingPolicy(DryPolicy):
    """Counts how often weights are copied into it."""

    def __init__(self) -> None:
        self.loads: list[float] = []

    def load_weights(self, flat: np.ndarray) -> None:
        self.loads.append(float(flat[0]))


def test_weights_are_copied_only_when_new() -> None:
    policy, weights = CountingPolicy(), WeightBuffer()
    assert (weights.load_newest(policy), policy.loads) == (0, [])
    assert np.isnan(weights.published_s)
    weights.publish(np.array([1.0], np.float32), 0.5)
    assert weights.publish(np.array([2.0], np.float32), 0.6) == 2
    assert [weights.load_newest(policy) for _ in range(3)] == [2, 2, 2]
    assert (policy.loads, weights.published_s) == ([2.0], 0.6)


def test_restored_weights_are_copied_again() -> None:
    weights, restored, policy = WeightBuffer(), WeightBuffer(), CountingPolicy()
    weights.publish(np.array([3.0], np.float32), 0.5)
    weights.load_newest(policy)
    restored.load_state_dict(weights.state_dict())
    assert (restored.load_newest(policy), policy.loads) == (1, [3.0, 3.0])
