"""The timing report of a run: what its records say about deadlines, stages and the age of what was used.

A batch is gathered, waits in its slot and is used; the three times are read off the stages alone, since the n-th
UPDATE uses the batch of the n-th SAMPLE:

    SAMPLE n   |--gather--|
    UPDATE n              |..batch wait..|----update----|
               '------ sample age -------'
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbeat.timing.causes import CAUSES
from offbeat.timing.profile import Stage

EDGES_MS = (0.0, *(float(f"{digit}e{power}") for power in range(-3, 4) for digit in (1, 2, 5)))
"""Edges of the histograms (ms): 1, 2 and 5 in every power of ten from a microsecond on."""

_SHARES = {"p50": 50.0, "p99": 99.0, "p999": 99.9, "max": 100.0}


def timing_summary(cycles: NDArray[Any], stages: NDArray[Any]) -> dict[str, Any]:
    """The timing report as plain data, None where there is nothing to say.

    cycles: (n,) `CYCLE_DTYPE`. stages: (m,) `STAGE_DTYPE`, the rows of each stage in order. Holds:

    lateness_ms, response_ms, slack_ms, robot_ms, camera_ms: percentiles over cycles (p50, p99, p999, max).
    lateness_histogram, response_histogram: cycles between each two of `edges_ms`, what lies beyond in the last.
    stages: for each stage count, mean_ms, p50_ms, p99_ms, and its share of the time from the first record to the last.
    updates_per_s, updates_per_step: since the first update began, resets included in the time.
    weights_age_ms: of the weights when acting began. sample_age_ms: of a batch when its update began.
    batch_wait_ms: of a gathered batch for its update. sample_wait_ms, update_wait_ms: of sampling for a free slot or
        for permission, of updating for a batch, each since its last run ended.
    """
    spans = {stage: stages[stages["stage"] == index] for index, stage in enumerate(Stage)}
    length_s = _length_s(cycles, stages)
    pairs = min(len(spans[Stage.SAMPLE]), len(spans[Stage.UPDATE]))
    gathered, used = spans[Stage.SAMPLE][:pairs], spans[Stage.UPDATE][:pairs]
    return {
        **{f"{name}_ms": percentiles(_ms(cycles[f"{name}_s"])) for name in ("lateness", "response", "slack")},
        **{f"{name}_ms": percentiles(_ms(cycles[f"{name}_s"])) for name in ("robot", "camera", "weights_age")},
        "edges_ms": list(EDGES_MS),
        **{f"{name}_histogram": _histogram(_ms(cycles[f"{name}_s"])) for name in ("lateness", "response")},
        "stages": {stage.value: _stage(rows, length_s) for stage, rows in spans.items() if len(rows)},
        **_update_rates(cycles, spans[Stage.UPDATE]),
        "sample_age_ms": percentiles(_ms(used["begin_s"] - gathered["begin_s"])),
        "batch_wait_ms": percentiles(_ms(used["begin_s"] - gathered["end_s"])),
        **{
            f"{stage.value}_wait_ms": percentiles(_ms(spans[stage]["begin_s"][1:] - spans[stage]["end_s"][:-1]))
            for stage in (Stage.SAMPLE, Stage.UPDATE)
        },
    }


def missed_by_cause(cycles: NDArray[Any]) -> dict[str, int]:
    """How many deadlines were missed by each cause."""
    counts = np.bincount(cycles["cause"], minlength=len(CAUSES) + 1)[1:]
    return dict(zip(CAUSES, counts.tolist(), strict=True))


def percentiles(values: NDArray[Any]) -> dict[str, float | None]:
    """p50, p99, p999 and max of the finite values; None when there are none."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return dict.fromkeys(_SHARES)
    return dict(zip(_SHARES, np.percentile(finite, list(_SHARES.values())).tolist(), strict=True))


def _ms(seconds: NDArray[Any]) -> NDArray[np.float64]:
    return seconds.astype(np.float64) * 1e3


def _length_s(cycles: NDArray[Any], stages: NDArray[Any]) -> float:
    """From the first record to the last (s)."""
    begins = [rows[name].min() for rows, name in ((cycles, "observed_s"), (stages, "begin_s")) if len(rows)]
    ends = [rows[name].max() for rows, name in ((cycles, "deadline_s"), (stages, "end_s")) if len(rows)]
    return float(max(ends) - min(begins)) if ends else 0.0


def _stage(rows: NDArray[Any], length_s: float) -> dict[str, float | None]:
    took_ms = _ms(rows["end_s"] - rows["begin_s"])
    p50, p99 = np.percentile(took_ms, (50, 99)).tolist()
    share = float(took_ms.sum()) / (1e3 * length_s) if length_s > 0 else None
    return {"count": len(rows), "mean_ms": float(took_ms.mean()), "p50_ms": p50, "p99_ms": p99, "share": share}


def _update_rates(cycles: NDArray[Any], updates: NDArray[Any]) -> dict[str, float | None]:
    if not len(updates):
        return {"updates_per_s": None, "updates_per_step": None}
    begin_s = float(updates["begin_s"][0])
    seconds, steps = float(updates["end_s"].max()) - begin_s, int((cycles["observed_s"] >= begin_s).sum())
    return {
        "updates_per_s": len(updates) / seconds if seconds > 0 else None,
        "updates_per_step": len(updates) / steps if steps else None,
    }


def _histogram(values_ms: NDArray[np.float64]) -> list[int]:
    finite = values_ms[np.isfinite(values_ms)]
    return np.histogram(np.clip(finite, EDGES_MS[0], EDGES_MS[-1]), EDGES_MS)[0].tolist()
