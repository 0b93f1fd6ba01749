"""The commands, by name. A new one is a dataclass whose fields are its options and whose call does it: add it below."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from offbeat.cli.camera import CameraCheck, CameraMask
from offbeat.cli.rehearse import MINUTES, WARMUP_S, Rehearse
from offbeat.cli.robot import RobotCheck, RobotHome
from offbeat.cli.serve import ServeRobot
from offbeat.cli.study import Study, describe_studies
from offbeat.cli.training import Profile, Resume, Train
from offbeat.cli.tuning import TuneCycle
from offbeat.config import RunConfig


@dataclass(frozen=True)
class Report:
    """Write figures, tables and one self-contained page about runs, a study or the paper's own records."""

    directories: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DIR...")]
    """Directories of runs; or one of a study, or a study's archive; or the returns.csv of the paper's records."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("report")
    """Directory for the report."""
    reference: Literal["none", "paper"] = "paper"
    """Whether the real robot's own curves stand behind the settings that repeat the paper's."""
    threshold: float = 150.0
    """Return whose first passing is timed."""

    def __call__(self) -> int:
        """Write the report. Raises: UserError."""
        from offbeat.report import write_report
        from offbeat.studies.archive import RUNS, unpack

        console = Console()
        with tempfile.TemporaryDirectory() as temporary:
            given = self.directories
            if len(given) == 1 and (given[0] / RUNS).is_file() and given[0].resolve() != self.out.resolve():
                unpack(given[0], Path(temporary))
                given = (Path(temporary),)
            page = write_report(
                given,
                self.out,
                reference=self.reference == "paper",
                threshold=self.threshold,
                show=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
            )
        console.print(f"Wrote {page}.", highlight=False, markup=False, soft_wrap=True)
        return 0


@dataclass(frozen=True)
class Demo:
    """Train synchronously and asynchronously side by side, live, then film and report both."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/demo")
    """Directory of the two runs and the report."""
    minutes: float = 12.0
    """Robot time of each run (minutes)."""
    seed: int = 0
    """Seed of both runs."""

    def __call__(self) -> int:
        """Run the demonstration. Raises: UserError."""
        from offbeat.demo import run_demo

        run_demo(self.out, self.minutes, self.seed)
        return 0


@dataclass(frozen=True)
class Doctor:
    """Say what this machine can do, and what to do about what is missing."""

    def __call__(self) -> int:
        """Examine the machine."""
        from offbeat.doctor import run_doctor

        return run_doctor()


@dataclass(frozen=True)
class Command:
    """How a command line becomes a command.

    kind: the command's dataclass, which returns an exit code when it is called. over: for a command that holds a whole
    configuration, itself with the defaults of one. description: the top of its own help, instead of its docstring.
    names: those of the four names that choose the configuration which have another default here.
    """

    kind: type
    over: Callable[[RunConfig], Any] | None = None
    description: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "train": Command(Train, lambda base: Train(base, tyro.MISSING)),
        "resume": Command(Resume),
        "study": Command(Study, description=describe_studies()),
        "tune-cycle": Command(
            TuneCycle, lambda base: TuneCycle(replace(base, minutes=12.0), tyro.MISSING), names={"scale": "cpu"}
        ),
        "profile": Command(Profile, lambda base: Profile(base)),
        "report": Command(Report),
        "demo": Command(Demo),
        "doctor": Command(Doctor),
        "robot check": Command(RobotCheck, lambda base: RobotCheck(base)),
        "robot home": Command(RobotHome, lambda base: RobotHome(base)),
        "camera check": Command(CameraCheck),
        "camera mask": Command(CameraMask),
        "serve-robot": Command(ServeRobot),
        "rehearse": Command(
            Rehearse,
            lambda base: Rehearse(replace(base, minutes=MINUTES, warmup_s=WARMUP_S)),
            names={"scale": "cpu"},
        ),
    }
)
"""The commands by the word that chooses them, or the two."""
