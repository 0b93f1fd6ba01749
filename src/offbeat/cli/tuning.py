"""`offbeat tune-cycle`: the best action cycle time for a task and a machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from offbeat.config import RunConfig, Schedule, make_config
from offbeat.directory import is_finished
from offbeat.errors import ConfigError, RunError
from offbeat.machine import usable_cores

if TYPE_CHECKING:
    from offbeat.studies.hold import Hold
    from offbeat.studies.plan import Study
    from offbeat.studies.runner import Outcome
    from offbeat.studies.tune import Step, Tuning

_MEASURED = "measured"  # the profile that is measured first
_PROFILE = "profile.json"


@dataclass(frozen=True)
class TuneCycle:
    """Find the best action cycle time: what each schedule can hold, then a sweep in virtual time by successive halving.

    Base: the options of `offbeat train`, at --scale cpu and 12 minutes unless you say otherwise. --profile measured
    measures this machine first. Stopped, the same command goes on.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Directory of the tuning."""
    schedules: tuple[Schedule, ...] = ("sequential", "reactive", "asynchronous")
    """Schedules to tune."""
    cycles_ms: Annotated[tuple[float, ...], tyro.conf.arg(metavar="MS...", help_behavior_hint="")] = ()
    """Cycle times to try (ms), instead of a grid from the shortest that a schedule can hold."""
    longest_ms: float = 200.0
    """Longest cycle time of the grid (ms)."""
    seeds: int = 3
    """Seeds of each cycle time, from --seed on."""
    jobs: Annotated[
        int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: as many as there are cores)")
    ] = None
    """Runs at a time, each a process with one core."""

    def __call__(self) -> int:
        """Tune, showing progress, and write the report. Raises: UserError."""
        from offbeat.studies.hold import MISSED_SHARE, find_hold
        from offbeat.studies.tune import Candidate, Tuning, plan_rungs

        self._check()
        base = self._with_profile()
        _say(f"Cycles that each schedule holds, with at most {MISSED_SHARE:.0%} of its deadlines missed:")
        holds = []
        for schedule in dict.fromkeys(self.schedules):
            holds.append(find_hold(base, schedule, self.longest_ms, self.cycles_ms))
            _say(f"  {_describe(holds[-1])}")
        candidates = tuple(Candidate(hold.schedule, cycle_s) for hold in holds for cycle_s in hold.cycles_s)
        if not candidates:
            longest = max(self.cycles_ms, default=self.longest_ms)
            missed = ", ".join(f"{hold.schedule} misses {hold.missed_share:.1%}" for hold in holds)
            raise ConfigError(
                f"No schedule holds a cycle of up to {longest:g} ms with the timing profile {base.profile} ({missed} "
                f"of its deadlines): give a longer {'--cycles-ms' if self.cycles_ms else '--longest-ms'}."
            )
        tuning = Tuning(replace(base, seed=0), candidates, tuple(range(base.seed, base.seed + self.seeds)))
        steps = plan_rungs(tuning)
        runs = sum(step.candidates for step in steps) * self.seeds
        minutes = sum(step.candidates * step.minutes for step in steps) * self.seeds
        _say(
            f"{len(candidates)} cycles, {self.seeds} seeds, {_count(len(steps), 'rung')}: {_count(runs, 'run')}, "
            f"{minutes:,.0f} minutes of robot time in all, into {self.out}"
        )
        return self._tune(tuning, holds, len(steps))

    def _tune(self, tuning: Tuning, holds: Sequence[Hold], rungs: int) -> int:
        """Carry the tuning out and report on it."""
        from offbeat.report.read import read_run
        from offbeat.report.tuning import Held, final_return, make_result
        from offbeat.report.tuning_page import write_tuning
        from offbeat.studies.hold import MISSED_SHARE
        from offbeat.studies.tune import run_tuning

        def show(step: Step) -> None:
            cycles, minutes = _count(step.candidates, "cycle"), round(step.minutes, 2)
            _say(f"Rung {step.number} of {rungs}: {cycles}, {minutes:g} minutes a run")

        try:
            carried = run_tuning(tuning, self.out, self._carry_out, lambda path: final_return(read_run(path)), show)
        except KeyboardInterrupt:
            Console(stderr=True).print("Stopped. The same command goes on from the last checkpoints.")
            raise
        results = [
            make_result(rung.number, rung.minutes, [read_run(path) for path in paths])
            for rung in carried
            for paths in rung.runs.values()
        ]
        held = [
            Held(hold.schedule, min(hold.cycles_s, default=None), hold.missed_share, hold.too_short_s) for hold in holds
        ]
        for line in write_tuning(results, held, self.out, MISSED_SHARE):
            _say(line)
        _say(f"Wrote {self.out / 'report.html'}, with tuning.csv, tuning.png and tuning.svg beside it.")
        return 0

    def _carry_out(self, study: Study, directory: Path) -> Outcome:
        from offbeat.studies.runner import run_study
        from offbeat.studies.show import show_study

        jobs = self.jobs if self.jobs is not None else max(1, int(usable_cores()))
        if all(is_finished(directory / run.directory) for run in study.runs()):
            return run_study(study, directory, jobs)  # of an earlier start: nothing to show
        with show_study(Console()) as show:
            return run_study(study, directory, jobs, show)

    def _check(self) -> None:
        """Raises: ConfigError for an option that means nothing here, or a value that cannot be."""
        from offbeat.studies.tune import learning_minutes

        config = self.config
        default = make_config(config.setting, config.scale, config.preset)
        if config.schedule != default.schedule:
            raise ConfigError(f"tune-cycle compares schedules: say --schedules {config.schedule}, not --schedule.")
        if config.env.cycle_s != default.env.cycle_s:
            raise ConfigError("tune-cycle chooses the cycle times: say --cycles-ms, not --env.cycle-s.")
        if config.hardware.driver:
            raise ConfigError(
                f"tune-cycle works in simulation: leave out --robot {config.hardware.driver}, and say --profile "
                "measured for this machine."
            )
        if config.clock == "wall":
            raise ConfigError(
                "tune-cycle works in virtual time: leave out --clock wall, and say --profile measured for this machine."
            )
        if not self.schedules:
            raise ConfigError("schedules is empty: give sequential, reactive or asynchronous.")
        episode_ms = config.env.episode_s * 1e3
        for cycle_ms in (*self.cycles_ms, self.longest_ms):
            if not 0 < cycle_ms <= episode_ms:
                raise ConfigError(
                    f"A cycle of {cycle_ms:g} ms is none: use more than 0 and at most an episode, {episode_ms:g} ms."
                )
        learning_minutes(config)
        if self.seeds < 1:
            raise ConfigError(f"seeds is {self.seeds}: give 1 or more.")
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError(f"jobs is {self.jobs}: run at least 1 at a time.")

    def _with_profile(self) -> RunConfig:
        """The base, with this machine's profile where it is to be measured. Raises: RunError, ConfigError."""
        if self.config.profile != _MEASURED:
            return self.config
        from offbeat.measure import measure_profile

        path = self.out / _PROFILE
        if not path.exists():
            with Console().status("Measuring act, store, sample and update ..."):
                profile = measure_profile(self.config)
            try:
                self.out.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f"{path.name}.tmp")
                profile.save(temporary)
                os.replace(temporary, path)  # whole or not at all: the tuning goes on with it
            except OSError as error:
                raise RunError(f"{path} cannot be written ({error.strerror}): give another --out.") from error
            means = ", ".join(f"{stage.value} {d.mean_s * 1e3:.1f}" for stage, d in profile.stages.items())
            _say(f"Measured here: {means} ms on average, saved to {path}")
        return replace(self.config, profile=str(path))


def _describe(hold: Hold) -> str:
    """`sequential: 73 ms and longer (0.8% missed)`, and what of the cycles asked for is left out."""
    if not hold.cycles_s:
        return f"{hold.schedule}: none ({hold.missed_share:.1%} missed at the longest)"
    out = ", ".join(f"{cycle_s * 1e3:g}" for cycle_s in hold.refused_s)
    left = f"; left out: {out} ms" if out else ""
    return f"{hold.schedule}: {hold.cycles_s[0] * 1e3:g} ms and longer ({hold.missed_share:.1%} missed){left}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _say(line: str) -> None:
    Console().print(line, highlight=False, markup=False, soft_wrap=True)
