"""`offbeat train | resume | profile`: one run, or what its stages cost here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from offbeat.config import RunConfig
from offbeat.directory import read_config
from offbeat.errors import RobotError

_Config = Annotated[RunConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class Train:
    """Run one configuration into a directory of its own, in virtual time or, with --clock wall, in real time.

    Base: --setting async-base, async-highres, sync-base or sync-highres; --scale paper or cpu; --preset default or
    paper. They decide the defaults of all other options below. --robot panda or ur5e, for short, is --env.robot; any
    other --robot is --hardware.driver, the driver of a real arm, with --robot-host and --camera for --hardware.host and
    --hardware.camera, and --clock wall.
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
        print_summary(console, summary, self.out)
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
        print_summary(console, summary, self.directory)
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


def describe(config: RunConfig) -> str:
    """What the seconds of a configuration are in steps, in a few lines to print at the start."""
    env, sac, cycle_ms = config.env, config.sac, config.env.cycle_s * 1e3
    frame = env.height * env.width * 3
    held = min(config.replay_steps, config.episodes * env.episode_steps)
    time = "wall clock" if config.clock == "wall" else f"profile {config.profile}, virtual clock"
    time += ", dry" if config.dry else ""
    if config.hardware.driver:
        time += f"; driver {config.hardware.driver}, camera {config.hardware.camera}"
    per = "step" if sac.discount_per_s == 0 else f"{sac.discount_per_s * 1e3:g} ms"
    return "\n".join(
        (
            f"{config.setting}, {config.scale} scale, {config.preset} preset, {config.schedule}, {env.robot}, "
            f"seed {config.seed}; {time}",
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


@contextlib.contextmanager
def _stoppable(directory: Path) -> Iterator[None]:
    """On Ctrl-C, SIGTERM or a robot's error say how to go on; what was recorded up to the last checkpoint is safe."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, RobotError):
        begun = (directory / "checkpoint.pt").exists()
        said = f"To go on from the last checkpoint: offbeat resume {directory}" if begun else "Nothing was begun."
        Console(stderr=True).print(f"Stopped. {said}", highlight=False, soft_wrap=True)
        raise


def print_summary(console: Console, summary: dict[str, Any], directory: Path) -> None:
    """What came of a run, in a few lines."""
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
