"""`offbeat study`: settings times seeds, resumable at any moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console

from offbeat.errors import ConfigError
from offbeat.machine import usable_cores
from offbeat.studies.named import NAMED, make_named
from offbeat.studies.plan import REPORT, near
from offbeat.studies.plan import Study as Plan
from offbeat.studies.toml import load_study

if TYPE_CHECKING:
    from offbeat.studies.runner import Workplace

_FAILED = 1  # exit code when a run failed


def describe_studies() -> str:
    """What `offbeat study --help` says first."""
    names = "\n\n".join(
        f"{name}: {named.question} ({named.minutes:g} minutes, {named.seeds} seeds)" for name, named in NAMED.items()
    )
    about = "Run a study: settings times seeds. Run again with the same settings it goes on, with more seeds it grows."
    return f"{about}\n\nA study is the name of one of these, or a TOML file of your own (docs/studies.md):\n\n{names}"


def _own(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: the study's own)")


@dataclass(frozen=True)
class Study:
    """Run settings times seeds as a list of runs that can be stopped and resumed at any moment."""

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME_OR_FILE")]
    """Name of a study, or a study file (TOML)."""
    scale: Annotated[Literal["paper", "cpu"] | None, _own("paper|cpu")] = None
    """Images, networks and batches of the paper, or small ones."""
    minutes: Annotated[float | None, _own("MINUTES")] = None
    """Robot time of each run (minutes)."""
    seeds: Annotated[int | None, _own("N")] = None
    """Seeds of each setting, from 0 on."""
    jobs: Annotated[
        int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: as many as there are cores)")
    ] = None
    """Runs at a time, each a process with one core."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/studies/NAME)")] = None
    """Directory of the study."""
    reuse: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR...", help_behavior_hint="")] = ()
    """Directories of other studies: finished runs of the same configuration are copied from there, not run again."""
    archive: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Where the numbers of finished runs are kept in small text files; runs that are there are not run again."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """Address of a Ray cluster that carries out the runs, or `local`; needs the extra offbeat[ray]."""

    def __call__(self) -> int:
        """Run the study, showing progress, and write its report. Raises: UserError."""
        from offbeat.studies.runner import run_study
        from offbeat.studies.show import show_study

        plan = self.plan()
        out = self.out or Path("runs/studies") / plan.name
        jobs = self.jobs if self.jobs is not None else max(1, int(usable_cores()))
        if jobs < 1:
            raise ConfigError(f"jobs is {jobs}: run at least 1 at a time.")
        console = Console()
        _say(console, f"{plan.name}: {plan.question}" if plan.question else plan.name)
        _say(console, f"{len(plan.settings)} settings, {len(plan.seeds)} seeds, into {out}")
        try:
            with show_study(console) as show:
                outcome = run_study(
                    plan, out, jobs, show, reuse=self.reuse, archive=self.archive, workplace=self.workplace(out)
                )
        except KeyboardInterrupt:
            _say(Console(stderr=True), "Stopped. The same command goes on from the last checkpoints.")
            raise
        for run, reason in outcome.failed.items():
            _say(Console(stderr=True), f"{run} failed: {reason}")
        if outcome.finished:
            from offbeat.report import write_report

            page = write_report([out], out / REPORT, show=partial(_say, console))
            _say(console, f"{len(outcome.finished)} of {len(plan.runs())} runs finished. Wrote {page}.")
        return _FAILED if outcome.failed else 0

    def workplace(self, out: Path) -> Callable[[], Workplace] | None:
        """What joins the cluster, or None for this machine."""
        if self.ray is None:
            return None
        from offbeat.studies.ray import RayTasks

        return partial(RayTasks, out, self.ray, self.jobs)

    def plan(self) -> Plan:
        """The study that is meant. Raises: ConfigError, ProfileError."""
        if self.study in NAMED:
            return make_named(self.study, self.scale or "cpu", self.minutes, self.seeds)
        if self.study.endswith(".toml") or Path(self.study).exists():
            return load_study(Path(self.study), self.scale, self.minutes, self.seeds)
        raise ConfigError(
            f"Unknown study {self.study!r}{near(self.study, NAMED)}: use {', '.join(NAMED)} or a TOML file."
        )


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
