"""How a number is written for a reader: in the tables, the figures, the sentences and on the terminal."""

from __future__ import annotations

import math

from offbeat.report.statistics import Estimate

DASH = "–"  # noqa: RUF001 - a dash for the reader, not a minus
MINUS = "−"  # noqa: RUF001 - a minus as wide as a plus


def number(value: float, digits: int = 1, sign: bool = False) -> str:
    """A number with thousands apart; "never" for a time that does not come, a dash for what is not known."""
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "never"
    text = f"{abs(value):,.{digits}f}"
    negative = value < 0 and text.strip("0.,") != ""
    return (MINUS if negative else "+" if sign and value > 0 else "") + text


def interval(estimate: Estimate, digits: int = 1, sign: bool = False) -> str:
    """The ends of an interval, "80.5 to 125.6"; empty where there is none, and where all runs agree."""
    if math.isnan(estimate.low):
        return ""
    low, high = (number(value, digits, sign) for value in (estimate.low, estimate.high))
    return "" if low == high else f"{low} to {high}"


def with_interval(estimate: Estimate, digits: int = 1, sign: bool = False) -> str:
    """A number and its interval, "103.1 (80.5 to 125.6)"."""
    ends = interval(estimate, digits, sign)
    return number(estimate.value, digits, sign) + (f" ({ends})" if ends else "")


def percent(estimate: Estimate) -> Estimate:
    """A share as per cent."""
    return Estimate(100 * estimate.value, 100 * estimate.low, 100 * estimate.high, estimate.runs)


def count_runs(runs: int) -> str:
    """ "one run", "5 runs"."""
    return "one run" if runs == 1 else f"{runs} runs"


def both_runs(runs: tuple[int, int]) -> str:
    """ "5 runs each", "5 and 4 runs"."""
    return f"{count_runs(runs[0])} each" if runs[0] == runs[1] else f"{runs[0]} and {runs[1]} runs"


def listed(words: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
