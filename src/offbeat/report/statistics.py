"""Statistics over runs, as plain functions.

The unit is the run: the episodes of one run depend on each other, runs with different seeds do not. What is estimated
is the mean over all the runs that could be made. Its interval comes from drawing the runs that were made again, with
replacement (the bootstrap; Efron and Tibshirani 1993, chapters 6 and 13).

    runs of a setting (R)  --draw R of them, DRAWS times-->  resampled means (D)  --quantiles-->  interval

Every setting draws from a stream named after it. So a number made of two settings draws them independently, and one
that a setting enters twice (the share of a gap that it is itself an end of) draws it once.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

DRAWS = 10_000
"""Resamples behind every interval: with five runs an interval's end is the tenth smallest of them."""

LEVEL = 0.95
"""Probability that an interval is made for."""

COVERAGE = {2: (50, 67), 3: (75, 90), 4: (87, 96), 5: (92, 97), 25: (95, 95)}
"""How often in a hundred, by runs a setting, the interval of a mean and that of a difference held the truth, tried on
20,000 settings of normally distributed runs: what `interval` promises with few runs is less than `LEVEL`."""


@dataclass(frozen=True)
class Estimate:
    """A number, its 95% interval, and how many runs stand behind it (of the smaller side, where two are compared).

    NaN where nothing can be said; infinite where a time never comes.
    """

    value: float
    low: float
    high: float
    runs: int

    def excludes(self, value: float) -> bool:
        """Whether the interval lies wholly on one side of `value`; False without an interval."""
        return self.low > value or self.high < value


UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)
"""Nothing is known."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What was measured, one row per run, and the resamples of these runs.

    values: (R, ...). counts: (D, R), how often each resample holds each run; rows sum to R.
    """

    values: Array
    counts: Array

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.values)

    @property
    def mean(self) -> Any:
        """Mean over the runs, (...)."""
        return self.values.mean(axis=0)

    def means(self) -> Array:
        """Mean over the runs of every resample, (D, ...)."""
        means: Array = np.tensordot(self.counts, self.values, 1) / self.runs
        return means


def make_sample(values: NDArray[Any], name: str, draws: int = DRAWS) -> Sample:
    """The runs' values (R, ...) with the resamples of the setting called `name`: the same for the same name and R."""
    values = np.asarray(values, np.float64)
    return Sample(values, _counts(len(values), name, draws))


def interval(draws: NDArray[Any], runs: int, level: float = LEVEL) -> tuple[Any, Any]:
    """The expanded percentile interval of resampled numbers.

    draws: (D, ...). Returns low and high, (...); NaN for fewer than two runs, of which nothing can be said.
    A plain percentile interval of few runs is too narrow, by sqrt((R - 1) / R) and by the normal's tails instead of
    Student's. The quantiles are moved out to make up for both: Phi(sqrt(R / (R - 1)) t(R - 1, (1 - level) / 2)).
    Source: Hesterberg 2015, "What Teachers Should Know About the Bootstrap" (the expanded percentile interval).
    """
    draws = np.asarray(draws, np.float64)
    if runs < 2:
        nothing = np.full(draws.shape[1:], np.nan)[()]
        return nothing, nothing
    tail = special.ndtr(math.sqrt(runs / (runs - 1)) * special.stdtrit(runs - 1, (1 - level) / 2))
    # A quantile that is one of the draws: times that never come are infinite, and nothing lies between.
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0, method="inverted_cdf")
    return low, high


def band(sample: Sample) -> tuple[Array, Array]:
    """Low and high end of the mean's interval at every point, each (E,), of curves (R, E)."""
    low, high = interval(sample.means(), sample.runs)
    return np.asarray(low), np.asarray(high)


def mean(x: Sample) -> Estimate:
    """Mean over runs. x: one number per run."""
    return _estimate(x.mean, x.means(), x.runs)


def difference(x: Sample, y: Sample) -> Estimate:
    """Mean of x less mean of y."""
    return _estimate(x.mean - y.mean, x.means() - y.means(), min(x.runs, y.runs))


def ratio(x: Sample, y: Sample) -> Estimate:
    """Mean of x over mean of y; unknown where y, or a resample of it, is 0 or less."""
    below = y.means()
    if y.mean <= 0 or below.min() <= 0:
        return UNKNOWN
    return _estimate(x.mean / y.mean, x.means() / below, min(x.runs, y.runs))


def share(x: Sample, y: Sample, top: Sample, bottom: Sample) -> Estimate:
    """(x - y) over (top - bottom), of means: which part of a gap a change makes up.

    Unknown where the interval of the gap holds zero: a share of nothing has no meaning (Fieller 1954).
    """
    gap = difference(top, bottom)
    if not gap.excludes(0.0):
        return UNKNOWN
    runs = min(x.runs, y.runs, gap.runs)
    return _estimate((x.mean - y.mean) / gap.value, (x.means() - y.means()) / (top.means() - bottom.means()), runs)


def probability_of_improvement(x: Sample, y: Sample) -> Estimate:
    """P(X > Y): how often a run of x beats a run of y, over all pairs of runs, ties half.

    Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice";
    Mann and Whitney 1947 (U over the number of pairs).
    """
    wins = (x.values[:, None] > y.values) + 0.5 * (x.values[:, None] == y.values)
    draws = np.einsum("dm,mn,dn->d", x.counts, wins, y.counts, optimize=True) / (x.runs * y.runs)
    return _estimate(wins.mean(), draws, min(x.runs, y.runs))


def time_to(curves: Sample, end_s: NDArray[Any], threshold: float) -> Estimate:
    """Time at which the mean curve first lies above `threshold` (s); infinite when it never does.

    curves: one learning curve per run (R, E), already smoothed, of nothing later than its point. end_s: (E,), when each
    point was reached.
    """
    end_s = np.asarray(end_s, np.float64)

    def first(means: Array) -> Array:
        above = means > threshold
        return np.where(above.any(axis=-1), end_s[above.argmax(axis=-1)], np.inf)

    return _estimate(first(curves.mean), first(curves.means()), curves.runs)


def last_tenth(returns: NDArray[Any]) -> Array:
    """Mean over the last tenth of the episodes, (R,) of (R, E): the last 72 of the paper's 720, at least one."""
    return np.asarray(returns[..., -max(1, round(returns.shape[-1] / 10)) :], np.float64).mean(axis=-1)


def first_tenth(returns: NDArray[Any]) -> Array:
    """Mean over the first tenth of the episodes, (R,) of (R, E), at least one."""
    return np.asarray(returns[..., : max(1, round(returns.shape[-1] / 10))], np.float64).mean(axis=-1)


def smooth(values: NDArray[Any], window: int) -> Array:
    """Centred moving average of (..., E) over `window` entries (odd), over fewer where an end cuts the window off."""
    values = np.asarray(values, np.float64)
    count, half = values.shape[-1], max(0, window // 2)
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    first = np.maximum(np.arange(count) - half, 0)
    last = np.minimum(np.arange(count) + half + 1, count)
    result: Array = (total[..., last] - total[..., first]) / (last - first)
    return result


def trailing(values: NDArray[Any], window: int) -> Array:
    """Mean of the last `window` entries, at every entry that has so many: (..., E - window + 1) of (..., E)."""
    values = np.asarray(values, np.float64)
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    result: Array = (total[..., window:] - total[..., :-window]) / window
    return result


@lru_cache(maxsize=64)
def _counts(runs: int, name: str, draws: int) -> Array:
    """How often each of the runs is drawn, not which: one small matrix product instead of draws x R x E numbers."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    counts: Array = rng.multinomial(runs, np.full(runs, 1 / runs), size=draws).astype(np.float64)
    counts.setflags(write=False)
    return counts


def _estimate(value: Any, draws: Array, runs: int) -> Estimate:
    low, high = interval(draws, runs)
    return Estimate(float(value), float(low), float(high), runs)
