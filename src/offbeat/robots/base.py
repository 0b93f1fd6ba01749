"""What the loop asks of a robot and of a camera; any object with these methods will do. N: joints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from offbeat.types import FloatArray, Frame, ImageArray, RobotState


class Robot(Protocol):
    """An arm driven by joint velocities."""

    def read_state(self) -> RobotState:
        """Joint positions and velocities and their time stamp. Raises: RobotError when there is no fresh state."""
        ...

    def command_velocity(self, joint_rad_s: FloatArray) -> FloatArray:
        """Hold this velocity (N,) rad/s until the next command; returns the velocity really sent."""
        ...

    def move_to(self, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float = 0.02) -> None:
        """Move to a joint position (N,) rad and stop. Raises: MoveTimeoutError when it did not arrive in time."""
        ...

    def stop(self) -> None:
        """Come to a stand, within the acceleration limits."""
        ...


class Camera(Protocol):
    """A camera that always has a newest image."""

    def read_latest(self, max_age_s: float) -> Frame:
        """The newest image that has arrived. Raises: StaleFrameError when it was captured over `max_age_s` ago."""
        ...


@dataclass(frozen=True)
class Placement:
    """Where a fast reset puts things: arm (N,) rad, bag centre on the table (2,) m and heading (rad)."""

    joint_rad: FloatArray
    bag_xy_m: FloatArray
    bag_yaw_rad: float


class Rig(Protocol):
    """An arm and the camera on it, as an environment uses them together.

    A simulated rig can also be placed and drawn; one of real hardware raises RobotError when asked to.
    """

    @property
    def robot(self) -> Robot:
        """The arm."""
        ...

    @property
    def camera(self) -> Camera:
        """The camera on the arm."""
        ...

    def place(self, placement: Placement) -> None:
        """Put arm and bag at rest where told, at once."""
        ...

    def restart(self, placement: Placement) -> None:
        """`place`, and forget everything that came before, as a new rig would."""
        ...

    def render(self) -> ImageArray:
        """The second camera's view of the scene now, (360, 480, 3) uint8 RGB."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What the rig's future depends on, where that can be saved."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        ...

    def close(self) -> None:
        """Stop the arm and let go of everything held."""
        ...
