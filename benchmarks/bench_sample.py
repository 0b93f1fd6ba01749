"""How fast a minibatch is gathered from the frame store, against a plain copy of as many bytes out of it.

    python benchmarks/bench_sample.py [--rounds 60] [--gigabytes 1] [--threads 1 2]

sample    FrameReplay.sample into a batch that is there: draws, rewards and stacks of uint8 images
gather    the images alone: one numpy.take of frames at random places, as sampling draws them
copy      one copy of as many bytes, as they lie one after the other in the same store, into the same batch: the floor
stacked   the usual way: fancy indexing of stacks that are stored whole, into new arrays

The store lies in files of a disk, as a run's does, is filled to the given size and far larger than any cache. All take
turns. Threads above 1 are what a schedule that samples between its commands uses on a machine with cores to spare.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch

from offbeat.build import build_batch
from offbeat.config import RunConfig, make_config
from offbeat.replay import FrameReplay, memory_map
from offbeat.types import Observation

CASES = (  # setting, scale, preset
    ("async-base", "cpu", "default"),
    ("async-base", "paper", "default"),
    ("async-base", "paper", "paper"),
    ("async-highres", "paper", "paper"),
)
EPISODE, PAGE = 150, 4096
GOAL = 0.7


def build_filled(
    config: RunConfig, capacity: int, folder: Path, threads: int, filled: int | None = None
) -> FrameReplay:
    """A replay in files that hold so many transitions of noise, as many as fit by default, in episodes."""
    env = config.env
    replay = FrameReplay(
        capacity,
        env.stack,
        env.height,
        env.width,
        memory_map(folder),
        episode_steps=EPISODE,
        return_steps=config.sac.return_steps(env.cycle_s),
        discount=config.discount_per_step,
        joints=env.joints,
        threads=threads,
    )
    if replay.added:
        return replay  # opened again
    rng, shape = np.random.default_rng(0), (env.height, env.width, 3)
    images = list(rng.integers(0, 256, (7, *shape), np.uint8))
    observations: list[Observation] = [
        {
            "image": np.concatenate([images[(i + k) % 7] for k in range(env.stack)], axis=-1),
            "proprioception": np.zeros(env.proprioception, np.float32),
        }
        for i in range(7)
    ]
    action = np.zeros(env.joints, np.float32)
    for step in range(filled or capacity):
        if step % EPISODE == 0:
            replay.begin_episode(observations[step % 7])
        replay.add(action, 0.0, observations[(step + 1) % 7], False, step % EPISODE == EPISODE - 1)
    replay.flush()  # or the disk is busy with it later
    return replay


def measure(config: RunConfig, gigabytes: float, rounds: int, threads: list[int]) -> dict[str, Any]:
    """Times of all ways."""
    env, rng = config.env, np.random.default_rng(0)
    frame = env.height * env.width * 3
    transitions = int(gigabytes * 1e9 / frame)
    batch = build_batch(config)
    flat, place = batch.frames.reshape(-1), 0
    with tempfile.TemporaryDirectory(dir=common.OUT) as directory:
        folder = Path(directory)
        replays = {n: build_filled(config, transitions, folder, n) for n in threads}
        store = np.asarray(np.memmap(folder / "frames.bin", np.uint8, "r"))
        for mapped in (store, *(replay._frames.reshape(-1) for replay in replays.values())):
            mapped[::PAGE].sum()  # each mapping of the file meets its pages for the first time only once
        frames = store[: len(store) // frame * frame].reshape(-1, frame)
        images, steps = batch.frames.shape[1], config.sac.return_steps(env.cycle_s)
        lags = np.arange(images)[::-1] + (steps - env.stack) * (np.arange(images) < env.stack) * (steps > 1)
        span = env.stack + steps
        stacked = np.ones((200 * (1 << 20) // (2 * env.stack * frame), 2 * env.stack * frame), np.uint8)

        def copy() -> None:
            nonlocal place
            # As far on as a prime number of batches, so that what was read last is never near.
            place = (place + 7 * len(flat)) % (len(store) - len(flat))
            np.copyto(flat, store[place : place + len(flat)])

        def gather() -> None:
            ends = rng.integers(span, transitions, len(batch.reward))
            np.take(frames, (ends[:, None] - lags).reshape(-1), axis=0, out=flat.reshape(-1, frame), mode="clip")

        def copy_stacked() -> Any:
            return stacked[rng.integers(0, len(stacked), len(batch.reward))]

        ways: dict[str, Any] = {f"sample {n}": lambda n=n: replays[n].sample(rng, batch) for n in threads}
        times = common.in_turns(ways | {"gather": gather, "copy": copy, "stacked": copy_stacked}, rounds, warm=5)
    return {"megabytes": batch.frames.nbytes / 1e6, "transitions": transitions} | {
        name: common.spread(values) for name, values in times.items()
    }


def size_of(config: RunConfig) -> str:
    """What is sampled, for a table: 160x90, batch 128, one step."""
    one_step = ", one step" if config.sac.return_steps(config.env.cycle_s) == 1 else ""
    return f"{config.env.width}x{config.env.height}, batch {config.sac.batch_size}{one_step}"


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the store")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    common.OUT.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    rows, table = [], []
    for names in CASES:
        config = make_config(*names)
        name = size_of(config)
        row = measure(config, arguments.gigabytes, arguments.rounds, arguments.threads)
        rows.append({"size": name} | row)
        for threads in arguments.threads:
            sample = row[f"sample {threads}"]["median_ms"]
            gather, copy, stacked = (row[way]["median_ms"] for way in ("gather", "copy", "stacked"))
            table.append(
                {
                    "size": name,
                    "threads": str(threads),
                    "copy / sample": f"{copy / sample:.0%}",
                    "gather / sample": f"{gather / sample:.0%}",
                    "stacked / sample": f"{stacked / sample:.1f}",
                    "sample": f"{sample:.2f} ms ({row[f'sample {threads}']['q1_ms']:.2f} to "
                    f"{row[f'sample {threads}']['q3_ms']:.2f})",
                    "copy, one core": f"{copy:.2f} ms",
                    "gather, one core": f"{gather:.2f} ms",
                    "bytes": f"{row['megabytes']:.1f} MB",
                    "GB/s": f"{row['megabytes'] / sample:.1f}",
                }
            )
    notes = [f"Goal: at least {GOAL:.0%} of a copy's speed."]
    common.save("sample", table, {"rows": rows}, notes)


if __name__ == "__main__":
    main()
