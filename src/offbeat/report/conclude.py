"""What the numbers say, in plain sentences made from them; none claims more than its interval holds.

Two settings are told apart when the 95% interval of the difference of their means does not hold zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from offbeat.report import statistics
from offbeat.report.results import TIMING_S, Change, Results, Summary
from offbeat.report.statistics import COVERAGE, Estimate
from offbeat.report.words import both_runs, count_runs, interval, listed, number, percent, with_interval

_LISTED = 8  # settings or changes that sentences name one by one
_SAME = 0.01  # of a setting's updates: a smaller difference is not worth a sentence
_FEW = 5  # runs from which intervals nearly keep what they promise


@dataclass(frozen=True)
class Conclusion:
    """Sentences.

    opening: the order of the settings. points: for each comparison, what it shows. closing: paragraphs about the time
    to a return, and of what to be wary.
    """

    opening: tuple[str, ...]
    points: tuple[tuple[str, ...], ...]
    closing: tuple[tuple[str, ...], ...]


def conclude(
    results: Sequence[Results], summaries: Sequence[Summary], changes: Sequence[Change], threshold: float
) -> Conclusion:
    """The sentences that the numbers bear out. threshold: return whose first passing is timed."""
    updates = {s.name: s.updates.value for s in summaries}
    points = tuple(tuple(_change(change, updates[change.old])) for change in changes)
    closing = (_times(summaries, threshold), _cautions(summaries, changes))
    return Conclusion(
        tuple(_order(results, summaries)), points, tuple(tuple(paragraph) for paragraph in closing if paragraph)
    )


def _order(results: Sequence[Results], summaries: Sequence[Summary]) -> list[str]:
    """Settings by final return, and which neighbours in that order cannot be told apart."""
    if len(results) < 2:
        final = summaries[0].final
        return [f"Over the last tenth of training {summaries[0].name} returns {with_interval(final)} an episode."]
    ranked = sorted(zip(results, summaries, strict=True), key=lambda pair: -pair[1].final.value)
    shown = ranked if len(ranked) <= _LISTED else [*ranked[:3], *ranked[-3:]]
    named = [f"{s.name} at {with_interval(s.final)}" for _, s in shown]
    text = listed(named) if len(shown) == len(ranked) else f"{', '.join(named[:3])}, ..., {', '.join(named[3:])}"
    sentences = [f"By mean return over the last tenth of training, with 95% intervals over runs, the order is {text}."]
    tied = [
        (upper.name, lower.name)
        for (upper, _), (lower, _) in pairwise(ranked)
        if not statistics.difference(upper.final, lower.final).excludes(0.0)
    ]
    if not tied:
        sentences.append("Each can be told from the next: the interval of no such difference holds zero.")
    elif len(tied) <= 3:
        pairs = listed([f"{upper} cannot be told from {lower}" for upper, lower in tied])
        sentences.append(f"In this order {pairs}.")
    else:
        sentences.append(f"Of its {len(ranked) - 1} neighbouring pairs {len(tied)} cannot be told apart.")
    return sentences


def _change(change: Change, old_updates: float) -> list[str]:
    """What one comparison shows, over the last tenth and over the whole run."""
    runs = both_runs(change.runs)
    if math.isnan(change.final.low):
        return [f"Of {change.new} against {change.old} nothing can be said with {runs}."]
    sentences = []
    if change.final.excludes(0.0):
        more = "more" if change.final.value > 0 else "less"
        text = f"{change.new} returns {_size(change.final)} {more} than {change.old} at the end, with {runs}"
        if change.main:
            times = f", {with_interval(change.ratio, 2)} times as much" if not math.isnan(change.ratio.value) else ""
            sentences.append(f"The main gap: {text}{times}.")
        else:
            sentences.append(f"{text}{_share(change.final_share)}.")
    else:
        sentences.append(
            f"{change.new} and {change.old} cannot be told apart at the end with {runs}: the difference is "
            f"{with_interval(change.final, sign=True)}{', so no share of this gap is given' if change.main else ''}."
        )
    if change.whole.excludes(0.0) != change.final.excludes(0.0):
        if change.whole.excludes(0.0):
            more = "more" if change.whole.value > 0 else "less"
            sentences.append(f"Over the whole run it returns {_size(change.whole)} {more}.")
        else:
            sentences.append(
                f"Over the whole run they cannot be told apart ({with_interval(change.whole, sign=True)})."
            )
    if _against_updates(change, old_updates):
        fewer = "fewer" if change.updates.value < 0 else "more"
        logged = "" if change.updates.runs == min(change.runs) else f" (logged by {change.updates.runs} runs)"
        sentences.append(f"It does so with {_size(change.updates, 0)} {fewer} gradient updates a run{logged}.")
    return sentences


def _against_updates(change: Change, old_updates: float) -> bool:
    """Whether the setting that returns more made fewer updates, or the one that returns less more; not by a handful."""
    told = change.final.excludes(0.0) and change.updates.excludes(0.0)
    return told and change.final.value * change.updates.value < 0 and abs(change.updates.value) > _SAME * old_updates


def _size(difference: Estimate, digits: int = 1) -> str:
    """A difference without its sign, with its interval: "103.1 (80.5 to 125.6)"."""
    if difference.value >= 0:
        return with_interval(difference, digits)
    return with_interval(Estimate(-difference.value, -difference.high, -difference.low, difference.runs), digits)


def _share(share: Estimate) -> str:
    if math.isnan(share.value):
        return ""
    return f", {number(100 * share.value, 0)}% of the main gap ({interval(percent(share), 0)})"


def _times(summaries: Sequence[Summary], threshold: float) -> list[str]:
    passed = [s for s in summaries if math.isfinite(s.time_s.value)]
    never = [s.name for s in summaries if math.isinf(s.time_s.value)]
    if len(summaries) > _LISTED:
        return [
            f"The mean return of the last {TIMING_S:g} s of training passes {threshold:g} in {len(passed)} of "
            f"{len(summaries)} settings; the table says when."
        ]
    if not passed:
        return [f"The mean return of the last {TIMING_S:g} s of training never passes {threshold:g} in any setting."]
    when = listed([f"{with_interval(s.time_s, 0)} s in {s.name}" for s in passed])
    tail = f", and never in {listed(never)}" if never else ""
    return [f"The mean return of the last {TIMING_S:g} s of training passes {threshold:g} after {when}{tail}."]


def _cautions(summaries: Sequence[Summary], changes: Sequence[Change]) -> list[str]:
    sentences = []
    single = [s.name for s in summaries if s.runs == 1]
    if single:
        sentences.append(f"{listed(single)}: one run, so no interval and no claim.")
    fewest = min((s.runs for s in summaries if s.runs > 1), default=_FEW)
    if fewest < _FEW:
        means, differences = COVERAGE[fewest]
        sentences.append(
            f"With {count_runs(fewest)} a setting intervals are too narrow: tried on normally distributed runs, that "
            f"of a mean held the truth {means} times in a hundred, that of a difference {differences} times."
        )
    lengths = {round(s.minutes, 6) for s in summaries}
    if len(lengths) > 1:
        sentences.append("The settings ran for different times: compare their last tenths with care.")
    if len(changes) > 2:
        misses = 1 - COVERAGE[fewest][1] / 100 if fewest in COVERAGE else 0.05
        sentences.append(
            f"Nothing is corrected for making {len(changes)} comparisons: if all these settings were alike, about "
            f"{number(misses * len(changes))} pairs would be told apart by chance."
        )
    return sentences
