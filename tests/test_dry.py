"""Dry runs: the timing of the real environment, and the paper's counts at 72 minutes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offbeat.build import build_parts
from offbeat.config import EnvConfig, make_config
from offbeat.dry import DryEnv, DryLearner
from offbeat.schedules.asynchronous import run_asynchronous
from offbeat.schedules.reactive import run_reactive
from offbeat.schedules.sequential import run_sequential
from offbeat.timing.clock import VirtualClock
from offbeat.timing.ledger import Ledger
from offbeat.timing.profile import load_profile

INFO = {
    *("flange_m", "joint_rad", "joint_rad_s", "sent_rad_s", "applied_action", "mask_share", "response_s"),
    *("lateness_s", "captured_s", "observed_s", "sent_s", "deadline_s", "slack_s", "robot_s", "camera_s"),
}


def make_env(**changes: Any) -> tuple[DryEnv, VirtualClock]:
    clock = VirtualClock(load_profile("zero"), 0)
    return DryEnv(EnvConfig(**{"episode_s": 0.2, **changes}), clock), clock


def test_a_reset_takes_its_time() -> None:
    env, clock = make_env(reset_s=4.0)
    env.reset()
    assert clock.now() == 4.0


def test_a_step_ends_at_its_deadline() -> None:
    env, clock = make_env()
    env.reset()
    clock.sleep_until(4.003)
    _, reward, terminated, truncated, info = env.step(np.zeros(7))
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert clock.now() == info["deadline_s"] == pytest.approx(4.04)
    assert (info["observed_s"], info["sent_s"], info["lateness_s"]) == (4.0, 4.003, 0.0)
    assert info["response_s"] == pytest.approx(0.003)
    assert (info["slack_s"], info["robot_s"], info["camera_s"]) == (pytest.approx(0.037), 0.0, 0.0)
    assert set(info) == INFO


@pytest.mark.parametrize(("robot", "joints"), [("panda", 7), ("ur5e", 6)])
def test_shapes_are_the_arms(robot: str, joints: int) -> None:
    env, _ = make_env(robot=robot)
    observation, _ = env.reset()
    assert observation["proprioception"].shape == (3 * joints,)
    *_, info = env.step(np.zeros(joints))
    for name in ("joint_rad", "joint_rad_s", "sent_rad_s", "applied_action"):
        assert info[name].shape == (joints,)
    learner = DryLearner(joints)
    assert learner.policy.act(observation).shape == (joints,)


def test_the_newest_image_is_from_a_tick_that_has_arrived() -> None:
    env, _ = make_env(camera_rate_hz=30.0, camera_latency_s=0.03)
    env.reset()
    *_, info = env.step(np.zeros(7))
    assert info["captured_s"] == pytest.approx(119 / 30)  # tick 120 is captured at 4.0 s, to be read at 4.03 s


def test_an_episode_ends_by_time_out() -> None:
    env, _ = make_env()
    for _ in range(2):
        env.reset()
        assert [env.step(np.zeros(7))[3] for _ in range(5)] == [False] * 4 + [True]


def test_thinking_too_long_misses_the_deadline() -> None:
    env, clock = make_env()
    env.reset()
    clock.sleep_until(4.05)
    *_, info = env.step(np.zeros(7))
    assert info["lateness_s"] == pytest.approx(0.01)
    *_, info = env.step(np.zeros(7))
    assert (info["deadline_s"], info["lateness_s"]) == (pytest.approx(4.08), 0.0)


def run_dry(setting: str, schedule: str | None = None, **changes: Any) -> dict[str, Any]:
    """The summary of a dry run under the paper's preset and timing."""
    run = make_config(setting, preset="paper", schedule=schedule, dry=True, **changes)
    parts = build_parts(run, load_profile("paper", setting, run.schedule), Ledger(None, run.env.cycle_s))
    if run.schedule == "asynchronous":
        run_asynchronous(parts.env, parts.policy, parts.replay, parts.weights, parts.clock, run, parts.log)
    else:
        loop = run_sequential if run.schedule == "sequential" else run_reactive
        loop(parts.env, parts.learner, parts.replay, parts.clock, run, parts.log, rng=parts.rng, batch=parts.batch)
    return parts.log.summary()


@pytest.mark.parametrize(
    ("setting", "steps", "updates", "tolerance", "response_ms"),
    [
        ("async-base", 108_000, 102_942, 0.005, (3.0, 8.0)),
        ("async-highres", 108_000, 43_949, 0.03, (4.0, 8.0)),
        ("sync-base", 57_600, 54_932, 0.005, (57.0, 59.0)),
        ("sync-highres", 54_000, 51_498, 0.005, (64.0, 66.0)),
    ],
)
def test_72_minutes_count_what_the_papers_runs_counted(
    setting: str, steps: int, updates: int, tolerance: float, response_ms: tuple[float, float]
) -> None:
    summary = run_dry(setting)
    assert (summary["episodes"], summary["steps"]) == (720, steps)
    assert summary["updates"] == pytest.approx(updates, rel=tolerance)
    assert response_ms[0] <= summary["response_ms"]["p50"] <= response_ms[1]


@pytest.mark.parametrize(("setting", "p99_ms"), [("sync-base", 72.0), ("sync-highres", 77.0)])
def test_the_slow_answers_of_the_papers_loop(setting: str, p99_ms: float) -> None:
    assert run_dry(setting, minutes=24.0)["response_ms"]["p99"] == pytest.approx(p99_ms, rel=0.02)


@pytest.mark.parametrize("setting", ["sync-base", "sync-highres"])
def test_reactive_answers_in_under_8_ms_and_learns_as_much(setting: str) -> None:
    sequential, reactive = (run_dry(setting, schedule, minutes=24.0) for schedule in ("sequential", "reactive"))
    assert reactive["response_ms"]["p50"] < 8.0
    assert reactive["updates"] == pytest.approx(sequential["updates"], abs=1)
    assert reactive["steps"] == sequential["steps"]


def test_without_the_queue_the_high_resolution_reaches_its_cap() -> None:
    run = make_config("async-highres", preset="paper", dry=True, minutes=12.0)
    parts = build_parts(run, load_profile("paper-highres"), Ledger(None, run.env.cycle_s))
    run_asynchronous(parts.env, parts.policy, parts.replay, parts.weights, parts.clock, run, parts.log)
    assert parts.log.summary()["updates"] == pytest.approx(18_000 - 5_000, rel=0.005)
