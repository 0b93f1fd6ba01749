"""What an update costs on a CPU: ours, ours without its fast ways, a straightforward one, and Stable-Baselines3's.

    python benchmarks/bench_update.py [--seconds 6] [--rounds 2] [--threads 1 2]

plain         Soft Actor-Critic with crops as most public code writes it, in eager float32: five encoder passes, critics
              one after the other, three losses with a backward pass and an optimizer each, crops cut in a loop
sb3           Stable-Baselines3's SAC (MultiInputPolicy) with the same convolutions, spatial softmax and hidden layers,
              one encoder shared by actor and critics, no crops; its replay is bypassed
ours-float32  our learner with every fast way switched off: float32, no memory kept
ours          our learner as `auto` chooses on this machine

All learn from random batches of one size that are already there, one update at a time, each way in a process of its own
with so many threads; the ways take turns. The floor is the arithmetic of the networks over the measured peak of a
large matrix product.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import common
import numpy as np
import torch
from plain_sac import PlainLearner, make_sb3_update

from offbeat.build import build_batch, build_learner, resolve_compute
from offbeat.config import ComputeConfig, RunConfig, make_config
from offbeat.sac.networks import TWINS, Layout
from offbeat.timing.profile import load_profile
from offbeat.types import Batch

WAYS = ("plain", "sb3", "ours-float32", "ours")
SCALES = {"cpu": ("async-base", "cpu"), "160x90": ("async-base", "paper"), "320x180": ("async-highres", "paper")}
NOTES = (
    "- Medians and quartiles. The floor counts the networks' arithmetic alone; the rest is what surrounds it: at the "
    "cpu scale hundreds of operations of a few microseconds each and convolutions of 16 filters, too narrow for the "
    "processor's widest products.",
)


def make_run(scale: str, way: str) -> RunConfig:
    """The configuration of a scale, computed in one of our ways."""
    setting, size = SCALES[scale]
    config = make_config(setting, scale=size, preset="paper")
    compute = replace(config.compute, device="cpu")
    if way == "ours-float32":
        compute = ComputeConfig(device="cpu", precision="float32", compile="off", keep_memory=False)
    return resolve_compute(replace(config, compute=compute), load_profile("zero"))


def random_batch(config: RunConfig) -> Batch:
    """A batch of noise."""
    rng, batch = np.random.default_rng(0), build_batch(config)
    batch.frames[:] = rng.integers(0, 256, batch.frames.shape, dtype=np.uint8)
    batch.action[:] = rng.uniform(-1, 1, batch.action.shape)
    batch.reward[:] = rng.uniform(0, 6, batch.reward.shape)
    batch.discount[:] = 0.99
    return batch


def make_update(scale: str, way: str, threads: int) -> Callable[[], object]:
    """One update of a way; what it learns from is made before."""
    config = make_run(scale, way)
    batch = random_batch(config)
    torch.set_num_threads(threads)
    if way == "plain":
        plain = PlainLearner(config.sac, config.env)
        return lambda: plain.update(batch)
    if way == "sb3":
        return make_sb3_update(config.sac, config.env, batch)
    learner = build_learner(config, threads)
    return lambda: learner.update(batch)


def time_updates(scale: str, way: str, threads: int, seconds: float) -> list[float]:
    """Seconds of each update over `seconds`, after a first one that does not count."""
    update, took_s = make_update(scale, way, threads), []
    update()
    end_s = time.perf_counter() + seconds
    while not took_s or time.perf_counter() < end_s:
        begin_s = time.perf_counter()
        update()
        took_s.append(time.perf_counter() - begin_s)
    return took_s


def run_child(scale: str, way: str, threads: int, seconds: float) -> list[float]:
    """`time_updates` in a new interpreter."""
    command = [sys.executable, __file__, "--child", scale, way, "--threads", str(threads), "--seconds", str(seconds)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return list(json.loads(result.stdout.splitlines()[-1]))


def count_operations(config: RunConfig) -> tuple[float, float]:
    """Multiplications and additions of one update with three encoder passes, forwards and backwards: of convolutions,
    and of linear layers."""
    layout, size = Layout(config.sac, config.env), config.sac.batch_size
    encoder = common.encoder_flops(layout)
    critics = sum(2 * math.prod(weight) * size for weight, _ in layout.critics)
    assert layout.critics[0][0][0] == TWINS  # both critics are in the product
    actor = sum(2 * math.prod(weight) * size for weight, _ in layout.actor)
    return size * (5 * sum(encoder) - encoder[0]), 6 * critics + 4 * actor  # the images need no gradient


def floor_ms(config: RunConfig, peaks: Mapping[str, common.Peaks]) -> float:
    """The least time of an update's arithmetic. peaks: by precision, of float32 and of what convolutions are computed
    in."""
    convolutions, linear = count_operations(config)
    return 1e3 * (peaks[config.compute.precision].floor_s(convolutions, 0) + peaks["float32"].floor_s(linear, 0))


def measure(threads: int, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """A row for each scale."""
    precisions = {"float32", *(make_run(scale, "ours").compute.precision for scale in SCALES)}
    peaks = {name: common.measure_peaks(threads, getattr(torch, name)) for name in precisions}
    rows = []
    for scale in SCALES:
        took_s: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, own in took_s.items():
                own += run_child(scale, way, threads, seconds / rounds)
        ways = {way: common.spread(own) | {"updates": len(own)} for way, own in took_s.items()}
        ours, config = ways["ours"]["median_ms"], make_run(scale, "ours")
        floor = floor_ms(config, peaks)
        rows.append(
            {
                "scale": f"{scale}, batch {config.sac.batch_size}",
                "threads": threads,
                "times_plain": ways["plain"]["median_ms"] / ours,
                "times_sb3": ways["sb3"]["median_ms"] / ours,
                "updates_per_s": 1e3 / ours,
                "precision": config.compute.precision,
                "floor_ms": floor,
                "times_floor": ours / floor,
                "ways": ways,
            }
        )
        row = rows[-1]
        took = ", ".join(f"{way} {values['median_ms']:.1f} ms" for way, values in ways.items())
        print(
            f"{row['scale']}, {threads} threads: {row['times_plain']:.1f} x plain, {row['times_sb3']:.1f}x sb3, "
            f"{row['times_floor']:.1f} x the floor ({floor:.1f} ms), {row['updates_per_s']:.1f} a second; {took}",
            flush=True,
        )
    return rows


def make_table(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The rows as text, ratios first."""
    return [
        {
            "size": row["scale"],
            "threads": str(row["threads"]),
            "plain / ours": f"{row['times_plain']:.1f}",
            "sb3 / ours": f"{row['times_sb3']:.1f}",
            "ours": _spread(row["ways"]["ours"]),
            "updates a second": f"{row['updates_per_s']:.1f}",
            "ours, float32": _spread(row["ways"]["ours-float32"]),
            "plain": _spread(row["ways"]["plain"]),
            "sb3": _spread(row["ways"]["sb3"]),
            "floor": f"{row['floor_ms']:.1f} ms, {row['precision']}",
            "times the floor": f"{row['times_floor']:.1f}",
        }
        for row in rows
    ]


def _spread(way: dict[str, float]) -> str:
    return f"{way['median_ms']:.1f} ms ({way['q1_ms']:.1f} to {way['q3_ms']:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="time of each way at each scale")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--child", nargs=2, metavar=("SCALE", "WAY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        scale, way = arguments.child
        print(json.dumps(time_updates(scale, way, arguments.threads[0], arguments.seconds)))
        return
    if find_spec("stable_baselines3") is None:
        parser.error('Stable-Baselines3 is not installed, with which updates are compared: pip install -e ".[bench]".')
    rows = [row for n in dict.fromkeys(arguments.threads) for row in measure(n, arguments.seconds, arguments.rounds)]
    common.save("update", make_table(rows), {"rows": rows}, NOTES)


if __name__ == "__main__":
    main()
