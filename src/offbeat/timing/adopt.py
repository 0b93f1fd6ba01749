"""Going on with records whose writer was killed: what of them is whole stays, and the rest is cut off."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from offbeat.timing.ledger import Ledger
from offbeat.timing.records import CYCLE_DTYPE, STAGE_DTYPE, read_episodes, read_stages


def adopt_records(log: Ledger, directory: Path, updates: int) -> tuple[int, float]:
    """Let the new ledger of `directory` go on after the episodes that are whole there.

    An episode is whole when its line and all its cycles are there; so the one under way when the writer died is not.
    updates: made by the learner that goes on. Returns the number of the next episode, and the last time (s, run clock)
    in the records. Raises: RunError when a line cannot be read.
    """
    csv = directory / "episodes.csv"
    lines = csv.read_bytes() if csv.exists() else b""
    steps, ends_s = np.empty(0, np.int64), np.empty(0)
    if b"\n" in lines:
        os.truncate(csv, lines.rfind(b"\n") + 1)
        episodes = read_episodes(directory)
        steps, ends_s = episodes["steps"], episodes["robot_s"]
    else:
        csv.unlink(missing_ok=True)  # not even the names of its columns
    cycles = _count_rows(directory / "cycles.bin", CYCLE_DTYPE.itemsize)
    stages = _count_rows(directory / "stages.bin", STAGE_DTYPE.itemsize)
    count = int(np.searchsorted(np.cumsum(steps), cycles, side="right"))
    held = int(steps[:count].sum())
    log.load_state_dict(
        log.state_dict()
        | {"episodes": count, "episode": count, "cycles": held, "steps": held, "stages": stages, "updates": updates}
    )
    times_s = [0.0, *ends_s[:count].tolist(), *(read_stages(directory)["end_s"].tolist() if stages else ())]
    return count, max(times_s)


def _count_rows(path: Path, size: int) -> int:
    """Whole rows of `size` bytes in a file."""
    return path.stat().st_size // size if path.exists() else 0
