"""Bytes that a transition costs: each frame stored once, against stacks stored twice as in the paper's system.

    python benchmarks/bench_memory.py [--json benchmarks/out/memory.json]

Ours is what the arrays of FrameReplay take at the paper's 100,000 transitions, everything counted: frames,
proprioception, actions, counters, the first frames of episodes. They are made and never touched, so the 17 GB of the
large images need no memory here. A run that goes on after its ring is full also keeps a margin for its checkpoints,
which is shown beside it. Stacked storage holds two stacks a transition, observation and next observation.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike, NDArray

from offbeat.build import build_replay
from offbeat.config import make_config
from offbeat.replay import FrameReplay
from offbeat.shared_memory import Arena
from offbeat.types import Batch

CAPACITY = 100_000
LIMIT = 1.02  # frames a transition


def untouched(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Memory that takes none until it is written to."""
    return Arena({name: (shape, dtype)}).array(name)


def measure(setting: str) -> dict[str, Any]:
    """One row of the table: bytes a transition of both ways, and how many frames that is."""
    config = make_config(setting, preset="paper")
    env = config.env
    frame = env.height * env.width * 3
    replay = FrameReplay(CAPACITY, env.stack, env.height, env.width, untouched, episode_steps=env.episode_steps)
    in_a_run = build_replay(config, untouched)
    assert in_a_run.capacity == CAPACITY
    one = Batch.empty(1, env.stack, env.height, env.width)
    numbers = sum(getattr(one, f.name).nbytes for f in fields(Batch) if f.name != "frames")
    stacked = 2 * env.stack * frame + numbers
    ours = replay.nbytes / CAPACITY
    return {
        "size": f"{env.width}x{env.height}",
        "ratio": round(stacked / ours, 2),
        "frames_a_transition": round(ours / frame, 4),
        "frames_a_transition_with_margin": round(in_a_run.nbytes / CAPACITY / frame, 4),
        "bytes_a_transition": round(ours, 1),
        "stacked_frames_a_transition": round(stacked / frame, 4),
        "stacked_bytes_a_transition": stacked,
        "ours_gb": round(replay.nbytes / 1e9, 2),
        "stacked_gb": round(CAPACITY * stacked / 1e9, 2),
        "within_limit": ours <= LIMIT * frame,
    }


def main() -> None:
    """Count at both of the paper's sizes, print a table, write JSON; fails when a transition costs more than 1.02."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "out" / "memory.json", help="output")
    arguments = parser.parse_args()
    rows = [measure(setting) for setting in ("async-base", "async-highres")]
    print(
        f"{'size':>8} {'ratio':>6} {'frames, ours':>13} {'with margin':>12} {'stacked':>8} {'ours':>9} {'stacked':>9}"
    )
    for row in rows:
        print(
            f"{row['size']:>8} {row['ratio']:5.2f}x {row['frames_a_transition']:13.4f} "
            f"{row['frames_a_transition_with_margin']:12.4f} {row['stacked_frames_a_transition']:8.3f} "
            f"{row['ours_gb']:6.2f} GB {row['stacked_gb']:6.2f} GB"
        )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"transitions": CAPACITY, "limit": LIMIT, "rows": rows}, indent=2) + "\n")
    if not all(row["within_limit"] for row in rows):
        raise SystemExit(f"A transition costs more than {LIMIT} frames.")


if __name__ == "__main__":
    main()
