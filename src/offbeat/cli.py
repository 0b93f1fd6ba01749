"""The command line: `offbeat train | resume | profile | report | demo | doctor`.

The options are the fields of the configuration. The four names a user says (setting, scale, preset, schedule) choose
the base that the other options change, so they are looked for first; then everything is read again over that base.

Whatever a user gets wrong ends as one sentence on standard error and exit code 2. Libraries that compute are loaded
by the command that needs them, so that help comes at once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from rich.console import Console

from offbeat.config import RunConfig, make_config
from offbeat.directory import read_config
from offbeat.errors import ConfigError, OffbeatError, RobotError, UserError, WorkerError

USER_ERROR, FAILURE, INTERRUPTED = 2, 1, 130
"""Exit codes: something the user can put right; a robot, process or invariant that failed; Ctrl-C (SIGTERM: 143)."""

_Config = Annotated[RunConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class Train:
    """Run one configuration into a directory of its own, in virtual time or, with --clock wall, in real time.

    Base: --setting async-base, async-highres, sync-base or sync-highres; --scale paper or cpu; --preset default or
    paper. They decide the defaults of all other options below.
    """

    config: _Config
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Directory of the run; must not hold one yet."""

    def __call__(self) -> int:
        """Train, showing progress. Raises: UserError."""
        from offbeat.progress import show_progress
        from offbeat.run import train

        console = Console()
        console.print(describe(self.config), highlight=False, markup=False, soft_wrap=True)
        with _stoppable(self.out), show_progress(console, self.config) as after_episode:
            summary = train(self.config, self.out, after_episode)
        _print_summary(console, summary, self.out)
        return 0


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped, from its last checkpoint; in virtual time to the same bytes."""

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Directory of the run."""

    def __call__(self) -> int:
        """Go on, showing progress. Raises: UserError."""
        from offbeat.progress import show_progress
        from offbeat.run import resume

        console = Console()
        config = read_config(self.directory)
        with _stoppable(self.directory), show_progress(console, config) as after_episode:
            summary = resume(self.directory, after_episode)
        _print_summary(console, summary, self.directory)
        return 0


@dataclass(frozen=True)
class Profile:
    """Measure what every stage of a configuration costs on this machine, and save it for `--profile FILE`."""

    config: _Config
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("profile.json")
    """File to write (JSON); must not exist yet."""

    def __call__(self) -> int:
        """Measure and save. Raises: UserError."""
        from offbeat.errors import ProfileError
        from offbeat.measure import measure_profile

        if self.out.exists():
            raise ProfileError(f"{self.out} exists already: choose another --out.")
        if not self.out.parent.is_dir():
            raise ProfileError(f"The directory {self.out.parent} does not exist: make it or choose another --out.")
        console = Console()
        with console.status("Measuring act, store, sample and update ..."):
            profile = measure_profile(self.config)
        profile.save(self.out)
        for stage, distribution in profile.stages.items():
            console.print(f"{stage.value:>7}  {distribution.mean_s * 1e3:8.3f} ms on average", highlight=False)
        console.print(f"Saved to {self.out}.", highlight=False)
        return 0


@dataclass(frozen=True)
class Report:
    """Write figures, tables and one self-contained page about runs."""

    directories: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DIR...")]
    """Directories of the runs."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("report")
    """Directory for the report."""

    def __call__(self) -> int:
        """Write the report. Raises: UserError."""
        from offbeat.report import write_report

        Console().print(f"Wrote {write_report(list(self.directories), self.out)}.", highlight=False)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (by default the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = parse(arguments)
        return int(command())
    except SystemExit as exit_:  # help was asked for and printed
        return int(exit_.code or 0)
    except UserError as error:
        return _complain(error, USER_ERROR)
    except WorkerError as error:
        if error.trace:
            _print_error(error.trace.rstrip())
        return _complain(error, FAILURE)
    except OffbeatError as error:
        return _complain(error, FAILURE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe went away: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parse(arguments: Sequence[str]) -> Any:
    """The command that a command line asks for. Raises: ConfigError in one sentence; SystemExit after help."""
    base = _base_config(arguments)
    choices: tuple[Any, ...] = (
        Annotated[Train, tyro.conf.subcommand("train", default=Train(base, tyro.MISSING))],
        Annotated[Resume, tyro.conf.subcommand("resume")],
        Annotated[Profile, tyro.conf.subcommand("profile", default=Profile(base))],
        Annotated[Report, tyro.conf.subcommand("report")],
        Annotated[Demo, tyro.conf.subcommand("demo")],
        Annotated[Doctor, tyro.conf.subcommand("doctor")],
    )
    kinds: Any = Union[choices]  # noqa: UP007  made from a tuple
    with _one_sentence(arguments):
        command = tyro.cli(kinds, prog="offbeat", args=list(arguments), config=(tyro.conf.OmitSubcommandPrefixes,))
    _check_finite(command)
    return command


def describe(config: RunConfig) -> str:
    """What the seconds of a configuration are in steps, in a few lines to print at the start."""
    env, sac, cycle_ms = config.env, config.sac, config.env.cycle_s * 1e3
    frame = env.height * env.width * 3
    held = min(config.replay_steps, config.episodes * env.episode_steps)
    time = "wall clock" if config.clock == "wall" else f"profile {config.profile}, virtual clock"
    time += ", dry" if config.dry else ""
    per = "step" if sac.discount_per_s == 0 else f"{sac.discount_per_s * 1e3:g} ms"
    return "\n".join(
        (
            f"{config.setting}, {config.scale} scale, {config.preset} preset, {config.schedule}, seed {config.seed}; "
            + time,
            f"  cycle     {cycle_ms:g} ms; images {env.width}x{env.height}; "
            f"a stack of {env.stack} spans {(env.stack - 1) * cycle_ms:g} ms",
            f"  run       {config.minutes:g} min = {config.episodes} episodes of {env.episode_s:g} s "
            f"= {env.episode_steps} steps, {config.episodes * env.episode_steps:,} steps in all",
            f"  warm-up   {config.warmup_s:g} s = {config.warmup_steps:,} steps",
            f"  replay    {config.replay_s:g} s = {config.replay_steps:,} steps"
            + ("" if config.dry else f", at most {held * frame / 1e9:.2f} GB in this run"),
            f"  discount  {sac.discount:g} per {per} = {config.discount_per_step:.6f} per step",
        )
    )


def _base_config(arguments: Sequence[str]) -> RunConfig:
    """The configuration that the four names choose; the defaults where a name is not given. Raises: ConfigError."""
    names = ("setting", "scale", "preset", "schedule")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        parser.add_argument(f"--{name}", nargs="?")  # a missing value is for the full parser to refuse
    if not arguments or arguments[0] not in ("train", "profile"):
        return make_config()
    known, _ = parser.parse_known_args(list(arguments))
    return make_config(**{name: value for name in names if (value := getattr(known, name)) is not None})


@contextlib.contextmanager
def _one_sentence(arguments: Sequence[str]) -> Iterator[None]:
    """Turn the parser's boxed complaints into the first sentence in them. Raises: ConfigError."""
    if {"-h", "--help"} & set(arguments):
        yield
        return
    boxes = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"  # a sentence stays on one line of its box
    try:
        with contextlib.redirect_stderr(boxes):
            yield
    except SystemExit:
        known = arguments and arguments[0] in ("train", "resume", "profile", "report", "demo", "doctor")
        where = f"`offbeat {arguments[0]} --help`" if known else "`offbeat --help`"
        raise ConfigError(f"{_first_sentence(boxes.getvalue())}: see {where}.") from None
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def _first_sentence(boxes: str) -> str:
    """What a box says above its first rule."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", boxes)
    inside = [line.strip(" │╭╮╰╯─\n") for line in plain.splitlines()[1:]]
    said = " ".join(itertools.takewhile(bool, inside))
    return re.sub(r"\s+", " ", said).rstrip(".: ") or "The command line cannot be read"


def _check_finite(value: Any, name: str = "") -> None:
    """Raises: ConfigError when a number anywhere in a dataclass is infinite or not a number."""
    if is_dataclass(value):
        for field in fields(value):
            _check_finite(getattr(value, field.name), field.name)
    elif isinstance(value, tuple):
        for item in value:
            _check_finite(item, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} is {value}: give a finite number.")


@contextlib.contextmanager
def _stoppable(directory: Path) -> Iterator[None]:
    """On Ctrl-C, SIGTERM or a robot's error say how to go on; what was recorded up to the last checkpoint is safe."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, RobotError):
        hint = "nothing was begun" if not (directory / "checkpoint.pt").exists() else f"offbeat resume {directory}"
        Console(stderr=True).print(
            f"Stopped. To go on from the last checkpoint: {hint}", highlight=False, soft_wrap=True
        )
        raise


def _print_summary(console: Console, summary: dict[str, Any], directory: Path) -> None:
    response = summary["response_ms"]
    lines = (
        f"{summary['episodes']} episodes, {summary['steps']:,} steps, {summary['updates']:,} updates",
        f"return    {summary['return_first20']:.1f} in the first 20 episodes, "
        f"{summary['return_last20']:.1f} in the last 20",
        f"response  {response['p50']:.1f} ms (p99 {response['p99']:.1f} ms), "
        f"{summary['missed_deadlines']:,} missed deadlines",
        f"time      {summary['robot_s'] / 60:.1f} minutes on the robot's clock, {summary['wall_s'] / 60:.1f} on ours",
        f"records   {directory}",
    )
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _complain(error: OffbeatError, code: int) -> int:
    _print_error(re.sub(r"\s+", " ", f"offbeat: {error}"))
    return code


def _print_error(sentence: str) -> None:
    Console(stderr=True).print(sentence, highlight=False, markup=False, soft_wrap=True)
