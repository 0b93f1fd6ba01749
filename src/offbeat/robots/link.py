"""What the process that serves an arm and the one that uses it share: four cells of memory and a channel of requests.

                    interaction                                           server
    ServedRobot     command_velocity, stop   ------ command ----->   applied in its next physics step, and watched
                    read_state               <------ state -------   after every step (2 ms)
    ServedCamera    read_latest              <------ image -------   once it has arrived, as often as the camera ticks
    ServedRig       place, restart, ...      <---- requests ----->   outside of action cycles only
                    render                   <------ scene -------   when asked for

A cell holds the newest record of one writer and nobody waits for anybody (`shared_memory.SeqLock`), so whichever of
the two is slow, stopped or dead, the other goes on. All stamps are seconds of the run clock, which both processes
count from the same instant of `time.monotonic()`. Requests go through `service.py`.

A simulated arm has one server for both (server.py); a real arm has one (driver.py) and its camera another (camera.py,
shadow.py), each with its part of the cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offbeat.arms import RobotName
from offbeat.config import EnvConfig, HardwareConfig
from offbeat.robots.base import SCENE_SIZE
from offbeat.shared_memory import SeqLock
from offbeat.types import FloatArray

MAX_STATE_AGE_S = 0.2
"""A state older than this (s) is none: it is published every 2 or 4 ms, so what publishes it is stuck or dead."""


@dataclass(frozen=True)
class Order:
    """What a process that serves an arm or a camera is told when it starts.

    config, hardware: of the run. epoch_s: what `time.monotonic()` said when the run's clock was at 0. watchdog_s: the
    age at which a command is no longer fresh (s). log: the file of what happens to the arm, or None.
    """

    config: EnvConfig
    hardware: HardwareConfig
    epoch_s: float
    watchdog_s: float
    log: Path | None


@dataclass(frozen=True)
class Cells:
    """The shared memory of one served arm; given to its process when that is spawned.

    robot: the arm's name. command: sent_s, joint_rad_s (N,). state: stamp_s, joint_rad (N,), joint_rad_s (N,).
    image: captured_s, image (H, W, 3) uint8. scene: image (360, 480, 3) uint8. pulse: now_s, which the process of a
    camera writes while it gets on, images or not.
    """

    robot: RobotName
    command: SeqLock
    state: SeqLock
    image: SeqLock
    scene: SeqLock
    pulse: SeqLock

    @classmethod
    def make(cls, config: EnvConfig) -> Cells:
        """Cells with nothing written. Raises: OffbeatError when the system does not give the memory."""
        joints = (np.float64, config.joints)
        return cls(
            robot=config.robot,
            command=SeqLock([("sent_s", np.float64), ("joint_rad_s", *joints)]),
            state=SeqLock([("stamp_s", np.float64), ("joint_rad", *joints), ("joint_rad_s", *joints)]),
            image=SeqLock([("captured_s", np.float64), ("image", np.uint8, (config.height, config.width, 3))]),
            scene=SeqLock([("image", np.uint8, (*SCENE_SIZE, 3))]),
            pulse=SeqLock([("now_s", np.float64)]),
        )


class Commands:
    """The reading end of a command cell: each command once, and only the newest."""

    def __init__(self, cell: SeqLock) -> None:
        self._cell, self._record, self._seen = cell, np.empty(1, cell.dtype), 0

    def take(self) -> tuple[FloatArray, float] | None:
        """The newest command (N,) rad/s and when it was sent (s), unless it has been taken; never waits."""
        if self._cell.version == self._seen:
            return None
        version = self._cell.try_read(self._record)
        if version is None:  # another is being written: the next look has it
            return None
        self._seen = version
        return self._record[0]["joint_rad_s"].copy(), float(self._record[0]["sent_s"])

    def void(self) -> None:
        """Pass over what has been sent so far."""
        self._seen = self._cell.version
