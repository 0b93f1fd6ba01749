"""`offbeat rehearse`: a whole training run in real time, against a server that speaks the arm's own protocol."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro
from rich.console import Console

from offbeat.cli.training import describe, print_summary
from offbeat.config import RunConfig
from offbeat.directory import ROBOT_LOG
from offbeat.errors import ConfigError, OffbeatError

MINUTES, WARMUP_S = 1.0, 12.0
"""Of a rehearsal, where nothing else is said: two episodes warm up, eight learn."""

_UNCLEAN = 1  # exit code
# What a server counts that no clean run has: a reflex or a protective stop, and its own watchdog's stop.
_FAULTS = ("reflexes", "protective_stops", "watchdog")


@dataclass(frozen=True)
class Rehearse:
    """Train for a minute, in real time, against a server on this machine that speaks the arm's protocol.

    Everything is as it will be on the arm but the arm: driver, processes, watchdog, resets by moves. The options are
    those of `offbeat train`, at --scale cpu, with --robot franka or --robot ur. Says whether the run was clean.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    protocol: Literal[5, 10] = 10
    """What a Franka arm speaks: 5 (Panda) or 10 (FR3)."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: the next free runs/rehearsal-N)")
    ] = None
    """Directory of the run; must not hold one yet."""

    def __call__(self) -> int:
        """Rehearse; 1 when the run was not clean. Raises: UserError, RobotError."""
        from offbeat.build import require_drivers
        from offbeat.progress import show_progress
        from offbeat.robots.protocols import Maker, serving
        from offbeat.run import train

        hardware = self.config.hardware
        maker = next((maker for maker in get_args(Maker) if maker == hardware.driver), None)
        if maker is None:
            known = " or ".join(f"--robot {name}" for name in get_args(Maker))
            raise ConfigError(f"A rehearsal needs a server that speaks the arm's protocol: say {known}.")
        if hardware.host:
            raise ConfigError("A rehearsal brings its own server: leave out --robot-host.")
        require_drivers(self.config)
        out, console = self.out or _free_directory(), Console()
        with serving(maker, protocol=self.protocol) as server:
            config = replace(self.config, hardware=replace(hardware, host=server.host))
            _say(console, describe(config))
            _say(console, f"  against   a server of {maker} at {server.host}")
            try:
                with show_progress(console, config) as after_episode:
                    summary = train(config, out, after_episode)
            except OffbeatError:  # the last fault of some, perhaps
                self._judge(console, out, server.counters)
                raise
            counters = server.counters
        print_summary(console, summary, out)
        if self._judge(console, out, counters):
            return _UNCLEAN
        _say(console, "Clean: no fault, and no command was missed.")
        return 0

    def _judge(self, console: Console, out: Path, counters: Mapping[str, int]) -> bool:
        """Print what the server counted and what was not clean; whether anything was."""
        faults = find_faults(out / ROBOT_LOG, counters)
        _say(console, f"server    {', '.join(f'{count:,} {_words(name)}' for name, count in counters.items())}")
        if faults:
            _say(console, f"Not clean: {'; '.join(faults)}.")
        return bool(faults)


def find_faults(log: Path, counters: Mapping[str, int]) -> list[str]:
    """What no clean run has, in some words each.

    log: what the robot's process wrote (`served.ServedRig`). counters: of the server.
    """
    written = log.read_text(encoding="utf-8") if log.exists() else ""
    lines: list[dict[str, Any]] = [json.loads(line) for line in written.splitlines()]
    events = Counter(line["event"] for line in lines)
    causes = "; ".join(dict.fromkeys(line["cause"] for line in lines if line["event"] == "fault"))
    found = []
    if events["fault"]:
        found.append(f"the arm stopped by itself {_times(events['fault'])} ({causes})")
    if events["watchdog"]:
        found.append(f"commands were missed, so that the watchdog stopped the arm {_times(events['watchdog'])}")
    counted = ", ".join(f"{counters[name]} {_words(name)}" for name in _FAULTS if counters.get(name))
    return [*found, *([f"the server counted {counted}"] if counted else [])]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _free_directory() -> Path:
    number = 1
    while (path := Path(f"runs/rehearsal-{number}")).exists():
        number += 1
    return path


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
