"""The numbers behind the timing figures, out of the cycles and stages of a group's runs: plain functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbeat.report.read import Group, RunRecord
from offbeat.timing.profile import Stage

Array = NDArray[np.float64]

FLOW_S = 0.32
"""Length of the window that the computational flow shows (s): four cycles of the paper's slowest setting."""


@dataclass(frozen=True)
class StageTime:
    """How long a stage took: number of times it was timed, mean, median and 99th percentile (ms)."""

    count: int
    mean_ms: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Flow:
    """A few cycles of one run; all times in ms since the window began.

    cycle_ms: action cycle time.
    blocks: (lane, stage, begin, end); lane 0 is the interaction, 1 and 2 are sampling and updating beside it.
    answers: (observed, sent) of every cycle in the window: what the command answers and when it left.
    length_ms: length of the window.
    """

    cycle_ms: float
    blocks: tuple[tuple[int, Stage, float, float], ...]
    answers: tuple[tuple[float, float], ...]
    length_ms: float


def response_ms(group: Group) -> Array:
    """Response time of every cycle of every run of the group (ms): from observation to command."""
    values = np.concatenate([np.asarray(run.cycles["response_s"], float) for run in group.runs]) * 1e3
    finite: Array = values[np.isfinite(values)]
    return finite


def histogram_percent(values_ms: NDArray[Any], edges_ms: NDArray[Any]) -> Array:
    """Per cent of all cycles in each bin of `edges_ms`; what lies beyond the last edge counts in the last bin."""
    counts, _ = np.histogram(np.clip(values_ms, edges_ms[0], edges_ms[-1]), edges_ms)
    share: Array = 100 * counts / max(1, len(values_ms))
    return share


def response_edges(groups: Sequence[Group], bin_ms: float = 1.0) -> Array:
    """Bin edges (ms) that hold the response times of all groups but the slowest 0.1%."""
    last = max((float(np.percentile(v, 99.9)) for g in groups if (v := response_ms(g)).size), default=bin_ms)
    return np.arange(0.0, np.ceil(last / bin_ms) + 2) * bin_ms


def lateness_ms(group: Group) -> Array:
    """How late every cycle of every run of the group ended (ms)."""
    late: Array = np.concatenate([np.asarray(run.cycles["lateness_s"], float) for run in group.runs]) * 1e3
    return late


def lateness_edges(groups: Sequence[Group]) -> Array:
    """Bin edges (ms) for a logarithmic axis, six in a power of ten, from 0.1 microseconds to the latest cycle."""
    latest = max((float(v.max()) for g in groups if (v := lateness_ms(g)).size), default=0.0)
    powers = int(np.ceil(np.log10(max(10.0, latest))))
    return np.logspace(-4, powers, 6 * (powers + 4) + 1)


def stage_times_ms(group: Group) -> dict[Stage, Array]:
    """How long every stage of the group's runs took (ms), by stage; stages that never ran are left out."""
    result: dict[Stage, Array] = {}
    for index, stage in enumerate(Stage):
        parts = [run.stages[run.stages["stage"] == index] for run in group.runs]
        times = np.concatenate([(part["end_s"] - part["begin_s"]).astype(float) for part in parts]) * 1e3
        if times.size:
            result[stage] = times
    return result


def stage_summary(group: Group) -> dict[Stage, StageTime]:
    """Number, mean, median and 99th percentile of the times of every stage that ran."""
    result = {}
    for stage, times in stage_times_ms(group).items():
        p50, p99 = np.percentile(times, [50, 99]).tolist()
        result[stage] = StageTime(len(times), float(times.mean()), p50, p99)
    return result


def flow_window(run: RunRecord, length_s: float = FLOW_S) -> Flow | None:
    """The stages and commands in `length_s` seconds in the middle of the last episode in which updates were made.

    A window begins at an observation, so that two schedules drawn below each other start alike. None where the run
    recorded no stage there.
    """
    cycles, stages = run.cycles, run.stages
    learning = stages[stages["stage"] == list(Stage).index(Stage.UPDATE)]
    candidates = cycles if learning.size == 0 else cycles[cycles["observed_s"] <= float(learning["begin_s"].max())]
    candidates = candidates[np.isfinite(candidates["observed_s"])]
    if candidates.size == 0:
        return None
    episode = candidates[candidates["episode"] == candidates["episode"].max()]
    begin = float(episode["observed_s"][len(episode) // 2])
    inside = stages[(stages["end_s"] > begin) & (stages["begin_s"] < begin + length_s)]
    lanes = {Stage.SAMPLE: 1, Stage.UPDATE: 2} if run.config.schedule == "asynchronous" else {}
    names = [list(Stage)[index] for index in inside["stage"]]
    spans = zip(names, (inside["begin_s"] - begin) * 1e3, (inside["end_s"] - begin) * 1e3, strict=True)
    blocks = tuple((lanes.get(stage, 0), stage, float(first), float(last)) for stage, first, last in spans)
    shown = cycles[(cycles["sent_s"] > begin) & (cycles["observed_s"] < begin + length_s)]
    answers = tuple((float(row["observed_s"] - begin) * 1e3, float(row["sent_s"] - begin) * 1e3) for row in shown)
    return Flow(run.config.env.cycle_s * 1e3, blocks, answers, length_s * 1e3) if blocks else None
