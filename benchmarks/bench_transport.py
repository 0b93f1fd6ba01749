"""How long a minibatch takes from the replay to the learner's process, against a queue as in the paper's system.

    python benchmarks/bench_transport.py [--rounds 24] [--transitions 1000] [--json benchmarks/out/transport.json]

slots    FrameReplay in memory-mapped files, sampled straight into a shared slot; the learner uses it in place.
queue    stacks of observation and next observation stored twice, gathered, and sent by a multiprocessing.Queue, which
         pickles them through a pipe (the system of the paper, as its public code does it).
gather   one plain gather of the same frames into memory that is already there: what no transport can be faster than.

A round begins with the sampling and ends when the learner's process, which has read from every page of the frames,
has said so. The three take turns in one run, so that whatever else the machine does disturbs them all alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbeat.config import EnvConfig, make_config
from offbeat.replay import FrameReplay, memory_map
from offbeat.schedules.shared import SharedSlots
from offbeat.shared_memory import Doorbell
from offbeat.types import ImageArray

TIMEOUT_S = 60.0
PAGE = 4096
WARM_UP = 2  # rounds that are not counted: memory is touched for the first time


class StackedReplay:
    """Transitions with both of their stacks, as the paper's system keeps them: (n, H, W, 3 S) uint8 each."""

    def __init__(self, frames: ImageArray, env: EnvConfig) -> None:
        """frames: (n + S, H, W, 3), of which transition i shows i ... i + S."""
        count, stack = len(frames) - env.stack, env.stack
        shape = (count, env.height, env.width, 3 * stack)
        self.images, self.next_images = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
        for i in range(stack):
            self.images[..., 3 * i : 3 * i + 3] = frames[i : count + i]
            self.next_images[..., 3 * i : 3 * i + 3] = frames[i + 1 : count + i + 1]
        rng = np.random.default_rng(1)
        widths = (env.proprioception, env.proprioception, env.joints, 1, 1)
        self.numbers = [rng.standard_normal((count, width)).astype(np.float32) for width in widths]

    def sample(self, rng: np.random.Generator, size: int) -> tuple[NDArray[Any], ...]:
        """A minibatch of new arrays."""
        rows = rng.integers(0, len(self.images), size)
        return tuple(array[rows] for array in (self.images, self.next_images, *self.numbers))


def fill(replay: FrameReplay, frames: ImageArray, env: EnvConfig) -> None:
    """Store an episode that shows `frames`."""
    proprioception, action = np.zeros(env.proprioception, np.float32), np.zeros(env.joints, np.float32)
    stack = env.stack
    for last in range(stack - 1, len(frames)):
        image = np.concatenate(list(frames[last - stack + 1 : last + 1]), axis=-1)
        if last == stack - 1:
            replay.begin_episode({"image": image, "proprioception": proprioception})
        else:
            observation = {"image": image, "proprioception": proprioception}
            replay.add(action, 0.0, observation, False, last == len(frames) - 1)


def touch(frames: ImageArray) -> int:
    """Read from every page of the frames."""
    return int(frames.reshape(-1)[::PAGE].sum())


def learn(slots: SharedSlots, batches: Any, order: Sequence[str], used: Doorbell) -> None:
    """The learner's process: takes minibatches in this order of ways, touches them and says so."""
    for way in order:
        if way == "slots":
            assert slots.wait_filled(TIMEOUT_S)
            slot = slots.take()
            touch(slots.batches[slot].frames)
            slots.give_back(slot)
        elif way == "queue":
            images, next_images, *_ = batches.get(timeout=TIMEOUT_S)
            touch(images)
            touch(next_images)
        used.ring()


def measure(setting: str, transitions: int, rounds: int, folder: Path) -> dict[str, Any]:
    """One row of the table: the ratios first, then quartiles of each way (ms)."""
    config = make_config(setting)
    env, size, rng = config.env, config.sac.batch_size, np.random.default_rng(0)
    shape = (env.height, env.width, 3)
    frames = rng.integers(0, 256, (transitions + env.stack, *shape), dtype=np.uint8)
    stacked = StackedReplay(frames, env)
    replay = FrameReplay(transitions, env.stack, env.height, env.width, memory_map(folder / setting))
    fill(replay, frames, env)
    flat = frames.reshape(len(frames), -1)
    there = np.zeros((size * (env.stack + 1), flat.shape[1]), np.uint8)

    context = multiprocessing.get_context("spawn")
    slots, batches, used = SharedSlots(size, env.stack, env.height, env.width), context.Queue(2), Doorbell()

    def by_slots() -> None:
        assert slots.wait_free(TIMEOUT_S)
        slot = slots.claim()
        replay.sample(rng, out=slots.batches[slot])
        slots.fill(slot)
        assert used.wait(TIMEOUT_S)

    def by_queue() -> None:
        batches.put(stacked.sample(rng, size), timeout=TIMEOUT_S)
        assert used.wait(TIMEOUT_S)

    def by_gather() -> None:
        first = rng.integers(0, transitions, size)
        rows = first[:, None] + np.arange(env.stack + 1)
        np.take(flat, rows.reshape(-1), axis=0, out=there, mode="clip")

    ways: dict[str, Callable[[], None]] = {"slots": by_slots, "queue": by_queue, "gather": by_gather}
    # Each way comes after each other one: what one leaves in the caches helps or harms all alike.
    turns = list(itertools.permutations(ways))
    order = [way for turn in range(WARM_UP + rounds) for way in turns[turn % len(turns)]]
    arguments = (slots, batches, [way for way in order if way != "gather"], used)
    learner = context.Process(target=learn, args=arguments, daemon=True)
    learner.start()
    times_ms: dict[str, list[float]] = {way: [] for way in ways}
    try:
        for way in order:
            began_s = time.perf_counter()
            ways[way]()
            times_ms[way].append(1e3 * (time.perf_counter() - began_s))
        learner.join(TIMEOUT_S)
    finally:
        learner.kill()
        learner.join()
    quartiles = {way: statistics.quantiles(times[WARM_UP:], n=4) for way, times in times_ms.items()}
    medians = {way: values[1] for way, values in quartiles.items()}
    return {
        "size": f"{env.width}x{env.height}",
        "batch": size,
        "queue_over_slots": round(medians["queue"] / medians["slots"], 1),
        "slots_over_gather": round(medians["slots"] / medians["gather"], 2),
        **{f"{way}_ms": [round(value, 2) for value in values] for way, values in quartiles.items()},
        "slots_mb": round(slots.batches[0].frames.nbytes / 1e6, 1),
        "queue_mb": round(2 * size * stacked.images[0].nbytes / 1e6, 1),
    }


def describe_machine() -> dict[str, Any]:
    """What these times are of; the load tells whether it was quiet."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "load_1min": round(os.getloadavg()[0], 2),
        "nice": os.nice(0),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def main() -> None:
    """Measure both of the paper's sizes, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=24, help="minibatches of each way")
    parser.add_argument("--transitions", type=int, default=1000, help="transitions in the replay; 1 MB each when large")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "out" / "transport.json", help="output")
    arguments = parser.parse_args()
    machine = describe_machine()
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    print(f"{machine['processor']}, {machine['cores']} cores, load {machine['load_1min']}")
    print(f"{'':17} {'queue/slots':>11} {'slots/gather':>12} {'slots ms':>22} {'queue ms':>22} {'gather ms':>22}")
    for setting in ("async-base", "async-highres"):
        with tempfile.TemporaryDirectory(dir=arguments.json.parent) as folder:
            row = measure(setting, arguments.transitions, arguments.rounds, Path(folder))
        rows.append(row)
        cells = ["{1:.1f} ({0:.1f}-{2:.1f})".format(*row[f"{way}_ms"]) for way in ("slots", "queue", "gather")]
        name = f"{row['size']} x {row['batch']}"
        numbers = f"{row['queue_over_slots']:10.1f}x {row['slots_over_gather']:11.2f}x"
        print(f"{name:17} {numbers} {cells[0]:>22} {cells[1]:>22} {cells[2]:>22}", flush=True)
    text = json.dumps({"machine": machine, "rounds": arguments.rounds, "rows": rows}, indent=2)
    arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
