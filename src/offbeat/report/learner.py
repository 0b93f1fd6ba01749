"""What a setting's learners say of themselves at the end: what they expect, how wrong they are, how random they act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from offbeat.report import statistics
from offbeat.report.html import Table
from offbeat.report.read import Group
from offbeat.report.settings import estimate_cell, estimate_record
from offbeat.report.statistics import Estimate
from offbeat.report.words import percent

_TEXT = (
    "One line per setting, over the last tenth of its runs' episodes; small print is the 95% interval over runs. "
    "Value: what the critics expect, softly, of a sampled image, in units of discounted return. Error: by how much a "
    "critic misses its targets, root mean square. Where the end of an episode is stored as if nothing came after it "
    "and no observation tells the time, the last of N steps alone makes this error about the value over the root of N. "
    "Temperature and entropy (nats) are those of the policy."
)


@dataclass(frozen=True)
class LearnerSummary:
    """One setting's learners in numbers, each over its runs and the last tenth of their episodes.

    value: soft value expected, mean over minibatches. error: root of the mean squared TD error of a critic.
    share: error over value; unknown where values are 0 or less. temperature. entropy: of the policy (nats).
    """

    name: str
    schedule: str
    runs: int
    value: Estimate
    error: Estimate
    share: Estimate
    temperature: Estimate
    entropy: Estimate


def summarise_learners(groups: Sequence[Group]) -> list[LearnerSummary]:
    """A summary of each group whose runs all made updates in the last tenth of their episodes."""
    found = (_summarise(group) for group in groups)
    return [summary for summary in found if summary is not None]


def _summarise(group: Group) -> LearnerSummary | None:
    names = ("actor_loss", "critic_loss", "temperature", "entropy")
    losses, squares, temperatures, entropies = (statistics.last_tenth(group.column(name)) for name in names)
    if not np.isfinite([losses, squares, temperatures, entropies]).all():
        return None
    value, error, temperature, entropy = (
        statistics.make_sample(numbers, group.label)
        # The critics' loss is half the mean square of each, summed over two.
        for numbers in (-losses, np.sqrt(squares), temperatures, entropies)
    )
    return LearnerSummary(
        name=group.label,
        schedule=group.schedule,
        runs=len(group.runs),
        value=statistics.mean(value),
        error=statistics.mean(error),
        share=statistics.ratio(error, value),
        temperature=statistics.mean(temperature),
        entropy=statistics.mean(entropy),
    )


def learners_table(summaries: Sequence[LearnerSummary]) -> Table:
    """The page's table of what the learners say of themselves."""
    columns = ("setting", "runs", "value", "error", "error / value (%)", "temperature", "entropy")
    rows = tuple(
        (
            s.schedule,
            (
                s.name,
                str(s.runs),
                estimate_cell(s.value, 1),
                estimate_cell(s.error, 2),
                estimate_cell(percent(s.share), 1),
                estimate_cell(s.temperature, 3),
                estimate_cell(s.entropy, 2),
            ),
        )
        for s in summaries
    )
    return Table("learners", "What the learners expect, and how wrong they are", _TEXT, columns, rows)


def learner_record(s: LearnerSummary) -> dict[str, Any]:
    """One line of learners.csv."""
    return {
        "group": s.name,
        "schedule": s.schedule,
        "runs": s.runs,
        **estimate_record("value", s.value),
        **estimate_record("error", s.error),
        **estimate_record("share", s.share),
        **estimate_record("temperature", s.temperature),
        **estimate_record("entropy", s.entropy),
    }
