"""A real arm and its camera, each served by a process of its own.

    interaction        robot process (driver.py)               camera process (camera.py, or shadow.py for "sim")
      ServedRobot  --command--> Driver --> the arm's library     Filming <-- the camera's library
                   <---state--------'------- state ------------> Shadow
      ServedCamera <---image-------------------------------------'

Who uses the rig may die, the arm stands soon after: the driver stops it, as `ServedRig`'s server does. When the driver
dies, the arm's own controller has to: a driver arms its watchdog where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from offbeat.config import EnvConfig, HardwareConfig
from offbeat.errors import RobotError
from offbeat.robots.base import Placement
from offbeat.robots.camera import Filming
from offbeat.robots.driver import Driver
from offbeat.robots.link import MAX_STATE_AGE_S, Cells, Order
from offbeat.robots.registry import SIM_CAMERA
from offbeat.robots.served import BUSY, ServedCamera, ServedRobot
from offbeat.robots.service import Service
from offbeat.robots.shadow import Shadow
from offbeat.timing.clock import Clock
from offbeat.types import ImageArray


class HardwareRig:
    """A real arm and its camera. Implements `Rig`; what it cannot do raises RobotError.

    Its state is not saved: a run that goes on begins where the arm is.
    """

    def __init__(
        self,
        config: EnvConfig,
        hardware: HardwareConfig,
        clock: Clock,
        epoch_s: float,
        watchdog_s: float,
        log: Path | None = None,
    ) -> None:
        """Start both processes and wait until arm and camera can be used.

        clock: a wall clock, and epoch_s what `time.monotonic()` said when it was at 0. watchdog_s: the age at which a
        command is no longer fresh (s). log: the file to append to, as that of `ServedRig`. Raises: DriverError when a
        driver is unknown or lacks a library; RobotError when arm or camera cannot be reached.
        """
        self._simulated = hardware.camera == SIM_CAMERA
        cells, order = Cells.make(config), Order(config, hardware, epoch_s, watchdog_s, log)
        self._cells = cells
        self._arm = Service("robot", Driver, (order, cells), lambda: cells.state.version, realtime=True)
        films = Shadow if self._simulated else Filming
        self._film = Service("camera", films, (order, cells), lambda: cells.pulse.version, realtime=True)
        self.robot = ServedRobot(cells, clock, self._arm.explain)
        self.camera = ServedCamera(cells, clock, self._explain_camera)
        self._clock = clock
        try:
            self._arm.wait_ready()
            self._film.wait_ready()
        except BaseException:
            self.close()
            raise

    @property
    def process(self) -> SpawnProcess:
        """The process that drives the arm."""
        return self._arm.process

    @property
    def watched(self) -> Mapping[str, Service]:
        """The processes to keep an eye on, by name."""
        return {"robot": self._arm, "camera": self._film}

    def place(self, placement: Placement) -> None:
        """Raises: RobotError, always."""
        raise RobotError(
            "A real arm and what lies before it cannot be placed: let it reset by moves, without fast_reset."
        )

    def restart(self, placement: Placement) -> None:
        """Nothing: a real arm goes on from where it is."""

    def render(self) -> ImageArray:
        """The second camera's view of the scene now, (360, 480, 3) uint8 RGB. Raises: RobotError without a shadow."""
        if not self._simulated:
            raise RobotError("A real scene has no second camera: leave out the picture, or use --camera sim.")
        self._film.ask("render")
        image: ImageArray = self._cells.scene.read()[1]["image"]
        return image

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: a real arm goes on from where it is."""

    def _explain_camera(self) -> str:
        age_s = self._clock.now() - float(self._cells.pulse.read()[1]["now_s"])
        return self._film.explain(BUSY if age_s <= MAX_STATE_AGE_S else "")

    def close(self) -> None:
        """Stop the arm and end both processes, by force when one does not leave; does nothing the second time."""
        self.robot.stop()
        self._arm.close(listens=self._arm.process.is_alive())
        self._film.close()
