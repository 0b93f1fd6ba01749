"""The process that films with a real camera: it hands every new image through, into the image cell.

Any object with the method of `Camera` will do; images have to have the task's size. A camera that has fallen silent
may come back (its driver reconnects): meanwhile the reason is told, and who asks for an image gets it.
"""

from __future__ import annotations

import numpy as np

from offbeat.errors import RobotError, StaleFrameError
from offbeat.robots.base import CameraSetup
from offbeat.robots.link import Cells, Order
from offbeat.robots.registry import make_camera
from offbeat.robots.service import LEAVE, Line
from offbeat.robots.vendor import let_go
from offbeat.timing.wall import WallClock

PERIOD_S = 0.002
"""Time between two looks at the camera (s)."""

_MAX_AGE_S = 0.2  # what the environment allows, too
_FIRST_S = 15.0  # the longest wait for the first image; some cameras take seconds to find their exposure


class Filming:
    """A camera of the registry, at the service of whoever has the other end of cells and line."""

    def __init__(self, order: Order, cells: Cells, line: Line) -> None:
        """Raises: DriverError, and what the camera's function raises."""
        config = order.config
        self._cells, self._line, self._clock = cells, line, WallClock(order.epoch_s, spin_s=0.0)
        self._shape = (config.height, config.width, 3)
        self._captured_s = -np.inf
        self._camera = make_camera(
            CameraSetup(order.hardware.camera, config.height, config.width, self._clock, config.camera_rate_hz)
        )

    def run(self) -> None:
        """Serve until a request or SIGTERM ends it or the parent has died.

        Raises: RobotError when no image comes at first, or one of another size; what the camera raises beside
        StaleFrameError.
        """
        ready, start_s = False, self._clock.now()
        try:
            while (request := self._line.take()) is None or request[0] != LEAVE:
                trouble = self._look()
                if not ready:
                    ready = self._captured_s > -np.inf
                    if ready:
                        self._line.ready()
                    elif self._clock.now() - start_s > _FIRST_S:
                        raise RobotError(f"The camera gave no image within {_FIRST_S:g} s: {trouble}")
                self._clock.sleep_until(self._clock.now() + PERIOD_S)
        finally:
            let_go(self._camera)

    def _look(self) -> str:
        """Publish the newest image, if it is new; returns what is wrong, or ""."""
        self._cells.pulse.write(now_s=self._clock.now())
        try:
            frame = self._camera.read_latest(_MAX_AGE_S)
        except StaleFrameError as error:
            self._line.say(str(error))
            return str(error)
        self._line.say("")
        if frame.captured_s > self._captured_s:
            if frame.image.shape != self._shape or frame.image.dtype != np.uint8:
                raise RobotError(
                    f"The camera gives {frame.image.dtype} images of {frame.image.shape}, and the task's are uint8 of "
                    f"{self._shape}: let its driver resize them."
                )
            self._captured_s = frame.captured_s
            self._cells.image.write(captured_s=frame.captured_s, image=frame.image)
        return ""
