"""What the drivers of makers' libraries share: looking at commands, at what a library says, and waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbeat.errors import RobotError
from offbeat.timing.clock import Clock
from offbeat.types import FloatArray


def checked(joint_rad_s: FloatArray, joints: int) -> NDArray[np.float64]:
    """A velocity command (N,) rad/s as an array of floats. Raises: RobotError when it is not N finite numbers."""
    command = np.asarray(joint_rad_s, float)
    if command.shape != (joints,) or not np.isfinite(command).all():
        raise RobotError(f"A velocity command must be {joints} finite numbers (rad/s), and this one is {joint_rad_s}.")
    return command


def one_line(text: object) -> str:
    """What a library said, in one line without its full stop."""
    return " ".join(str(text).split()).rstrip(".")


def wait_until(condition: Callable[[], bool], clock: Clock, timeout_s: float) -> bool:
    """Look a hundred times a second whether something holds, until it does (True) or the time-out (s) is over."""
    deadline_s = clock.now() + timeout_s
    while not condition():
        if clock.now() >= deadline_s:
            return False
        clock.sleep_until(clock.now() + 0.01)
    return True


def let_go(driven: Any) -> None:
    """Close an arm or a camera, where it has something to close."""
    close = getattr(driven, "close", None)
    if close is not None:
        close()
