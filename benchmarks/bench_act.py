"""How long choosing an action takes on one core, alone and beside a learner that never rests.

    python benchmarks/bench_act.py [--seconds 10]

ours      Policy.act
batched   the same action through the learner's encoder, as a batch of one stack: images put in order, then convolved

alone     one act after the other, with weights and images in the caches
beside    one act every 40 ms, as on the wall clock, while another process makes update after update; torch has one core
          here and the others there

The floor is the larger of: the networks' operations over the measured peak of one core, and the bytes of weights and
image over the measured bandwidth of a copy.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import common
import numpy as np
import torch

from offbeat.build import build_batch, build_learner, build_policy
from offbeat.config import RunConfig, make_config
from offbeat.machine import usable_cores
from offbeat.sac.augment import centre_crop
from offbeat.sac.networks import Layout, act_distribution, encode, unpack
from offbeat.timing.wall import WallClock
from offbeat.types import Observation

CYCLE_S = 0.04
CASES: tuple[tuple[str, str, str, float | None], ...] = (
    # Name, setting, scale, and how long an action may take beside a learner (ms).
    ("64x36, hidden 256", "async-base", "cpu", 1.0),
    ("160x90, hidden 1024", "async-base", "paper", 2.0),
    ("320x180, hidden 1024", "async-highres", "paper", None),
)


def learn_always(config: RunConfig, ready: Any, threads: int) -> None:
    """What the other process does: one update after the other."""
    learner, batch = build_learner(config, threads), build_batch(config)
    batch.frames[:] = np.random.default_rng(0).integers(0, 256, batch.frames.shape, np.uint8)
    batch.discount[:] = 0.99
    while True:
        learner.update(batch)
        ready.set()


def make_batched(config: RunConfig, weights: Any) -> Callable[[Observation], Any]:
    """The alternative: one stack through the learner's encoder."""
    layout, sac = Layout(config.sac, config.env), config.sac
    encoder, actor = unpack(torch.from_numpy(weights), layout.encoder, layout.actor)

    def act(observation: Observation) -> Any:
        with torch.inference_mode():
            image = torch.from_numpy(centre_crop(observation["image"], layout.crop))
            stack = image.unflatten(-1, (-1, 3)).permute(2, 0, 1, 3)[None].contiguous()
            state = torch.from_numpy(observation["proprioception"])[None]
            inputs = torch.cat((encode(encoder, stack, sac.strides), state), -1)
            mean, log_std = act_distribution(actor, inputs, sac.log_std_min, sac.log_std_max)
            return (mean + log_std.exp() * torch.randn(mean.shape)).tanh()[0].numpy()

    return act


def floor_ms(config: RunConfig, peaks: common.Peaks) -> float:
    """The least time of an action (ms)."""
    layout = Layout(config.sac, config.env)
    linear = sum(math.prod(weight) for weight, _ in layout.actor)
    convolutions = sum(math.prod(weight) for weight, _ in layout.encoder)
    image = layout.crop.cropped_height * layout.crop.cropped_width * 3 * config.env.stack
    return 1e3 * peaks.floor_s(sum(common.encoder_flops(layout)) + 2 * linear, 4 * (linear + convolutions) + image)


def measure(config: RunConfig, seconds: float, paced: bool) -> dict[str, dict[str, float]]:
    """Times of both ways, in turns; paced: one action every cycle."""
    rng, env = np.random.default_rng(0), config.env
    image = rng.integers(0, 256, (env.height, env.width, 3 * env.stack), np.uint8)
    seen: Observation = {"image": image, "proprioception": np.zeros(env.proprioception, np.float32)}
    policy = build_policy(config)
    ways = {"ours": policy.act, "batched": make_batched(config, policy.weights())}
    times: dict[str, list[float]] = {name: [] for name in ways}
    clock, cycle = WallClock(), 0
    while clock.now() < seconds:
        for name, act in ways.items():
            cycle += 1
            if paced:
                clock.sleep_until(cycle * CYCLE_S)
            begin = time.perf_counter()
            act(seen)
            times[name].append(time.perf_counter() - begin)
    return {name: common.spread(values[3:]) for name, values in times.items()}


def main() -> None:
    """Measure each size alone and beside a learner."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="time of each case (s)")
    arguments = parser.parse_args()
    peaks = common.measure_peaks(1)
    rows, table = [], []
    for name, setting, scale, limit_ms in CASES:
        config = make_config(setting, scale)
        config = replace(config, env=replace(config.env, renderer="rays"))
        least_ms = floor_ms(config, peaks)
        for case in ("alone", "beside a learner"):
            learner = None
            if case != "alone":
                context = multiprocessing.get_context("spawn")
                ready, threads = context.Event(), max(1, int(usable_cores()) - 1)
                learner = context.Process(target=learn_always, args=(config, ready, threads), daemon=True)
                learner.start()
                assert ready.wait(120), "the learner did not come up"
            try:
                times = measure(config, arguments.seconds / (1 if learner else 4), paced=learner is not None)
            finally:
                if learner is not None:
                    learner.kill()
                    learner.join()
            ours, batched = times["ours"], times["batched"]
            ratio = batched["median_ms"] / ours["median_ms"]
            row = {"size": name, "case": case, "batched_over_ours": ratio, "floor_ms": least_ms, "limit_ms": limit_ms}
            rows.append(row | {"ours": ours, "batched": batched})
            table.append(
                {
                    "size": name,
                    "case": case,
                    "batched / ours": f"{ratio:.1f}",
                    "ours, median (p99)": f"{ours['median_ms']:.2f} ms ({ours['p99_ms']:.2f})",
                    "batched, median (p99)": f"{batched['median_ms']:.2f} ms ({batched['p99_ms']:.2f})",
                    "floor": f"{least_ms:.2f} ms",
                    "times the floor": f"{ours['median_ms'] / least_ms:.1f}",
                    "goal": f"{limit_ms:g} ms" if learner and limit_ms else "",
                }
            )
    common.save("act", table, {"peaks": vars(peaks), "rows": rows})


if __name__ == "__main__":
    main()
