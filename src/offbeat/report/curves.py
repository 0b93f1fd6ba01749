"""The numbers behind every figure: smoothing, bands, histograms and windows, as plain functions."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbeat.report.read import Group, RunRecord
from offbeat.timing.profile import Stage

Array = NDArray[np.float64]

SMOOTHING_S = 60.0
"""Training time one point of a learning curve averages over (s)."""

FLOW_S = 0.32
"""Length of the window that the computational flow shows (s): four cycles of the paper's slowest setting."""


@dataclass(frozen=True)
class Curve:
    """A learning curve.

    minutes: (E,) training time at each episode's end. returns: (R, E), one row per run, unsmoothed.
    mean, low, high: (E,) smoothed mean over runs and its 95% bootstrap band; low and high are NaN for a single run.
    """

    minutes: Array
    returns: Array
    mean: Array
    low: Array
    high: Array


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


def smooth(values: NDArray[Any], window: int) -> Array:
    """Centred moving average of (..., E) over `window` entries (odd), over fewer where an end cuts the window off."""
    values = np.asarray(values, float)
    count, half = values.shape[-1], max(0, window // 2)
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    first = np.maximum(np.arange(count) - half, 0)
    last = np.minimum(np.arange(count) + half + 1, count)
    result: Array = (total[..., last] - total[..., first]) / (last - first)
    return result


def bootstrap_band(values: NDArray[Any], level: float = 0.95, draws: int = 2000, seed: int = 0) -> tuple[Array, Array]:
    """Percentile bootstrap of the mean over runs.

    values: (R, E), one row per run. Returns low and high, (E,), that hold the mean with probability `level`; NaN
    for a single run, of which nothing can be said. Source: Efron and Tibshirani 1993, chapter 13.
    """
    values = np.asarray(values, float)
    runs, count = values.shape
    if runs < 2:
        return np.full(count, np.nan), np.full(count, np.nan)
    # How often each run is drawn, not which: one small matrix product instead of draws x R x E numbers.
    times = np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=draws)
    means = times @ values / runs
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def learning_curve(group: Group, window_s: float = SMOOTHING_S) -> Curve:
    """The learning curve of runs that differ in their seed alone, as far as the shortest of them went."""
    count = min(len(run.episodes["return"]) for run in group.runs)
    returns = np.stack([np.asarray(run.episodes["return"][:count], float) for run in group.runs])
    minutes = np.asarray(group.runs[0].episodes["training_s"][:count], float) / 60
    smoothed = smooth(returns, round(window_s / group.config.env.episode_s))
    low, high = bootstrap_band(smoothed)
    return Curve(minutes, returns, smoothed.mean(axis=0), low, high)


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


@cache
def paper_curve(setting: str) -> tuple[Array, Array, Array] | None:
    """The real robot's learning curve of one of the paper's settings, 25 runs (Figure 6).

    Returns minutes of training time, mean return and half width of its 95% confidence interval, one entry per ten
    episodes; None for a setting that the paper does not have.
    """
    text = files("offbeat.report").joinpath("data/paper_returns.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["setting"] == setting]
    if not rows:
        return None
    columns = [np.array([float(row[name]) for row in rows]) for name in ("minutes", "mean", "ci95")]
    return columns[0], columns[1], columns[2]
