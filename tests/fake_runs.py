"""Run directories made of invented numbers, in the format that a run writes, for tests of what reads them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from offbeat.config import RunConfig, make_config
from offbeat.timing.ledger import CYCLE_DTYPE, STAGE_DTYPE
from offbeat.timing.profile import Stage
from offbeat.timing.summary import missed_by_cause, timing_summary

COLUMNS = (
    "episode", "steps", "return", "robot_s", "training_s", "updates", "missed", "response_ms_median",
    "lateness_ms_p99", "critic_loss", "actor_loss", "temperature", "entropy",
)  # fmt: skip

COST_S = {Stage.ACT: 0.003, Stage.STORE: 0.0005, Stage.SAMPLE: 0.0044, Stage.UPDATE: 0.05}
LEARN = (Stage.STORE, Stage.SAMPLE, Stage.UPDATE)
RESET_S = 4.0


def write_study(
    directory: Path, settings: dict[str, dict[str, Any]], seeds: Sequence[int], compare: Sequence[tuple[str, str]] = ()
) -> None:
    """Write a study directory. settings: by name, what `write_run` is given."""
    plan = []
    for name, choices in settings.items():
        for seed in seeds:
            config = write_run(directory / name / f"seed-{seed}", seed=seed, **choices)
        plan.append({"name": name, "config": replace(config, seed=0).to_dict()})
    study = {
        "offbeat": "0", "name": "invented", "question": "Does it matter?", "compare": list(compare),
        "seeds": list(seeds), "settings": plan,
    }  # fmt: skip
    (directory / "study.json").write_text(json.dumps(study))


def write_run(directory: Path, finished: bool = True, gain: float = 150.0, **choices: Any) -> RunConfig:
    """Write a run directory for `make_config(**choices)`; returns its configuration. gain: return that it learns."""
    config = make_config(**({"scale": "cpu", "minutes": 2.0, "warmup_s": 60.0} | choices))
    rng = np.random.default_rng(config.seed)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config.to_dict() | {"offbeat": "0"}, sort_keys=True, indent=2))
    rows, cycles, stages, clock_s, updates = [], [], [], 0.0, 0
    for episode in range(config.episodes):
        clock_s += RESET_S
        start_s = clock_s
        updates, new_cycles, new_stages = _episode(config, episode, start_s, updates, rng)
        cycles += new_cycles
        stages += new_stages
        clock_s = start_s + config.env.episode_steps * config.env.cycle_s
        learned = updates / (600 if config.schedule == "asynchronous" else 900)
        value = max(0.0, 50 + gain * min(1.0, learned) + rng.normal(0, 20))
        training_s = (episode + 1) * config.env.episode_s
        response_ms = 1e3 * float(np.median([row[9] for row in new_cycles]))
        losses = [1.0, -2.0, 0.1, 3.0] if updates else [""] * 4
        rows.append(
            [episode, config.env.episode_steps, value, clock_s, training_s, updates, 0, response_ms, 0.0, *losses]
        )
    with (directory / "episodes.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    np.array(cycles, CYCLE_DTYPE).tofile(directory / "cycles.bin")
    np.array(stages, STAGE_DTYPE).tofile(directory / "stages.bin")
    if finished:
        _write_summary(directory, config, rows, np.array(cycles, CYCLE_DTYPE), np.array(stages, STAGE_DTYPE))
    return config


def _episode(
    config: RunConfig, episode: int, start_s: float, updates: int, rng: Any
) -> tuple[int, list[Any], list[Any]]:
    """The cycles and stages of one episode; the rows follow CYCLE_DTYPE and STAGE_DTYPE."""
    cycles, stages = [], []
    learning = episode * config.env.episode_steps >= config.warmup_steps
    cost = {stage: value * rng.uniform(0.9, 1.2, config.env.episode_steps) for stage, value in COST_S.items()}
    free_s = start_s
    for step in range(config.env.episode_steps):
        now_s = observed_s = start_s + step * config.env.cycle_s
        before = LEARN if config.schedule == "sequential" and learning and step else ()
        after = LEARN if config.schedule == "reactive" and learning else (Stage.STORE,)
        for stage in (*before, Stage.ACT):
            stages.append((list(Stage).index(stage), now_s, now_s + cost[stage][step]))
            now_s += cost[stage][step]
        sent_s = now_s
        act_begin_s = sent_s - cost[Stage.ACT][step]
        for stage in after:
            stages.append((list(Stage).index(stage), now_s, now_s + cost[stage][step]))
            now_s += cost[stage][step]
        if config.schedule == "asynchronous" and learning and free_s <= now_s:
            end_s = max(now_s, free_s) + cost[Stage.SAMPLE][step]
            stages.append((2, max(now_s, free_s), end_s))
            stages.append((3, end_s, end_s + cost[Stage.UPDATE][step]))
            free_s = end_s + cost[Stage.UPDATE][step]
        updates += learning
        deadline_s = observed_s + config.env.cycle_s
        late_s = rng.exponential(2e-5) if config.clock == "wall" else 0.0
        cycles.append(
            (episode, step, observed_s - 0.03, observed_s, act_begin_s, sent_s, sent_s, deadline_s, late_s,
             sent_s - observed_s, 1.0, 0.1, updates, 0.02, max(0.0, deadline_s - now_s), 0.0005, 0.001, 0)
        )  # fmt: skip
    return updates, cycles, stages


def _write_summary(directory: Path, config: RunConfig, rows: list[Any], cycles: Any, stages: Any) -> None:
    returns = [row[2] for row in rows]
    timing = timing_summary(cycles, stages)
    summary = {
        "steps": len(cycles), "episodes": len(rows), "updates": rows[-1][5],
        "return_first20": float(np.mean(returns[:20])), "return_last20": float(np.mean(returns[-20:])),
        "return_mean": float(np.mean(returns)),
        "response_ms": {name: timing["response_ms"][name] for name in ("p50", "p99", "max")},
        "missed_by_cause": missed_by_cause(cycles), "timing": timing,
        "missed_deadlines": 0, "robot_s": rows[-1][3], "wall_s": 12.5, "schedule": config.schedule,
        "clock": config.clock,
        "profile": config.profile, "seed": config.seed, "setting": config.setting, "scale": config.scale,
        "preset": config.preset, "cycle_s": config.env.cycle_s, "dry": config.dry, "minutes": config.minutes,
    }  # fmt: skip
    (directory / "summary.json").write_text(json.dumps(summary, sort_keys=True, indent=2))
