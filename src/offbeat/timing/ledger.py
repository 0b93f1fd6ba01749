"""What every cycle cost and earned: collects the records of a run, in memory or as appended files.

Nothing in them depends on wall time: two virtual runs of one configuration and seed write the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offbeat.timing.causes import NO_MISS, STAGE_CAUSES, Cause, Miss, find_cause
from offbeat.timing.clock import is_missed
from offbeat.timing.profile import Stage
from offbeat.timing.records import (
    CYCLE_DTYPE,
    EPISODE_COLUMNS,
    STAGE_DTYPE,
    EpisodeRecord,
    Rows,
    append_episodes,
    check_count,
    read_cycles,
    read_episodes,
    read_stages,
    truncate_episodes,
)
from offbeat.timing.summary import missed_by_cause, timing_summary

__all__ = [
    "CYCLE_DTYPE",
    "EPISODE_COLUMNS",
    "STAGE_DTYPE",
    "EpisodeRecord",
    "Ledger",
    "read_cycles",
    "read_episodes",
    "read_stages",
]

_STAGE_INDEX = {stage: index for index, stage in enumerate(Stage)}
_CAUSE_OF_INDEX = tuple(STAGE_CAUSES[stage] for stage in Stage)
_BESIDE = (_STAGE_INDEX[Stage.SAMPLE], _STAGE_INDEX[Stage.UPDATE])
_LOSSES = ("critic_loss", "actor_loss", "temperature", "entropy")


class _Act(NamedTuple):
    """The last ACT: begin and end (s), and the version and birth (s) of the learner's weights at that time."""

    begin_s: float
    end_s: float
    version: int
    published_s: float


class Ledger:
    """Collects the records of one run; made to be called many times a cycle and to cost next to nothing.

    Rows wait in memory until `flush`, which `end_episode` calls. `state_dict` holds how many rows there were, so a
    run resumed from a checkpoint cuts off what came after it and goes on to write the same bytes.
    """

    def __init__(self, directory: Path | None, cycle_s: float) -> None:
        """Records go to `directory`, appended to what it holds; to memory when it is None. cycle_s: cycle time (s)."""
        self._directory = directory
        self._cycle_s = cycle_s
        self._cycles = Rows(directory and directory / "cycles.bin", CYCLE_DTYPE)
        self._stages = Rows(directory and directory / "stages.bin", STAGE_DTYPE)
        self._records: list[EpisodeRecord] = []
        self._episode = 0
        self._step = 0
        self._steps = 0
        self._updates = 0
        self._updated_s = math.nan
        self._act = _Act(math.nan, math.nan, 0, math.nan)
        self._return = 0.0
        self._missed = 0
        self._miss = NO_MISS
        self._responses_s: list[float] = []
        self._latenesses_s: list[float] = []
        self._metrics: list[tuple[float, ...]] = []

    def on_stage(self, stage: Stage, begin_s: float, end_s: float) -> None:
        """A stage ran from `begin_s` to `end_s` (s); give this method to the clock."""
        self._stages.append((_STAGE_INDEX[stage], begin_s, end_s))
        if stage is Stage.ACT:
            self._act = _Act(begin_s, end_s, self._updates, self._updated_s)
        elif stage is Stage.UPDATE:
            self._updated_s = end_s

    def begin_episode(self, episode: int) -> None:
        """Episode number `episode` begins; updates in the reset before it already count as its own."""
        self._episode = episode
        self._step = 0
        self._miss = NO_MISS

    def step(
        self, reward: float, info: Mapping[str, Any], version: int | None = None, published_s: float | None = None
    ) -> None:
        """One cycle ended.

        reward, info: what the environment returned for it. version, published_s: the weights that acted and when they
        were published (s); None when the agent acts with the learner's own, whose version is the updates made so far.
        """
        act = self._act
        in_loop = version is None
        if version is None:
            version = act.version
        if published_s is None:
            published_s = act.published_s
        lateness_s, response_s, slack_s = info["lateness_s"], info["response_s"], info["slack_s"]
        cause = Cause.NONE
        if is_missed(slack_s, lateness_s):
            cause = self._find_cause(info, in_loop)
            self._missed += 1
        # Later than a whole cycle restarts the grid: the next cycle does not begin late.
        self._miss = Miss(cause, lateness_s) if cause and lateness_s <= self._cycle_s else NO_MISS
        self._cycles.append(
            (
                self._episode,
                self._step,
                info["captured_s"],
                info["observed_s"],
                act.begin_s,
                act.end_s,
                info["sent_s"],
                info["deadline_s"],
                lateness_s,
                response_s,
                reward,
                info["mask_share"],
                version,
                act.begin_s - published_s,
                slack_s,
                info["robot_s"],
                info["camera_s"],
                cause,
            )
        )
        self._step += 1
        self._return += float(reward)
        self._responses_s.append(float(response_s))
        self._latenesses_s.append(float(lateness_s))

    def _find_cause(self, info: Mapping[str, Any], in_loop: bool) -> Cause:
        """What the cycle of `info` missed its deadline by. in_loop: sampling and updating took time out of it."""
        observed_s, ended_s = info["observed_s"], info["deadline_s"] - info["slack_s"]
        parts_s = [(Cause.ROBOT, info["robot_s"]), (Cause.CAMERA, info["camera_s"])]
        for index, begin_s, end_s in reversed(self._stages.waiting()):
            if not in_loop and index in _BESIDE:
                continue
            if end_s <= observed_s:  # the stages of the interaction stand in order of time
                break
            if begin_s < ended_s:
                parts_s.append((_CAUSE_OF_INDEX[index], end_s - begin_s))
        return find_cause(info["slack_s"], info["lateness_s"], ended_s - observed_s, parts_s, self._miss)

    def update(self, metrics: Mapping[str, float]) -> None:
        """One gradient update was made, with these metrics (losses, temperature, entropy)."""
        self._updates += 1
        self._metrics.append(tuple(metrics.get(name, math.nan) for name in _LOSSES))

    def end_episode(self, robot_s: float) -> EpisodeRecord:
        """Close the episode at `robot_s` (s, run clock), write everything out and return its record."""
        self._steps += self._step
        means = np.mean(self._metrics, axis=0).tolist() if self._metrics else [math.nan] * len(_LOSSES)
        record = EpisodeRecord(
            self._episode,
            self._step,
            round(float(self._return), 6),
            round(robot_s, 6),
            round(self._steps * self._cycle_s, 6),
            self._updates,
            self._missed,
            round(float(np.median(self._responses_s)) * 1e3, 6) if self._responses_s else math.nan,
            round(float(np.percentile(self._latenesses_s, 99)) * 1e3, 6) if self._latenesses_s else math.nan,
            *(float(f"{mean:.6g}") for mean in means),
        )
        self._records.append(record)
        if self._directory is not None:
            append_episodes(self._directory, [record])
        self._clear_episode()
        self.flush()
        return record

    def cycles(self) -> NDArray[Any]:
        """All cycles so far (n,), `CYCLE_DTYPE`."""
        return self._cycles.read()

    def stages(self) -> NDArray[Any]:
        """All stages so far (n,), `STAGE_DTYPE`."""
        return self._stages.read()

    def flush(self) -> None:
        """Write out all rows that still wait in memory."""
        self._cycles.flush()
        self._stages.flush()

    def state_dict(self) -> dict[str, Any]:
        """Row counts and the sums of the episode under way, as plain data."""
        return {
            "cycles": self._cycles.count(),
            "stages": self._stages.count(),
            "episodes": len(self._records),
            "episode": self._episode,
            "step": self._step,
            "steps": self._steps,
            "updates": self._updates,
            "updated_s": self._updated_s,
            "act": list(self._act),
            "return": self._return,
            "missed": self._missed,
            "miss": [int(self._miss.cause), self._miss.lateness_s],
            "responses_s": list(self._responses_s),
            "latenesses_s": list(self._latenesses_s),
            "metrics": [list(row) for row in self._metrics],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to `state_dict`: later rows are cut off. Raises: RunError when earlier ones are gone."""
        self._cycles.check(state["cycles"])
        self._stages.check(state["stages"])
        if self._directory is not None:
            self._records = truncate_episodes(self._directory, state["episodes"])
        check_count("The ledger's memory", len(self._records), state["episodes"])
        del self._records[state["episodes"] :]
        self._cycles.truncate(state["cycles"])
        self._stages.truncate(state["stages"])
        self._episode, self._step, self._steps = state["episode"], state["step"], state["steps"]
        self._updates, self._updated_s = state["updates"], state["updated_s"]
        self._act = _Act(*state["act"])
        self._return, self._missed = state["return"], state["missed"]
        self._miss = Miss(Cause(state["miss"][0]), state["miss"][1])
        self._responses_s = list(state["responses_s"])
        self._latenesses_s = list(state["latenesses_s"])
        self._metrics = [tuple(row) for row in state["metrics"]]

    def summary(self) -> dict[str, Any]:
        """The fields of summary.json that follow from the records; None where there is nothing to say yet."""
        returns = [record.return_ for record in self._records]
        cycles = self.cycles()
        timing = timing_summary(cycles, self.stages())
        return {
            "steps": self._steps,
            "episodes": len(self._records),
            "updates": self._updates,
            "return_first20": _mean(returns[:20]),
            "return_last20": _mean(returns[-20:]),
            "return_mean": _mean(returns),
            "response_ms": {name: timing["response_ms"][name] for name in ("p50", "p99", "max")},
            "missed_deadlines": sum(record.missed for record in self._records),
            "missed_by_cause": missed_by_cause(cycles),
            "robot_s": self._records[-1].robot_s if self._records else 0.0,
            "cycle_s": self._cycle_s,
            "timing": timing,
        }

    def _clear_episode(self) -> None:
        self._return = 0.0
        self._missed = 0
        self._responses_s.clear()
        self._latenesses_s.clear()
        self._metrics.clear()


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
