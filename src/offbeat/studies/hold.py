"""Which action cycle times a schedule can hold with a timing profile: found by dry runs, in virtual time."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from offbeat.build import build_parts, run_schedule
from offbeat.config import RunConfig, Schedule
from offbeat.errors import ConfigError
from offbeat.timing.ledger import EpisodeRecord, Ledger
from offbeat.timing.profile import load_profile

MISSED_SHARE = 0.01
"""A cycle is held when no larger share of its deadlines is missed."""

CANDIDATES = 8
"""Cycle times that a schedule is given to choose from, at most."""

_DRY_MINUTES = 6.0  # five thousand deadlines at 73 ms: one in a hundred is known to a seventh of that


@dataclass(frozen=True)
class Hold:
    """What a schedule can hold.

    cycles_s: cycle times to try (s), rising, the first the shortest that is held; empty when none is.
    missed_share: share of the deadlines missed at the shortest, or at the longest there is where none is held.
    refused_s: cycle times that were asked for and are not held (s).
    too_short_s: the longest cycle time that is known to be too short (s), 0 where none is.
    """

    schedule: Schedule
    cycles_s: tuple[float, ...]
    missed_share: float
    refused_s: tuple[float, ...]
    too_short_s: float


def make_cycle(base: RunConfig, schedule: Schedule, cycle_s: float) -> RunConfig:
    """`base` under another schedule and cycle time (s). Raises: ConfigError."""
    return replace(base, schedule=schedule, env=replace(base.env, cycle_s=cycle_s))


def missed_share(base: RunConfig, schedule: Schedule, cycle_s: float) -> float:
    """Share of the deadlines that a schedule misses at a cycle time (s), while it learns: from a dry run.

    Raises: ConfigError, ProfileError.
    """
    minutes = max(_DRY_MINUTES, base.env.episode_s / 60)
    config = replace(make_cycle(base, schedule, cycle_s), dry=True, minutes=minutes, warmup_s=0.0)
    log, records = Ledger(None, cycle_s), list[EpisodeRecord]()
    parts = build_parts(config, load_profile(config.profile, config.setting, schedule), log)
    run_schedule(parts, config, 0, records.append)
    return sum(record.missed for record in records) / sum(record.steps for record in records)


def find_hold(base: RunConfig, schedule: Schedule, longest_ms: float, asked_ms: Sequence[float] = ()) -> Hold:
    """The cycle times that a schedule can hold, and which of them to try.

    asked_ms: those that a user asks for; otherwise the shortest of whole milliseconds, not shorter than the camera's
    period (no new image comes sooner), and others in a geometric grid from there to `longest_ms`.
    The longer the cycle the fewer deadlines are missed, so the shortest is found by bisection.
    Raises: ConfigError, ProfileError.
    """
    shortest_ms = math.ceil(1e3 / base.env.camera_rate_hz - 1e-9)
    grid_ms: Sequence[float] = sorted(set(asked_ms)) or range(shortest_ms, math.floor(longest_ms) + 1)
    if not grid_ms:
        raise ConfigError(
            f"longest_ms is {longest_ms:g}, shorter than the camera's period of {shortest_ms} ms: "
            "give a longer one, or --cycles-ms."
        )
    shares: dict[float, float] = {}

    def holds(cycle_ms: float) -> bool:
        shares[cycle_ms] = missed_share(base, schedule, cycle_ms / 1e3)
        return shares[cycle_ms] <= MISSED_SHARE

    first = bisect_left(grid_ms, True, key=holds)
    tried_ms = grid_ms[first:]
    share = shares[tried_ms[0] if tried_ms else grid_ms[-1]]
    if asked_ms:
        return Hold(schedule, _seconds(tried_ms), share, _seconds(grid_ms[:first]), max((0, *grid_ms[:first])) / 1e3)
    too_short_s = (grid_ms[0] + first - 1) / 1e3
    return Hold(schedule, _seconds(_geometric(tried_ms)), share, (), too_short_s)


def _geometric(grid_ms: Sequence[float]) -> list[float]:
    """`CANDIDATES` cycle times from first to last in a constant ratio, as nearly as whole milliseconds allow."""
    if not grid_ms:
        return []
    return list(dict.fromkeys(np.geomspace(grid_ms[0], grid_ms[-1], CANDIDATES).round().tolist()))


def _seconds(cycles_ms: Sequence[float]) -> tuple[float, ...]:
    return tuple(cycle_ms / 1e3 for cycle_ms in cycles_ms)
