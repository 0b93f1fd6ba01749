"""What the runs of a setting came to: the one form that run directories, studies and the paper's records are put into.

Everything said about settings (curves, tables, comparisons, conclusions) is made from `Results` alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbeat.config import RunConfig, make_config
from offbeat.errors import ConfigError
from offbeat.report import statistics
from offbeat.report.read import Group
from offbeat.report.statistics import UNKNOWN, Array, Estimate, Sample

SMOOTHING_S = 60.0
"""Training time that one point of a learning curve averages over, half of it before and half after (s)."""

TIMING_S = 120.0
"""Training time before a moment that the mean return must lie above a threshold in, to have passed it (s). Of all
windows from 8 to 39 episodes only this one gives the times that are known of the paper's runs: 678, 1,320, 2,274 s."""

THRESHOLD = 150.0
"""Return whose first passing is timed."""


@dataclass(frozen=True, eq=False)
class Results:
    """One setting: R runs of E episodes that differ in nothing but their seed.

    name: unique in the report. schedule: decides the colour. seeds: (R,).
    returns: (R, E), of every episode. training_s: (E,), time in episodes at each one's end, resets left out (s).
    steps: (R,), environment steps of each run. updates: (U,), gradient updates of the runs that logged them.
    response_ms: the runs' median and 99th percentile (ms), each a mean over runs, or None where not recorded.
    reference: the setting of the paper that these runs repeat, or None.
    """

    name: str
    schedule: str
    seeds: tuple[int, ...]
    returns: Array
    training_s: Array
    steps: Array
    updates: Array
    response_ms: tuple[float, float] | None
    reference: str | None

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.seeds)

    @property
    def final(self) -> Sample:
        """Return of each run over the last tenth of its episodes."""
        return self.sample(statistics.last_tenth(self.returns))

    @property
    def whole(self) -> Sample:
        """Return of each run over all its episodes, warm-up included."""
        return self.sample(self.returns.mean(axis=1))

    def sample(self, values: NDArray[Any]) -> Sample:
        """Values of this setting's runs, one row per run, with the setting's own resamples."""
        return statistics.make_sample(values, self.name)

    def smoothed(self, window_s: float = SMOOTHING_S) -> Sample:
        """The runs' learning curves (R, E), each point the mean of the episodes within `window_s` around it."""
        return self.sample(statistics.smooth(self.returns, self._episodes_in(window_s)))

    def time_to(self, threshold: float) -> Estimate:
        """Training time until the mean return over the `TIMING_S` before it lies above `threshold` (s)."""
        window = min(self._episodes_in(TIMING_S), self.returns.shape[1])
        curves = self.sample(statistics.trailing(self.returns, window))
        return statistics.time_to(curves, self.training_s[window - 1 :], threshold)

    def _episodes_in(self, seconds: float) -> int:
        episode_s = float(self.training_s[-1]) / len(self.training_s)
        return max(1, round(seconds / episode_s))


@dataclass(frozen=True)
class Curve:
    """A learning curve over R runs.

    minutes: (E,) training time at each episode's end. returns: (R, E), one row per run, unsmoothed.
    mean, low, high: (E,) smoothed mean over runs and its 95% bootstrap band; low and high are NaN for a single run.
    """

    minutes: Array
    returns: Array
    mean: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Summary:
    """One setting in numbers, each over its runs.

    final, whole: return over the last tenth and over all episodes. learned: final over that of the first tenth.
    time_s: training time until the mean return of the last `TIMING_S` passes the threshold (s), infinite for never.
    updates, steps: in a whole run. response_ms: median and 99th percentile, or None.
    """

    name: str
    schedule: str
    runs: int
    episodes: int
    minutes: float
    final: Estimate
    whole: Estimate
    learned: Estimate
    time_s: Estimate
    updates: Estimate
    steps: Estimate
    response_ms: tuple[float, float] | None


@dataclass(frozen=True)
class Change:
    """What going from the setting `old` to the setting `new` did to the return.

    main: whether this is the main gap. runs: of new and of old.
    final, whole: differences of the mean return over the last tenth and over all episodes.
    final_share, whole_share: these as part of the main gap; unknown where that gap cannot be told from zero.
    ratio: of the final means. improvement: P(a run of new ends higher than a run of old). updates: difference.
    """

    new: str
    old: str
    main: bool
    runs: tuple[int, int]
    final: Estimate
    whole: Estimate
    final_share: Estimate
    whole_share: Estimate
    ratio: Estimate
    improvement: Estimate
    updates: Estimate


def group_results(group: Group) -> Results:
    """The results of a group of run directories, as far as the shortest of its runs went."""
    responses = [run.summary["response_ms"] for run in group.runs]
    p50, p99 = (float(np.mean([np.nan if r[name] is None else r[name] for r in responses])) for name in ("p50", "p99"))
    return Results(
        name=group.label,
        schedule=group.schedule,
        seeds=tuple(run.config.seed for run in group.runs),
        returns=group.column("return"),
        training_s=group.column("training_s")[0],
        steps=group.column("steps").sum(axis=1),
        updates=group.column("updates")[:, -1],
        response_ms=(p50, p99) if math.isfinite(p50) else None,
        reference=paper_setting(group.config),
    )


@lru_cache(maxsize=64)
def learning_curve(results: Results, window_s: float = SMOOTHING_S) -> Curve:
    """The learning curve of a setting's runs. window_s: training time that one point averages over (s)."""
    smoothed = results.smoothed(window_s)
    low, high = statistics.band(smoothed)
    return Curve(results.training_s / 60, results.returns, np.asarray(smoothed.mean), low, high)


def paper_setting(config: RunConfig) -> str | None:
    """The setting of the paper that a configuration repeats, at any scale, length and timing profile; None if none."""
    try:
        base = make_config(config.setting, config.scale, config.preset)
    except ConfigError:  # a name that this version does not know
        return None
    # What decides neither the task nor what is learned in it, or only how long: free to differ.
    env = replace(config.env, renderer=base.env.renderer, fast_reset=base.env.fast_reset, reset_s=base.env.reset_s)
    free = (
        "clock",
        "profile",
        "minutes",
        "seed",
        "dry",
        "warmup_s",
        "checkpoint_episodes",
        "keep_replay",
        "wall",
        "compute",
    )
    same = replace(config, env=env, **{name: getattr(base, name) for name in free})
    return config.setting if same == base else None


def summarise(results: Results, threshold: float = THRESHOLD) -> Summary:
    """A setting in numbers. threshold: return whose first passing is timed."""
    first = results.sample(statistics.first_tenth(results.returns))
    updates = statistics.make_sample(results.updates, results.name) if results.updates.size else None
    return Summary(
        name=results.name,
        schedule=results.schedule,
        runs=results.runs,
        episodes=results.returns.shape[1],
        minutes=float(results.training_s[-1]) / 60,
        final=statistics.mean(results.final),
        whole=statistics.mean(results.whole),
        learned=statistics.ratio(results.final, first),
        time_s=results.time_to(threshold),
        updates=UNKNOWN if updates is None else statistics.mean(updates),
        steps=statistics.mean(results.sample(results.steps)),
        response_ms=results.response_ms,
    )


def compare_settings(results: Sequence[Results], pairs: Sequence[tuple[str, str]]) -> tuple[Change, ...]:
    """What each pair's change is worth; the first pair is the main gap. Pairs with a setting that is not there go."""
    named = {r.name: r for r in results}
    if not pairs or not set(pairs[0]) <= set(named):
        top = bottom = None
    else:
        top, bottom = named[pairs[0][0]], named[pairs[0][1]]
    return tuple(_compare(named[new], named[old], top, bottom) for new, old in pairs if new in named and old in named)


def _compare(new: Results, old: Results, top: Results | None, bottom: Results | None) -> Change:
    def share(part: str) -> Estimate:
        if top is None or bottom is None:
            return UNKNOWN
        return statistics.share(*(getattr(side, part) for side in (new, old, top, bottom)))

    both = [statistics.make_sample(side.updates, side.name) for side in (new, old) if side.updates.size]
    return Change(
        new=new.name,
        old=old.name,
        main=new is top and old is bottom,
        runs=(new.runs, old.runs),
        final=statistics.difference(new.final, old.final),
        whole=statistics.difference(new.whole, old.whole),
        final_share=share("final"),
        whole_share=share("whole"),
        ratio=statistics.ratio(new.final, old.final),
        improvement=statistics.probability_of_improvement(new.final, old.final),
        updates=statistics.difference(*both) if len(both) == 2 else UNKNOWN,
    )


def improvement_table(results: Sequence[Results]) -> dict[tuple[str, str], Estimate]:
    """P(X > Y) of the final return for every ordered pair of settings."""
    finals = {r.name: r.final for r in results}
    return {
        (x, y): statistics.probability_of_improvement(finals[x], finals[y]) for x in finals for y in finals if x != y
    }
