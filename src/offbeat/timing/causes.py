"""Why a deadline was missed: which part of the cycle took the most time, or the system's scheduler.

observed                                                     waiting begins      observed again
   |robot|camera|store|sample|update|act|robot|                   |                  |
   '------------------ work ----------------------- rest ---------'----- sleep ------'
                                                    '- scheduler                  deadline: slack_s after the waiting
                                                                                  began, lateness_s before the end
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

from offbeat.timing.clock import is_missed
from offbeat.timing.profile import Stage


class Cause(IntEnum):
    """What a missed deadline is put down to; NONE where it was kept."""

    NONE = 0
    ACT = 1
    STORE = 2
    SAMPLE = 3
    UPDATE = 4
    ROBOT = 5
    CAMERA = 6
    SCHEDULER = 7


CAUSES = tuple(cause.name.lower() for cause in Cause if cause)
"""Names of the causes, in order, NONE left out."""

STAGE_CAUSES: Mapping[Stage, Cause] = {stage: Cause[stage.name] for stage in Stage}


class Miss(NamedTuple):
    """A missed deadline: its cause and how late the next cycle began (s); `NO_MISS` where it was kept."""

    cause: Cause
    lateness_s: float


NO_MISS = Miss(Cause.NONE, 0.0)


def find_cause(
    slack_s: float, lateness_s: float, work_s: float, parts_s: Iterable[tuple[Cause, float]], before: Miss = NO_MISS
) -> Cause:
    """What a cycle's deadline was missed by; NONE when it was kept.

    slack_s: from the beginning of the waiting to the deadline (s), negative when the work ended after it. lateness_s:
    from the deadline to the end of the waiting (s). work_s: from the observation to the beginning of the waiting.
    parts_s: causes and times (s) within the work; what they leave of it is the scheduler's, which let something else
    run. before: the miss that made this cycle begin late, whose cause answers for that time as well.
    """
    if not is_missed(slack_s, lateness_s):
        return Cause.NONE
    if not is_missed(slack_s, 0.0):
        return Cause.SCHEDULER  # the work was in time, the wake-up was not
    took_s = dict.fromkeys(Cause, 0.0)
    for cause, seconds in parts_s:
        took_s[cause] += seconds
    took_s[Cause.SCHEDULER] = max(0.0, work_s - sum(took_s.values()))
    took_s[before.cause] += before.lateness_s
    return max(took_s, key=took_s.__getitem__)
