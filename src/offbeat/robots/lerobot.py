"""Robots and cameras of LeRobot, by the interface that LeRobot publishes; nothing of it is imported here.

    --robot lerobot --robot-host MODULE:FUNCTION     a function that returns a robot: connect, get_observation,
                                                     send_action, disconnect, action_features
    --camera lerobot:MODULE:FUNCTION                 one that returns a camera: connect, async_read or read, disconnect

Those robots take joint positions in degrees. A thread steps the goal at the velocity that was asked for, ramped within
the arm's acceleration, and never lets it run away from an arm that is held:

    wanted rad/s --ramp--> speed --x time--> goal, within 0.1 rad of where the arm is --send_action-->
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from offbeat.errors import DriverError, RobotError, StaleFrameError
from offbeat.robots.base import CameraSetup, RobotSetup
from offbeat.robots.models import MODELS
from offbeat.robots.moves import move_by_velocity
from offbeat.robots.registry import load
from offbeat.robots.vendor import checked
from offbeat.timing.realtime import raise_priority
from offbeat.types import FloatArray, Frame, RobotState

RATE_HZ = 100.0
"""How often a robot is read and sent a goal (Hz), where its bus is as fast."""
LEASH_RAD = 0.1
"""The furthest that a goal may be from where the arm is (rad)."""

_SMOOTHING_S = 0.03  # of velocities that are told from positions
_RAMP_SHARE = 0.3  # of the model's acceleration; servos are weaker than the arms of the models
_LEAVE_S = 2.0


def make_lerobot(setup: RobotSetup) -> LeRobotArm:
    """The robot that the function `setup.host` returns. Raises: DriverError when there is none that fits."""
    if not setup.host:
        raise DriverError(
            "The LeRobot driver needs a robot: say --robot-host MODULE:FUNCTION, the function that returns it."
        )
    return LeRobotArm(load(setup.host, "what --robot-host says")(), setup)


def make_lerobot_camera(setup: CameraSetup) -> LeRobotCamera:
    """The camera that the function of the source, lerobot:MODULE:FUNCTION, returns. Raises: DriverError."""
    return LeRobotCamera(load(setup.source.removeprefix("lerobot:"), "what --camera says")(), setup)


class LeRobotArm:
    """The first joints of a LeRobot robot, as many as the task's arm has. Implements `Robot`.

    What else it has (a gripper) is held where it is. Cameras belong to --camera: a robot that reads its own is as slow
    as they are.
    """

    def __init__(self, device: Any, setup: RobotSetup) -> None:
        """Connect and begin to follow. Raises: DriverError when the robot has too few joints or is not calibrated."""
        self._device, self._clock, self._hold_s = device, setup.clock, setup.hold_s
        model = MODELS[setup.arm]
        self._joints = model.joints
        self._limit_rad_s = model.velocity_limit_rad_s
        self._ramp_rad_s2 = _RAMP_SHARE * model.acceleration_limit_rad_s2
        keys = [key for key in device.action_features if key.endswith(".pos")]
        if len(keys) < self._joints:
            raise DriverError(
                f"The LeRobot robot has {len(keys)} joints ({', '.join(keys)}) and the task's arm {self._joints}: "
                "choose the arm it is with --env.robot panda (7) or ur5e (6)."
            )
        self._keys, self._held = keys[: self._joints], keys[self._joints :]
        if not device.is_connected:
            device.connect(calibrate=False)
        if not device.is_calibrated:
            raise DriverError("The LeRobot robot is not calibrated: run lerobot-calibrate first.")
        self._wanted, self._told_s = np.zeros(self._joints), setup.clock.now()
        self._error: Exception | None = None
        self._others: dict[str, float] = {}
        self._state = self._read(None)
        self._goal, self._speed = self._state.joint_rad.copy(), np.zeros(self._joints)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="offbeat-lerobot", daemon=True)
        self._thread.start()

    def read_state(self) -> RobotState:
        """Joint positions and velocities at the last reading. Raises: RobotError when the robot has failed."""
        if self._error is not None:
            raise RobotError(f"The LeRobot robot has failed: {self._error}") from self._error
        return self._state

    def command_velocity(self, joint_rad_s: FloatArray) -> FloatArray:
        """Ramp to this velocity (N,) rad/s, clipped to the model's limits, and hold it; returns what was sent.

        Raises: RobotError when it has another length or is not finite.
        """
        wanted = np.clip(checked(joint_rad_s, self._joints), -self._limit_rad_s, self._limit_rad_s)
        self._told_s, self._wanted = self._clock.now(), wanted
        return wanted

    def move_to(self, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float = 0.02) -> None:
        """Move to a joint position (N,) rad and stop. Raises: MoveTimeoutError when it did not arrive in time."""
        move_by_velocity(self, self._clock, joint_rad, timeout_s, tolerance_rad)

    def stop(self) -> None:
        """Ramp to a stand."""
        self._wanted = np.zeros(self._joints)

    def close(self) -> None:
        """End the thread and disconnect."""
        self._closing.set()
        self._thread.join(_LEAVE_S)
        self._device.disconnect()

    def _follow(self) -> None:
        """The thread: read, step the goal, send it."""
        raise_priority()  # where it is granted: as the thread beside it
        before_s = self._clock.now()
        try:
            while not self._closing.is_set():
                self._state = state = self._read(self._state)
                now_s = self._clock.now()
                step_s, before_s = now_s - before_s, now_s
                wanted = self._wanted if now_s - self._told_s < self._hold_s else np.zeros(self._joints)
                ramp = self._ramp_rad_s2 * step_s
                self._speed = self._speed + np.clip(wanted - self._speed, -ramp, ramp)
                goal = self._goal + self._speed * step_s
                self._goal = np.clip(goal, state.joint_rad - LEASH_RAD, state.joint_rad + LEASH_RAD)
                goals = dict(zip(self._keys, np.rad2deg(self._goal).tolist(), strict=True))
                self._device.send_action(goals | self._others)
                self._clock.sleep_until(now_s + 1 / RATE_HZ)
        except Exception as error:  # whatever the robot's library raises: `read_state` tells
            self._error = error

    def _read(self, before: RobotState | None) -> RobotState:
        """Joints now; velocities from the robot where it gives them, else from the positions before."""
        seen = self._device.get_observation()
        stamp_s = self._clock.now()
        if before is None:
            self._others = {key: float(seen[key]) for key in self._held}
        position = np.deg2rad([float(seen[key]) for key in self._keys])
        names = [f"{key.removesuffix('.pos')}.vel" for key in self._keys]
        if all(name in seen for name in names):
            return RobotState(position, np.deg2rad([float(seen[name]) for name in names]), stamp_s)
        if before is None:
            return RobotState(position, np.zeros(self._joints), stamp_s)
        passed_s = max(stamp_s - before.stamp_s, 1e-4)
        share = passed_s / (passed_s + _SMOOTHING_S)
        measured = (position - before.joint_rad) / passed_s
        return RobotState(position, before.joint_rad_s + share * (measured - before.joint_rad_s), stamp_s)


class LeRobotCamera:
    """The newest image of a LeRobot camera, cropped and shrunk to the task's size. Implements `Camera`."""

    def __init__(self, device: Any, setup: CameraSetup) -> None:
        """Connect and begin to read; an image is stamped when it arrives."""
        from offbeat.robots.webcam import fit

        self._device, self._clock = device, setup.clock
        self._size, self._fit = (setup.height, setup.width), fit
        self._frame: Frame | None = None
        self._trouble = "it has not given one yet."
        if not device.is_connected:
            device.connect()
        self._read: Callable[[], Any] = getattr(device, "async_read", device.read)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="offbeat-lerobot-camera", daemon=True)
        self._thread.start()

    def read_latest(self, max_age_s: float) -> Frame:
        """The newest image, (H, W, 3) uint8 RGB. Raises: StaleFrameError when it arrived over `max_age_s` ago."""
        frame = self._frame
        age_s = np.inf if frame is None else self._clock.now() - frame.captured_s
        if frame is None or age_s > max_age_s:
            raise StaleFrameError(
                f"The newest image of the LeRobot camera is {age_s:.3f} s old and {max_age_s:g} s is allowed: "
                f"{self._trouble}"
            )
        return frame

    def close(self) -> None:
        """End the thread and disconnect."""
        self._closing.set()
        self._thread.join(_LEAVE_S)
        self._device.disconnect()

    def _watch(self) -> None:
        """The thread: keep the newest image; a camera that fails may come back."""
        while not self._closing.is_set():
            try:
                image = np.asarray(self._read())
            except Exception as error:  # whatever the camera's library raises: `read_latest` tells
                self._trouble = f"{error}."
                self._closing.wait(1 / RATE_HZ)
                continue
            # The library gives RGB, and `fit` takes what OpenCV gives.
            self._frame = Frame(self._fit(np.ascontiguousarray(image[..., ::-1]), *self._size), self._clock.now())
            self._trouble = "it gives none any more."
