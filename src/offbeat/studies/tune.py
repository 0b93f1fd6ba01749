"""Finds the best action cycle time by successive halving: many for a short time, the better half for longer.

    rung 1   1/4 of the learning time   all cycle times of all schedules
    rung 2   1/2                        the better half
    rung 3   all of it                  the better half of that

Source: Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization". There
the survivors go on; here every rung begins anew, because the length of a run is a part of its configuration (it
decides how large the replay is), and a run that was made longer would not be one that `offbeat train` can repeat.

Each rung is a study of its own in the directory rung-<n>, so that whatever a study can do a tuning can: be stopped at
any moment, run in parallel, and write the same bytes when it goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from offbeat import __version__
from offbeat.config import RunConfig, Schedule
from offbeat.directory import write_whole
from offbeat.errors import ConfigError, RunError
from offbeat.studies.directory import difference
from offbeat.studies.hold import make_cycle
from offbeat.studies.plan import Study, StudySetting
from offbeat.studies.runner import Outcome

TUNING = "tuning.json"

SHARES = (1 / 4, 1 / 2, 1.0)
"""Share of the learning time, which begins after warm-up, that the runs of each rung have."""

_QUESTION = "What is the best action cycle time for the task?"


@dataclass(frozen=True)
class Candidate:
    """A cycle time (s) of a schedule."""

    schedule: Schedule
    cycle_s: float

    def __str__(self) -> str:
        return f"{self.schedule}-{self.cycle_s * 1e3:g}ms"


@dataclass(frozen=True)
class Tuning:
    """What is tuned. base: everything but schedule and cycle time; its minutes are those of a run of the last rung."""

    base: RunConfig
    candidates: tuple[Candidate, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """A rung to come. minutes: of each run. candidates: how many it begins with."""

    number: int
    minutes: float
    candidates: int


@dataclass(frozen=True)
class Rung:
    """A rung that was carried out. runs: the directories of each candidate's runs, seed by seed."""

    number: int
    minutes: float
    runs: Mapping[Candidate, tuple[Path, ...]]


def learning_minutes(base: RunConfig) -> float:
    """Minutes of a run in which it learns. Raises: ConfigError when there are none."""
    minutes = base.minutes - base.warmup_s / 60
    if minutes <= 0:
        raise ConfigError(
            f"minutes is {base.minutes:g}, and nothing is learned in the first {base.warmup_s / 60:g} of them "
            "(warmup_s): give more minutes or a shorter --warmup-s."
        )
    return minutes


def plan_rungs(tuning: Tuning) -> tuple[Step, ...]:
    """The rungs of a tuning; one that could drop no candidate is left out. Raises: ConfigError."""
    base, learning = tuning.base, learning_minutes(tuning.base)
    steps, left = list[Step](), len(tuning.candidates)
    for share in SHARES:
        kept = _kept(left, len({candidate.schedule for candidate in tuning.candidates}))
        if share < 1.0 and kept == left:
            continue
        minutes = max(base.warmup_s / 60 + share * learning, base.env.episode_s / 60)
        steps.append(Step(len(steps) + 1, minutes if share < 1.0 else base.minutes, left))
        left = kept
    return tuple(steps)


def run_tuning(
    tuning: Tuning,
    out: Path,
    carry_out: Callable[[Study, Path], Outcome],
    score: Callable[[Path], float],
    show: Callable[[Step], None] | None = None,
) -> tuple[Rung, ...]:
    """Carry out a tuning in the directory `out`, or go on with the one that is there.

    carry_out: runs a study in a directory, such as `run_study`. score: of a finished run; a candidate's is the mean
    over its seeds. It must mean the same at every cycle time, as a return per episode does: Eq. 3's reward is paid by
    the millisecond, so a return is an integral over time. show: is told of each rung before it begins.
    Raises: ConfigError, ProfileError; RunError when `out` holds another tuning, or when a run fails.
    """
    steps = plan_rungs(tuning)
    _open(tuning, out)
    base, left, rungs = tuning.base, tuning.candidates, list[Rung]()
    for step in steps:
        if show is not None:
            show(step)
        directory = out / f"rung-{step.number}"
        settings = [
            StudySetting(str(c), replace(make_cycle(base, c.schedule, c.cycle_s), minutes=step.minutes)) for c in left
        ]
        study = Study(f"tuning-{directory.name}", _QUESTION, tuple(settings), tuning.seeds)
        outcome = carry_out(study, directory)
        for run, reason in outcome.failed.items():
            raise RunError(
                f"{len(outcome.failed)} of the runs in {directory} failed, {run} because of this: "
                f"{reason.rstrip('.')}; the same command tries again."
            )
        # What `auto` became in the first rung holds for all of them, wherever the tuning goes on.
        base = replace(base, compute=outcome.finished[0].config.compute)
        paths = {(run.setting, run.seed): directory / run.directory for run in outcome.finished}
        runs = {c: tuple(paths[str(c), seed] for seed in tuning.seeds) for c in left}
        rungs.append(Rung(step.number, step.minutes, runs))
        if step is not steps[-1]:
            left = halve({c: fmean(score(path) for path in runs[c]) for c in left})
    return tuple(rungs)


def halve(scores: Mapping[Candidate, float]) -> tuple[Candidate, ...]:
    """The better half of the candidates, of all schedules together, but of each schedule at least its best; in the
    order they came in. Of equals the earlier stays."""
    best_first = sorted(scores, key=lambda candidate: -scores[candidate])
    kept = {candidate.schedule: candidate for candidate in reversed(best_first)}  # the last to be written is the best
    chosen = list(kept.values())
    count = _kept(len(scores), len(kept))
    chosen += [candidate for candidate in best_first if candidate not in chosen][: count - len(chosen)]
    return tuple(candidate for candidate in scores if candidate in chosen)


def _kept(candidates: int, schedules: int) -> int:
    """How many of so many candidates go on."""
    return max(math.ceil(candidates / 2), schedules)


def _open(tuning: Tuning, out: Path) -> None:
    """Save what is tuned, or find it as it was saved. Raises: RunError."""
    path = out / TUNING
    now = {"seeds": list(tuning.seeds), "cycles_ms": _cycles_ms(tuning.candidates)}
    if path.exists():
        saved, base = _read(path)
        if base != tuning.base:
            what = difference(base, tuning.base)
            raise RunError(f"{out} holds a tuning with {what}: change it back or give another --out.")
        for name, value in now.items():
            if saved[name] != value:
                raise RunError(
                    f"{out} holds a tuning with {name} {saved[name]}, not {value} as now: "
                    "change it back or give another --out."
                )
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        data = {"offbeat": __version__, **now, "base": tuning.base.to_dict()}
        write_whole(path, json.dumps(data, indent=1) + "\n")
    except OSError as error:
        raise RunError(f"A tuning cannot be written to {out} ({error.strerror}): give another --out.") from error


def _cycles_ms(candidates: Sequence[Candidate]) -> dict[str, list[float]]:
    """Cycle times by schedule."""
    cycles: dict[str, list[float]] = {}
    for candidate in candidates:
        cycles.setdefault(candidate.schedule, []).append(round(candidate.cycle_s * 1e3, 6))
    return cycles


def _read(path: Path) -> tuple[dict[str, Any], RunConfig]:
    try:
        data = json.loads(path.read_text("utf-8"))
        return {name: data[name] for name in ("seeds", "cycles_ms")}, RunConfig.from_dict(data["base"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} does not describe a tuning ({error}): give another --out.") from error
