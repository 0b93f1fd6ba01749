"""What a simulated second costs: dry and learning, a cycle by part, and whether a cycle grows with what came before it.

    python benchmarks/bench_simulate.py [--minutes 2.5] [--setting async-base]

dry        72 minutes of the paper's run in virtual time with nothing computed
learning   a run of the cpu scale on one core, one update a cycle; times begin when its warm-up is over
parts      the calls into each part of that run, timed from outside; a call inside another counts for the inner part
growth     act, step, store and record with 1,000 and with 100,000 transitions and cycles before them

The floor of a part of MuJoCo is one bare call of the library for the same steps or rays; of torch and of the replay the
larger of operations over the measured peak and bytes over the measured bandwidth of a copy. What keeps books or decides
over a few dozen numbers has no floor worth the name.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import common
import mujoco
import numpy as np
import torch
from bench_act import floor_ms as act_floor_ms
from bench_sample import build_filled
from bench_update import floor_ms

from offbeat import checkpoint
from offbeat.build import build_batch, build_env, build_policy, keeps_frames, resolve_compute
from offbeat.config import RunConfig, make_config
from offbeat.env import RealTimeEnv
from offbeat.replay import FrameReplay
from offbeat.robots.render import RayRenderer
from offbeat.run import train
from offbeat.sac.learner import Learner
from offbeat.sac.policy import Policy
from offbeat.safety import VelocityFilter
from offbeat.tasks.visual_reacher import VisualReacher
from offbeat.timing.clock import VirtualClock
from offbeat.timing.ledger import EpisodeRecord, Ledger
from offbeat.timing.profile import load_profile

DRY_GOAL, LEARNING_GOAL = 1000.0, 3.0  # robot seconds a second
SIZES = (1_000, 100_000)  # transitions before the cycles whose growth is looked for
PARTS: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("update (torch)", Learner, ("update",)),
    ("act (torch)", Policy, ("act", "load_weights")),
    ("physics (MuJoCo)", mujoco, ("mj_step",)),
    ("rays (MuJoCo)", mujoco, ("mj_multiRay", "mj_kinematics", "mj_camlight")),
    ("shading", RayRenderer, ("render",)),
    ("mask", VisualReacher, ("share",)),
    ("safety filter", VelocityFilter, ("filter",)),
    ("environment", RealTimeEnv, ("send", "receive", "reset")),
    ("sample", FrameReplay, ("sample",)),
    ("store", FrameReplay, ("add", "begin_episode")),
    ("records", Ledger, ("step", "on_stage", "update", "end_episode")),
    ("checkpoints", FrameReplay, ("flush",)),
    ("checkpoints", checkpoint, ("write_checkpoint",)),
)


class Meter:
    """Adds up the time (s) inside wrapped calls, by part, and counts physics steps and rays.

    What wrapping costs around a call is measured once and counts for no part: `own_s` of it so far.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((part for part, _, _ in PARTS), 0.0)
        self.steps = self.rays = 0
        self.own_s = self._own_s = 0.0
        self._inner: list[float] = []
        self._own_s = self._calibrate()

    def _calibrate(self, calls: int = 2000) -> float:
        """Seconds that wrapping adds around one call, where it is called often."""
        self.seconds[""] = 0.0
        empty = SimpleNamespace(call=lambda: None)
        self.wrap(empty, "call", "")
        begin = time.perf_counter()
        for _ in range(calls):
            pass
        loop_s = time.perf_counter() - begin
        self._inner.append(0.0)  # as inside another call
        begin = time.perf_counter()
        for _ in range(calls):
            empty.call()
        around_s = time.perf_counter() - begin - loop_s - self.seconds.pop("")
        self._inner.pop()
        self.own_s = 0.0
        return around_s / calls

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Time every call of `owner.name` as `part` from now on."""
        call: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            begin = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                took = time.perf_counter() - begin
                self.seconds[part] += took - self._inner.pop()
                self.own_s += self._own_s
                if self._inner:
                    self._inner[-1] += took + self._own_s
                if name == "mj_step":
                    self.steps += args[2] if len(args) > 2 else 1
                elif name == "mj_multiRay":
                    self.rays += args[10]

        setattr(owner, name, timed)


def measure_dry() -> dict[str, Any]:
    """Robot seconds a second of a dry run."""
    with tempfile.TemporaryDirectory() as directory:
        begin = time.perf_counter()
        summary = train(make_config("async-base", "paper", "paper", dry=True), Path(directory) / "run")
        wall_s = time.perf_counter() - begin
    return {"robot_s_per_s": summary["robot_s"] / wall_s, "wall_s": wall_s, "steps": summary["steps"]}


def measure_learning(config: RunConfig) -> dict[str, Any]:
    """Robot seconds a second after the warm-up, and where they went."""
    meter, marks = Meter(), []
    for part, owner, names in PARTS:
        for name in names:
            meter.wrap(owner, name, part)

    def mark(record: EpisodeRecord) -> None:
        marks.append((record, time.perf_counter() - meter.own_s, dict(meter.seconds), meter.steps, meter.rays))

    with tempfile.TemporaryDirectory(dir=common.OUT) as directory:
        train(config, Path(directory) / "run", mark)
    first = next(i for i, (record, *_) in enumerate(marks) if record.training_s >= config.warmup_s)
    (before, t0, spent0, steps0, rays0), (after, t1, spent1, steps1, rays1) = marks[first], marks[-1]
    wall_s, cycles = t1 - t0, round((after.training_s - before.training_s) / config.env.cycle_s)
    parts = {part: 1e3 * (spent1[part] - spent0[part]) / cycles for part in spent1}
    parts["loop and clock"] = 1e3 * wall_s / cycles - sum(parts.values())
    return {
        "robot_s_per_s": (after.robot_s - before.robot_s) / wall_s,
        "training_s_per_s": (after.training_s - before.training_s) / wall_s,
        "updates_a_cycle": (after.updates - before.updates) / cycles,
        "cycles": cycles,
        "cycle_ms": 1e3 * wall_s / cycles,
        "parts_ms": parts,
        "steps_a_cycle": (steps1 - steps0) / cycles,
        "rays_a_cycle": (rays1 - rays0) / cycles,
    }


def measure_floors(config: RunConfig, learning: dict[str, Any]) -> dict[str, float]:
    """The least time (ms) of each part that has one."""
    peaks = common.measure_peaks(1)
    env = build_env(config, VirtualClock(load_profile("zero"), 0), 0)
    env.reset(seed=0)
    world, camera = env._rig._world, env._rig.camera
    renderer, data = camera._renderer, camera._data
    step_s = statistics.median(common.repeat(lambda: mujoco.mj_step(world.model, world.data, 20), 50)) / 20
    rays = np.ascontiguousarray(renderer._rays.T)
    count, position = len(rays), data.cam_xpos[renderer._camera]
    found = renderer._geom, renderer._distance, renderer._normal

    def cast() -> None:
        groups = renderer._groups
        mujoco.mj_multiRay(world.model, data, position, rays.ravel(), groups, True, -1, *found, count, 10.0)

    ray_s = statistics.median(common.repeat(cast, 50)) / count
    stack = config.env.height * config.env.width * 3 * config.env.stack
    batch = build_batch(config, keeps_frames(config))
    sampled = sum(getattr(batch, field.name).nbytes for field in fields(batch))
    return {
        "update (torch)": floor_ms(config, {"float32": peaks}) * learning["updates_a_cycle"],
        "act (torch)": act_floor_ms(config, peaks),
        "physics (MuJoCo)": 1e3 * step_s * learning["steps_a_cycle"],
        "rays (MuJoCo)": 1e3 * ray_s * learning["rays_a_cycle"],
        "sample": 1e3 * peaks.floor_s(0, sampled) * learning["updates_a_cycle"],
        "store": 1e3 * peaks.floor_s(0, stack),
    }


def measure_growth(config: RunConfig) -> dict[str, dict[str, float]]:
    """What a cycle of acting costs after few and after many transitions; the two take turns, an episode each."""
    sac = replace(config.sac, return_span_s=0.0)
    config = replace(config, env=replace(config.env, fast_reset=True), sac=sac)
    with tempfile.TemporaryDirectory(dir=common.OUT) as directory:
        actors = {}
        for size in SIZES:
            folder = Path(directory) / str(size)
            folder.mkdir()
            replay = build_filled(replace(config), SIZES[-1], folder, 1, size)
            clock, log = VirtualClock(load_profile("zero"), 0), Ledger(folder, config.env.cycle_s)
            env = build_env(config, clock, 0)
            _, info = env.reset(seed=0)
            for cycle in range(size):
                log.step(0.0, info)
                if cycle % config.env.episode_steps == 0:
                    log.end_episode(0.0)
            actors[size] = (env, build_policy(config), replay, log)
        times: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(6):
            for size, (env, policy, replay, log) in actors.items():
                times[size] += play_episode(env, policy, replay, log)
    return {str(size): common.spread(values) for size, values in times.items()}


def play_episode(env: Any, policy: Any, replay: FrameReplay, log: Ledger) -> list[float]:
    """Seconds of each cycle of an episode."""
    observation, _ = env.reset()
    replay.begin_episode(observation)
    truncated, times = False, []
    while not truncated:
        begin = time.perf_counter()
        action = policy.act(observation)
        observation, reward, terminated, truncated, info = env.step(action)
        replay.add(info["applied_action"], reward, observation, terminated, truncated)
        log.step(reward, info)
        times.append(time.perf_counter() - begin)
    log.end_episode(0.0)
    return times


def main() -> None:
    """Measure all four and save them as one table of parts and three sentences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.5, help="training time of the run that learns (minutes)")
    parser.add_argument("--setting", default="async-base")
    arguments = parser.parse_args()
    common.OUT.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    config = make_config(arguments.setting, "cpu", minutes=arguments.minutes, warmup_s=30.0)
    config = resolve_compute(config, load_profile("zero"))
    growth, dry = measure_growth(config), measure_dry()
    learning = measure_learning(config)
    floors, cycle_ms = measure_floors(config, learning), learning["cycle_ms"]
    outside = sum(ms for part, ms in learning["parts_ms"].items() if "torch" not in part and "MuJoCo" not in part)
    table = [
        {
            "part of a cycle": part,
            "ms": f"{ms:.3f}",
            "share": f"{ms / cycle_ms:.1%}",
            "floor, ms": f"{floors[part]:.3f}" if part in floors else "",
            "times the floor": f"{ms / floors[part]:.1f}" if part in floors else "",
        }
        for part, ms in sorted(learning["parts_ms"].items(), key=lambda item: -item[1])
    ]
    few, many = (growth[str(size)]["median_ms"] for size in SIZES)
    notes = [
        f"- Dry: {dry['robot_s_per_s']:,.0f} robot seconds a second (goal {DRY_GOAL:,.0f}).",
        f"- Learning, cpu scale, one core, {learning['updates_a_cycle']:.2f} updates a cycle: "
        f"{learning['robot_s_per_s']:.1f} robot seconds a second with resets, {learning['training_s_per_s']:.1f} in "
        f"episodes (goal {LEARNING_GOAL:g}); {cycle_ms:.2f} ms a cycle, {outside / cycle_ms:.1%} of it outside torch "
        "and MuJoCo. Resets count for the cycles of their episode.",
        f"- A cycle of acting, stepping, storing and recording: {few:.3f} ms after {SIZES[0]:,} transitions, "
        f"{many:.3f} ms after {SIZES[1]:,}: {many / few:.2f} times.",
    ]
    numbers = {"dry": dry, "learning": learning, "floors_ms": floors, "growth": growth}
    common.save("simulate", table, numbers | {"outside_share": outside / cycle_ms}, notes)


if __name__ == "__main__":
    main()
