"""The timing report, against numbers worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from offbeat.timing.causes import Cause
from offbeat.timing.profile import Stage
from offbeat.timing.records import CYCLE_DTYPE, STAGE_DTYPE
from offbeat.timing.summary import EDGES_MS, missed_by_cause, percentiles, timing_summary


def make_cycles(count: int, **columns: Any) -> np.ndarray:
    """Cycles of 40 ms from 1 s on."""
    cycles = np.zeros(count, CYCLE_DTYPE)
    cycles["observed_s"] = 1.0 + 0.04 * np.arange(count)
    cycles["deadline_s"] = cycles["observed_s"] + 0.04
    cycles["weights_age_s"] = np.nan
    for name, values in columns.items():
        cycles[name] = values
    return cycles


def make_stages(*rows: tuple[Stage, float, float]) -> np.ndarray:
    return np.array([(list(Stage).index(stage), begin_s, end_s) for stage, begin_s, end_s in rows], STAGE_DTYPE)


def test_what_waits_for_what() -> None:
    stages = make_stages(
        (Stage.SAMPLE, 1.000, 1.004),
        (Stage.UPDATE, 1.006, 1.056),
        (Stage.SAMPLE, 1.010, 1.014),
        (Stage.UPDATE, 1.057, 1.107),
        (Stage.SAMPLE, 1.060, 1.064),  # gathered and not used any more
    )
    timing = timing_summary(make_cycles(5), stages)
    assert timing["sample_age_ms"]["max"] == pytest.approx(47.0)
    assert timing["batch_wait_ms"]["max"] == pytest.approx(43.0)
    assert timing["update_wait_ms"]["max"] == pytest.approx(1.0)
    assert timing["sample_wait_ms"]["max"] == pytest.approx(46.0)
    assert timing["updates_per_s"] == pytest.approx(2 / 0.101)
    assert timing["updates_per_step"] == pytest.approx(2 / 4)  # the first cycle was observed before any update
    update = timing["stages"]["update"]
    assert (update["count"], update["mean_ms"]) == (2, pytest.approx(50.0))
    assert update["share"] == pytest.approx(0.1 / 0.2)  # five cycles of 40 ms
    assert set(timing["stages"]) == {"sample", "update"}


def test_percentiles_and_histograms_of_lateness() -> None:
    lateness_s = np.full(1000, 3e-6)
    lateness_s[-1] = 0.25
    timing = timing_summary(make_cycles(1000, lateness_s=lateness_s), make_stages())
    assert timing["lateness_ms"]["p50"] == pytest.approx(0.003)
    assert timing["lateness_ms"]["max"] == pytest.approx(250.0)
    counts = dict(zip(EDGES_MS, timing["lateness_histogram"], strict=False))
    assert (counts[0.002], counts[200.0], sum(counts.values())) == (999, 1, 1000)


def test_what_is_not_known_is_none_and_the_rest_is_json() -> None:
    timing = timing_summary(make_cycles(0), make_stages())
    assert timing["lateness_ms"]["p99"] is None and timing["updates_per_s"] is None and timing["stages"] == {}
    assert timing_summary(make_cycles(3), make_stages())["weights_age_ms"]["p50"] is None
    json.dumps(timing, allow_nan=False)
    assert percentiles(np.array([np.nan, 2.0])) == {"p50": 2.0, "p99": 2.0, "p999": 2.0, "max": 2.0}


def test_misses_are_counted_by_cause() -> None:
    cycles = make_cycles(4, cause=[Cause.NONE, Cause.SCHEDULER, Cause.ACT, Cause.SCHEDULER])
    counts = missed_by_cause(cycles)
    assert (counts["scheduler"], counts["act"], counts["camera"]) == (2, 1, 0)
    assert "none" not in counts
