"""What the four stages cost on this machine: the real policy, replay and learner, timed in sequential order, computed
in the way that is the fastest here."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from offbeat.build import Parts, build_batch, build_learner, build_parts, resolve_compute
from offbeat.config import RunConfig
from offbeat.jobs import learner_threads
from offbeat.machine import usable_cores
from offbeat.timing.ledger import Ledger
from offbeat.timing.profile import Distribution, Stage, TimingProfile, load_profile
from offbeat.types import Observation

WARM_CYCLES = 3
"""Cycles run before the first one that counts: libraries load and choose their kernels in them."""

_TRIAL_UPDATES = 9  # of each way to compute them
_LEAST_CYCLES = 10  # counted even when the time limit has passed
_FILLED = 1024  # transitions in the replay before a sample is timed: far more image bytes than caches hold


def measure_profile(
    config: RunConfig, out: Path | None = None, repeats: int = 200, limit_s: float = 90.0
) -> TimingProfile:
    """Time ACT, STORE, SAMPLE and UPDATE of a configuration and return them as quantile tables.

    First every `auto` of its `compute` is decided by timing updates each way; the profile says what was the fastest.
    The stages run one after the other, as in the sequential schedule, on random images: what they hold has no
    influence on their cost. Rendering is no stage and is not timed. out: JSON file to write the profile to, if any.
    repeats: cycles to time, at least 1. limit_s: stop early, after 10 cycles or more, once this much time (s) is over.
    Raises: ConfigError, RunError when the configuration cannot be built on this machine.
    """
    cycles = max(1, repeats)
    config, chosen = choose_compute(config)
    parts = _build(config, _FILLED + WARM_CYCLES + cycles)
    try:
        durations_s = _time_cycles(config, parts, cycles, limit_s)
    finally:
        parts.close()
    timed = len(durations_s[Stage.ACT])
    source = (
        f"measured on {usable_cores():g} cores ({platform.machine()}): {timed} cycles, {config.scale} scale, "
        f"{config.env.width}x{config.env.height} images, minibatch {config.sac.batch_size}"
    )
    name = out.stem if out is not None else f"measured-{config.setting}-{config.scale}"
    stages = {stage: Distribution.measured(np.array(values)) for stage, values in durations_s.items()}
    profile = TimingProfile(name, stages, source, chosen)
    if out is not None:
        profile.save(out)
    return profile


def choose_compute(config: RunConfig) -> tuple[RunConfig, dict[str, str]]:
    """Decide `precision` and `compile` where they are `auto`, by the median of a few updates each way.

    Returns the configuration with the fastest way, and what was chosen, by field. A GPU is not asked: it keeps up in
    float32, and the graph always pays there. Raises: ConfigError.
    """
    from offbeat.sac.compute import has_compiler, multiplies_bfloat16

    config = replace(config, dry=False)
    asked, resolved = config.compute, resolve_compute(config, load_profile("zero"))
    if resolved.compute.device != "cpu":
        return resolved, {}
    chosen: dict[str, str] = {}
    ways = {
        "precision": ("float32", "bfloat16") if multiplies_bfloat16() else ("float32",),
        "compile": ("off", "on") if has_compiler() else (),
    }
    for name, values in ways.items():
        if getattr(asked, name) == "auto" and values:
            took_s = {value: _time_updates(_with_compute(resolved, **{name: value})) for value in values}
            chosen[name] = min(took_s, key=lambda value: took_s[value])
            resolved = _with_compute(resolved, **{name: chosen[name]})
    return resolved, chosen


def _with_compute(config: RunConfig, **changes: str) -> RunConfig:
    return replace(config, compute=replace(config.compute, **changes))  # type: ignore[arg-type]


def _time_updates(config: RunConfig) -> float:
    """The median of a few updates on a batch of zeros (s), once libraries have chosen their kernels."""
    learner, batch = build_learner(config, learner_threads(config)), build_batch(config)
    took_s = [_time(learner.update, batch) for _ in range(WARM_CYCLES + _TRIAL_UPDATES)]
    return float(np.median(took_s[WARM_CYCLES:]))


def _build(config: RunConfig, transitions: int) -> Parts:
    """The parts of `config`, with a replay that holds `transitions` in one long episode."""
    seconds = transitions * config.env.cycle_s
    env = replace(config.env, episode_s=seconds, fast_reset=True)
    config = replace(
        config, dry=False, schedule="sequential", minutes=seconds / 60 * 1.001, replay_s=2.001 * seconds, env=env
    )
    if config.compute.device == "cpu":
        config = _with_compute(config, resident_frames="off")  # a sample is gathered, as on the wall clock
    return build_parts(config, load_profile("zero"), Ledger(None, config.env.cycle_s))


def _time_cycles(config: RunConfig, parts: Parts, cycles: int, limit_s: float) -> dict[Stage, list[float]]:
    rng = np.random.default_rng(0)
    observation = _first_observation(config, rng)
    parts.replay.begin_episode(observation)
    action = np.zeros(config.env.joints, np.float32)
    for _ in range(_FILLED):
        observation = _next_observation(observation, rng)
        parts.replay.add(action, 0.0, observation, False, False)
    durations_s: dict[Stage, list[float]] = {stage: [] for stage in Stage}
    begin_s = time.perf_counter()
    for cycle in range(WARM_CYCLES + cycles):
        following = _next_observation(observation, rng)
        took_s = {
            Stage.ACT: _time(parts.learner.policy.act, observation),
            Stage.STORE: _time(parts.replay.add, action, 0.0, following, False, False),
            Stage.SAMPLE: _time(parts.replay.sample, parts.rng, parts.batch),
            Stage.UPDATE: _time(parts.learner.update, parts.batch),
        }
        observation = following
        if cycle < WARM_CYCLES:
            continue
        for stage, value in took_s.items():
            durations_s[stage].append(value)
        if cycle + 1 >= WARM_CYCLES + _LEAST_CYCLES and time.perf_counter() - begin_s > limit_s:
            break
    return durations_s


def _time(work: Callable[..., object], *arguments: object) -> float:
    begin_s = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begin_s


def _first_observation(config: RunConfig, rng: np.random.Generator) -> Observation:
    shape = (config.env.height, config.env.width, 3 * config.env.stack)
    image, proprioception = rng.integers(0, 256, shape, np.uint8), np.zeros(config.env.proprioception, np.float32)
    return Observation(image=image, proprioception=proprioception)


def _next_observation(before: Observation, rng: np.random.Generator) -> Observation:
    height, width, _ = before["image"].shape
    newest = rng.integers(0, 256, (height, width, 3), np.uint8)
    image = np.concatenate([before["image"][:, :, 3:], newest], axis=-1)
    return Observation(image=image, proprioception=before["proprioception"])
