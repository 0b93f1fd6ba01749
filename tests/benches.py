"""The arms of the contract suite: each is a bench with an arm, what stands behind it, and what can go wrong there.

To add a driver, add a `Bench` to BENCHES. `serving` starts what the driver connects to, in a process of its own, and
gives an object with `host`, what the driver is told, and `inject(fault)`.

A real arm is the row "real": with `--hardware`, OFFBEAT_ROBOT says its driver and OFFBEAT_ROBOT_HOST its address.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import pytest

from offbeat.config import EnvConfig, HardwareConfig
from offbeat.robots.hardware import HardwareRig
from offbeat.robots.protocols import serving
from offbeat.robots.served import ServedRig
from offbeat.timing.wall import WallClock

WATCHDOG_S = 0.12


class Behind(Protocol):
    """What a driver connects to."""

    host: str

    def inject(self, fault: str) -> None:
        """Let it happen now."""
        ...


@dataclass(frozen=True)
class Bench:
    """One arm of the suite.

    name: of the row. env: says which arm. driver: of the registry; "" is the simulated arm. serving: what stands behind
    it. stand_s: how long the arm needs from 0.2 rad/s to a stand (s). recoverable: faults after which it goes on.
    final: faults that end its use, each with what the error has to say. tolerated: faults that nothing comes of.
    recovery_s: what a recovery takes at the most (s). modules: libraries without which the row is skipped. slow: that
    all of the row is. real: that something moves.
    """

    name: str
    env: EnvConfig
    driver: str = ""
    serving: Callable[[], AbstractContextManager[Behind]] | None = None
    stand_s: float = 0.04
    recoverable: tuple[str, ...] = ()
    final: tuple[tuple[str, str], ...] = ()
    tolerated: tuple[str, ...] = ()
    recovery_s: float = 2.0
    modules: tuple[str, ...] = ()
    slow: bool = False
    real: bool = False

    @contextmanager
    def behind(self) -> Iterator[Behind | None]:
        """What stands behind the arm, for as long as the block lasts."""
        if self.serving is None:
            yield None
            return
        with self.serving() as behind:
            yield behind

    def rig(self, behind: Behind | None, log: Path | None = None, **changes: Any) -> Any:
        """A rig with the arm and the fastest camera to start. changes: of the hardware's configuration."""
        clock = WallClock()
        if behind is None:
            return ServedRig(self.env, clock, clock.epoch_s, WATCHDOG_S, log)
        hardware = HardwareConfig(driver=self.driver, host=behind.host, camera="fake_arm:FakeCamera")
        return HardwareRig(self.env, replace(hardware, **changes), clock, clock.epoch_s, WATCHDOG_S, log)


class FakeFaults:
    """Behind the fake arm: a directory of faults."""

    def __init__(self, directory: Path) -> None:
        self.host = str(directory)

    def inject(self, fault: str) -> None:
        """Let it happen now."""
        (Path(self.host) / fault).touch()


@contextmanager
def fake_faults() -> Iterator[FakeFaults]:
    """No fault yet."""
    with tempfile.TemporaryDirectory() as directory:
        yield FakeFaults(Path(directory))


class RealArm:
    """Iron behind the driver; what befalls it is for nobody here to inject."""

    host = os.environ.get("OFFBEAT_ROBOT_HOST", "")

    def inject(self, fault: str) -> None:
        """Raises: RuntimeError, always."""
        raise RuntimeError(f"A real arm has no {fault} to inject.")


REAL_DRIVER = os.environ.get("OFFBEAT_ROBOT", "franka")
ENV = EnvConfig(height=36, width=64, renderer="rays")

BENCHES = (
    Bench("simulated", ENV),
    Bench("simulated-ur5e", replace(ENV, robot="ur5e"), slow=True),
    Bench(
        "own",
        ENV,
        "fake_arm:FakeArm",
        fake_faults,
        recoverable=("reflex", "refusal"),
        final=(("lost", "connection to the controller was lost"), ("silent", "sends no fresh state")),
    ),
    Bench(
        "ur",
        replace(ENV, robot="ur5e"),
        "ur",
        partial(serving, "ur"),
        stand_s=0.06,
        recoverable=("protective_stop",),
        final=(("emergency_stop", "emergency stop"), ("communication_loss", "was lost"), ("drop", "was lost")),
        tolerated=("delay", "release"),
        recovery_s=8.0,  # a protective stop can be left after 5 s
        modules=("rtde_control",),
        slow=True,
    ),
    Bench(
        "panda",
        ENV,
        "franka",
        lambda: serving("franka", protocol=5),
        stand_s=0.06,
        recoverable=("reflex", "communication_loss"),
        final=(("drop", "check its cable"), ("emergency_stop", "release it")),
        tolerated=("delay",),
        modules=("panda_py",),
        slow=True,
    ),
    Bench(
        "fr3",
        ENV,
        "franka",
        lambda: serving("franka", protocol=10),
        stand_s=0.08,
        recoverable=("reflex", "communication_loss"),
        final=(("drop", "check its cable"), ("emergency_stop", "release it")),
        tolerated=("delay",),
        modules=("franky",),
        slow=True,
    ),
    Bench(
        "real",
        replace(ENV, robot="ur5e" if REAL_DRIVER == "ur" else "panda"),
        REAL_DRIVER,
        lambda: nullcontext(RealArm()),
        stand_s=0.06,
        real=True,
    ),
)


def rows(many_starts: bool = False) -> list[Any]:
    """BENCHES as parameters of a test, those skipped whose library is not installed.

    many_starts: the test starts arms of its own, and is slow where a maker's library and a server come with each.
    """
    return [pytest.param(bench, id=bench.name, marks=_marks(bench, many_starts)) for bench in BENCHES]


def _marks(bench: Bench, many_starts: bool) -> list[pytest.MarkDecorator]:
    missing = [module for module in bench.modules if find_spec(module) is None]
    marks = [pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")]
    marks += [pytest.mark.hardware] if bench.real else []
    return [*marks, pytest.mark.slow] if bench.slow or (many_starts and bench.modules) else marks
