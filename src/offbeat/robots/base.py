"""What the loop asks of a robot and of a camera; any object with these methods will do. N: joints.

A real arm is an object with the four methods of `Robot`, made by a function of one `RobotSetup` in a process of its
own (`driver.py`), and a camera one with the method of `Camera`, made by a function of one `CameraSetup` in another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from offbeat.arms import RobotName
from offbeat.config_parts import HardwareConfig
from offbeat.timing.clock import Clock
from offbeat.types import FloatArray, Frame, ImageArray, RobotState

SCENE_SIZE = (360, 480)
"""Height and width of the second camera's images (pixels)."""


class Robot(Protocol):
    """An arm driven by joint velocities.

    That of a real arm smooths what it is told, or has its controller do so, within the arm's acceleration; its methods
    are called from one thread, `read_state` 250 times a second.
    """

    def read_state(self) -> RobotState:
        """Joint positions and velocities and their time stamp.

        Raises: RobotError when there is no fresh state or the arm cannot be used any more (connection lost, emergency
        stop); RobotFaultError when it has stopped by itself and may be recovered.
        """
        ...

    def command_velocity(self, joint_rad_s: FloatArray) -> FloatArray:
        """Hold this velocity (N,) rad/s until the next command; returns the velocity really sent.

        Clipped to the arm's limits. Raises: RobotError when it has another length or is not finite, before anything is
        sent; RobotFaultError as `read_state`.
        """
        ...

    def move_to(self, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float = 0.02) -> None:
        """Move to a joint position (N,) rad and stop. Raises: MoveTimeoutError when it did not arrive in time."""
        ...

    def stop(self) -> None:
        """Begin to come to a stand, within the acceleration limits; does not wait for it and never raises."""
        ...


class Recoverable(Protocol):
    """What a real arm may have beside the methods of `Robot`; each is used where it is there."""

    def recover(self) -> None:
        """Make the arm usable again after a RobotFaultError; it stands.

        May take seconds: it is called in a thread of its own, and nothing else is called until it returns.
        Raises: RobotError when it cannot be recovered.
        """
        ...

    def close(self) -> None:
        """Let go of the arm, which stands."""
        ...


class Camera(Protocol):
    """A camera that always has a newest image; one with a method `close` has it called at the end."""

    def read_latest(self, max_age_s: float) -> Frame:
        """The newest image that has arrived. Raises: StaleFrameError when it was captured over `max_age_s` ago."""
        ...


@dataclass(frozen=True)
class RobotSetup:
    """What a function that makes the `Robot` of a real arm is told.

    arm: whose kinematics and joint limits the task uses. host: where the controller is, "" where nothing was said.
    clock: the run's, for stamps. hold_s: how long an arm may go on at a velocity without another command, for the
    controller's own watchdog. hardware: thresholds of the collision reflexes and what else was said of the arm.
    """

    arm: RobotName
    host: str
    clock: Clock
    hold_s: float
    hardware: HardwareConfig


@dataclass(frozen=True)
class CameraSetup:
    """What a function that makes a `Camera` is told.

    source: what --camera said ("0", "/dev/video2", a file, "module:function"). height, width: of the task's images
    (pixels). clock: the run's, for stamps. rate_hz: images a second (Hz).
    """

    source: str
    height: int
    width: int
    clock: Clock
    rate_hz: float


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
        """`place`, and forget everything that came before, as a new rig would; a real arm stays where it is."""
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
