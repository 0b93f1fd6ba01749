"""What a tuning of the action cycle time came to: numbers, the recommendation and its sentences, as plain functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from offbeat.report import statistics
from offbeat.report.read import RunRecord
from offbeat.report.statistics import COVERAGE, Estimate, Sample
from offbeat.report.words import count_runs, listed, number, with_interval


@dataclass(frozen=True)
class CycleResult:
    """The runs of one cycle time of one schedule in one rung.

    cycle_s: cycle time (s). minutes: of each run. returns: `final_return` of each run, (R,).
    missed_share: share of all their deadlines that were missed.
    """

    schedule: str
    cycle_s: float
    rung: int
    minutes: float
    returns: tuple[float, ...]
    missed_share: float

    @property
    def cycle_ms(self) -> float:
        """Cycle time (ms)."""
        return round(self.cycle_s * 1e3, 6)

    @property
    def sample(self) -> Sample:
        """The runs' returns with their resamples: the draws of the setting of this name in the rung's own report."""
        return statistics.make_sample(np.array(self.returns), f"{self.schedule}-{self.cycle_ms:g}ms")

    @property
    def estimate(self) -> Estimate:
        """Mean return over the runs."""
        return statistics.mean(self.sample)


@dataclass(frozen=True)
class Held:
    """What a schedule can hold.

    shortest_s: the shortest cycle time it holds (s), or None. missed_share: share of the deadlines that a dry run
    misses there, or at the longest that was tried. too_short_s: the longest cycle time known to be too short (s), or 0.
    """

    schedule: str
    shortest_s: float | None
    missed_share: float
    too_short_s: float


@dataclass(frozen=True)
class Best:
    """The best of several cycle times, and those of them that cannot be told from it, by rising cycle time.

    Two can be told apart when the 95% interval of the difference of their means does not hold zero.
    """

    best: CycleResult
    alike: tuple[CycleResult, ...]

    @property
    def told(self) -> bool:
        """Whether anything can be told: of single runs nothing can."""
        return not math.isnan(self.best.estimate.low)

    @property
    def longest(self) -> CycleResult:
        """The longest cycle time that cannot be told from the best, which may be the best itself."""
        return max((self.best, *self.alike), key=lambda result: result.cycle_s)


def final_return(run: RunRecord) -> float:
    """Mean return over the last tenth of a run's episodes, for an episode of exactly the length that was asked for.

    A return is an integral over time, so it compares across cycle times; but an episode is a whole number of cycles,
    up to half a cycle longer or shorter than asked.
    """
    env = run.config.env
    asked = env.episode_s / (env.episode_steps * env.cycle_s)
    return float(statistics.last_tenth(np.asarray(run.episodes["return"]))) * asked


def make_result(rung: int, minutes: float, runs: Sequence[RunRecord]) -> CycleResult:
    """The result of a cycle time's runs, which differ in their seeds alone."""
    config = runs[0].config
    missed = sum(int(np.sum(run.episodes["missed"])) for run in runs)
    steps = sum(int(np.sum(run.episodes["steps"])) for run in runs)
    returns = tuple(final_return(run) for run in runs)
    return CycleResult(config.schedule, config.env.cycle_s, rung, minutes, returns, missed / steps)


def find_best(results: Sequence[CycleResult]) -> Best:
    """The highest mean, and what cannot be told from it; of one run nothing can be told."""
    best = max(results, key=lambda result: result.estimate.value)
    others = [result for result in results if result is not best]
    alike = [r for r in others if not statistics.difference(best.sample, r.sample).excludes(0.0)]
    return Best(best, tuple(sorted(alike, key=lambda result: result.cycle_s)))


def last_rung(results: Sequence[CycleResult]) -> list[CycleResult]:
    """The results of the rung with the longest runs, the only ones that a recommendation is made from."""
    return [result for result in results if result.rung == max(r.rung for r in results)]


def conclude_tuning(results: Sequence[CycleResult], held: Sequence[Held]) -> list[str]:
    """The recommendation in sentences: the best of all, then each schedule."""
    compared = last_rung(results)
    overall = find_best(compared)
    best, longest = overall.best, overall.longest
    alike = f" {_alike(overall, named=True)}" if len(compared) > 1 else ""
    lines = [
        f"Best action cycle: {best.cycle_ms:g} ms, {best.schedule} (--schedule {best.schedule} --env.cycle-s "
        f"{best.cycle_s:g}). It returns {_return(best)} an episode at the end of {best.minutes:g} minutes, "
        f"with {count_runs(len(best.returns))}.{alike}"
    ]
    if longest is not best and overall.told:
        lines.append(
            f"Take it where the highest mean is wanted, and {_name(longest)}, which returns {_return(longest)}, "
            "the longest of these, where a machine should have time to spare."
        )
    for hold in held:
        own = [result for result in compared if result.schedule == hold.schedule]
        lines.append(_schedule(hold, own, single=len(held) == 1))
    return [*lines, _caution(best, results)]


def result_record(result: CycleResult) -> dict[str, Any]:
    """One line of tuning.csv."""
    estimate = result.estimate
    return {
        "schedule": result.schedule,
        "cycle_ms": result.cycle_ms,
        "rung": result.rung,
        "minutes": result.minutes,
        "seeds": len(result.returns),
        "mean": estimate.value,
        "low95": estimate.low,
        "high95": estimate.high,
        "missed_share": result.missed_share,
    }


def _schedule(hold: Held, own: Sequence[CycleResult], single: bool) -> str:
    """What one schedule can hold and which cycle is its best."""
    if hold.shortest_s is None or not own:
        return f"{hold.schedule} holds none of the cycles: it misses {_percent(hold.missed_share)} of its deadlines."
    holds = f"{hold.schedule} holds {hold.shortest_s * 1e3:g} ms ({_percent(hold.missed_share)} of deadlines missed)"
    found = find_best(own)
    if single:
        return f"{holds}."
    said = f"{holds}; its best cycle is {found.best.cycle_ms:g} ms, with {_return(found.best)}."
    return f"{said} {_alike(found, named=False)}".strip() if len(own) > 1 else said


def _alike(found: Best, named: bool) -> str:
    if not found.told:
        return "With one run a cycle nothing can be told apart: give more --seeds." if named else ""
    if not found.alike:
        return "It can be told from every other cycle of the last rung." if named else "It can be told from the others."
    cycles_ms: dict[str, list[str]] = {}
    for result in found.alike:
        cycles_ms.setdefault(f"{result.schedule} at " if named else "", []).append(f"{result.cycle_ms:g}")
    return f"It cannot be told from {listed([f'{where}{listed(ms)} ms' for where, ms in cycles_ms.items()])}."


def _caution(best: CycleResult, results: Sequence[CycleResult]) -> str:
    sentences = ["Being the highest of several, the best mean is more likely too high than too low."]
    runs = len(best.returns)
    if runs in COVERAGE and COVERAGE[runs][1] < 95:
        sentences.append(
            f"With {count_runs(runs)} a cycle intervals are too narrow: two cycles that are alike are told apart "
            f"{100 - COVERAGE[runs][1]} times in a hundred."
        )
    if max(result.rung for result in results) > 1:
        sentences.append("Cycles that went out in an earlier rung were judged by shorter runs.")
    if best.cycle_s == max(result.cycle_s for result in results):
        sentences.append("The best is the longest that was tried, so longer ones may be better still.")
    return " ".join(sentences)


def _name(result: CycleResult) -> str:
    return f"{result.schedule} at {result.cycle_ms:g} ms"


def _return(result: CycleResult) -> str:
    return with_interval(result.estimate)


def _percent(share: float) -> str:
    return f"{number(100 * share)}%"
