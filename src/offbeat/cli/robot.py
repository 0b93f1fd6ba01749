"""`offbeat robot check | home`: an arm's first moves, each after a yes, through the processes that training uses."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from offbeat.arms import ARMS
from offbeat.config import RunConfig
from offbeat.errors import ConfigError

if TYPE_CHECKING:
    from offbeat.robots.commission import Nudge
    from offbeat.types import FloatArray

_Config = Annotated[RunConfig, tyro.conf.arg(name="")]
_FAILED = 1  # exit code when a joint does not do what it is told
_WATCH_S = 2.0
_MOST_DEGREES = 5.0


@dataclass(frozen=True)
class RobotCheck:
    """Connect to an arm, show limits and how fresh states are, and after a yes move each joint by a degree and back.

    The options are those of `offbeat train`, above all --robot and --robot-host. Without a driver the simulated arm is
    checked.
    """

    config: _Config
    degrees: float = 1.0
    """How far each joint moves (degrees), towards the middle of its range."""
    yes: bool = False
    """Do not ask before moving."""

    def __call__(self) -> int:
        """Check; 1 when a joint did not do what it was told. Raises: UserError, RobotError."""
        from offbeat.robots.commission import nudge, time_states

        if not 0 < self.degrees <= _MOST_DEGREES:
            raise ConfigError(f"degrees is {self.degrees}: use more than 0 and at most {_MOST_DEGREES:g}.")
        with _connected(self.config) as (robot, clock):
            begin_rad = robot.read_state().joint_rad
            _print(limits_table(self.config, begin_rad))
            timing = time_states(robot, clock, _WATCH_S)
            _say(f"states    {timing.rate_hz:.0f} a second; age {timing.age_ms}; reading takes {timing.read_ms}")
            lower, upper = (np.array(bound) for bound in _bounds(self.config))
            towards = np.where(begin_rad <= (lower + upper) / 2, 1.0, -1.0)
            if not _agreed(
                f"Each of the {len(begin_rad)} joints will move by {self.degrees:g} degrees and back. Keep your hand "
                "on the stop button. Move?",
                self.yes,
            ):
                return 0
            nudges = []
            for joint, sign in enumerate(towards):
                with Console().status(f"Joint {joint + 1} of {len(towards)} ..."):
                    nudges.append(nudge(robot, clock, joint, float(sign * np.radians(self.degrees))))
            robot.stop()
        _print(nudges_table(nudges))
        return _FAILED if any(result.complaint for result in nudges) else 0


@dataclass(frozen=True)
class RobotHome:
    """Move an arm, slowly and after a yes, to the pose that looks at the table.

    The options are those of `offbeat train`, above all --robot and --robot-host.
    """

    config: _Config
    yes: bool = False
    """Do not ask before moving."""

    def __call__(self) -> int:
        """Move. Raises: UserError, RobotError."""
        from offbeat.robots.commission import SPEED_RAD_S, go, plan_way
        from offbeat.robots.models import MODELS
        from offbeat.safety_limits import SafetyLimits

        name = self.config.env.robot
        with _connected(self.config) as (robot, clock):
            begin_rad = robot.read_state().joint_rad
            goal_rad = np.array(ARMS[name].first_rad)
            way = plan_way(MODELS[name], begin_rad, goal_rad, SafetyLimits.box_lower_m[2])
            if np.abs(goal_rad - begin_rad).max() <= np.radians(1.0):
                _say("The arm is there already.")
                return 0
            (begin, goal), turns = way.flange_m, np.degrees(goal_rad - begin_rad)
            _say(f"joints    turn by {', '.join(f'{turn:+.0f}' for turn in turns)} degrees")
            _say(f"flange    from {_place(begin)} to {_place(goal)}, never below {way.lowest_m:.2f} m")
            if not _agreed(
                f"The arm will move straight there in {way.seconds:.0f} s, at {np.degrees(SPEED_RAD_S):.0f} degrees a "
                "second. Clear its way, and keep your hand on the stop button. Move?",
                self.yes,
            ):
                return 0
            with Console().status("Moving ..."):
                state = go(robot, clock, way)
            _say(f"It stands {np.degrees(np.abs(state.joint_rad - goal_rad).max()):.1f} degrees from the pose.")
        return 0


def limits_table(config: RunConfig, joint_rad: FloatArray) -> Table:
    """Where each joint is, where the task lets it go, and the limits of the model (an FR3 is driven by a Panda's)."""
    from offbeat.robots.models import MODELS

    arm, (lower, upper) = MODELS[config.env.robot], _bounds(config)
    table = Table("joint", title=f"{config.hardware.driver or 'simulated'}, {config.env.robot}", title_justify="left")
    for heading in ("is at", "task's bounds", f"{config.env.robot}'s range", "fastest", "acceleration"):
        table.add_column(heading, justify="right")
    for joint, angle in enumerate(np.degrees(joint_rad)):
        inside = lower[joint] <= joint_rad[joint] <= upper[joint]
        table.add_row(
            str(joint + 1),
            f"{angle:.1f}°" if inside else f"[yellow]{angle:.1f}° outside[/yellow]",
            f"{np.degrees(lower[joint]):.0f}° to {np.degrees(upper[joint]):.0f}°",
            f"{np.degrees(arm.joint_lower_rad[joint]):.0f}° to {np.degrees(arm.joint_upper_rad[joint]):.0f}°",
            f"{arm.velocity_limit_rad_s[joint]:.2f} rad/s",
            f"{arm.acceleration_limit_rad_s2[joint]:.1f} rad/s²",
        )
    return table


def nudges_table(nudges: Sequence[Nudge]) -> Table:
    """What each joint was told and what it did."""
    table = Table("joint")
    for heading in ("told", "moved", "left over", "others", ""):
        table.add_column(heading, justify="right")
    for result in nudges:
        angles = (result.asked_rad, result.moved_rad, result.left_rad, result.others_rad)
        told, moved, left, others = (f"{np.degrees(angle):+.2f}°" for angle in angles)
        verdict = f"[red]{result.complaint}[/red]" if result.complaint else "[green]good[/green]"
        table.add_row(str(result.joint + 1), told, moved, left, others.lstrip("+"), verdict)
    return table


@contextlib.contextmanager
def _connected(config: RunConfig) -> Iterator[tuple[Any, Any]]:
    """The arm of a configuration and the run's clock, with the processes and the watchdog that training has."""
    from offbeat.build import build_served_rig
    from offbeat.timing.wall import WallClock

    clock = WallClock()
    with tempfile.TemporaryDirectory() as directory:
        with Console().status("Connecting ..."):
            rig = build_served_rig(config, clock, Path(directory) / "robot.jsonl")
        with contextlib.closing(rig):
            yield rig.robot, clock


def _agreed(question: str, yes: bool) -> bool:
    """Whether somebody says yes, or has. Raises: ConfigError when there is nobody to ask."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError("The arm moves only after a yes: run this in a terminal, or say --yes.")
    try:
        answer = Console().input(f"{question} [y/N] ", markup=False)
    except EOFError:
        answer = ""
    if answer.strip().lower() in ("y", "yes"):
        return True
    _say("Nothing was moved.")
    return False


def _bounds(config: RunConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The task's bounds of the joints (rad)."""
    arm = ARMS[config.env.robot]
    return arm.joint_lower_rad, arm.joint_upper_rad


def _place(position_m: FloatArray) -> str:
    return f"({', '.join(f'{value:.2f}' for value in position_m)}) m"


def _print(table: Table) -> None:
    Console().print(table)


def _say(line: str) -> None:
    Console().print(line, highlight=False, markup=False, soft_wrap=True)
