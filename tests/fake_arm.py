"""An arm and a camera of a few numbers, with faults that a test injects as files of a directory: the arm's host.

reflex      it brakes, and says so with its state, until it is recovered
blind       the same, without a state
refusal     it stands, and the next command is answered with a fault
stubborn    a reflex that cannot be recovered
lost        the connection is lost
silent      its states grow old
broken      its library raises something unheard of
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from offbeat.arms import ARMS
from offbeat.errors import RobotError, RobotFaultError, StaleFrameError
from offbeat.robots.base import CameraSetup, RobotSetup
from offbeat.robots.models import MODELS
from offbeat.robots.moves import move_by_velocity
from offbeat.types import FloatArray, Frame, RobotState

RAMP_RAD_S2, BRAKE_RAD_S2 = 6.0, 20.0


class FakeArm:
    """Implements `Robot` and `Recoverable`."""

    def __init__(self, setup: RobotSetup) -> None:
        self.clock, self.faults, arm = setup.clock, Path(setup.host), ARMS[setup.arm]
        self.joint_rad, self.limit_rad_s = np.array(arm.first_rad), MODELS[setup.arm].velocity_limit_rad_s
        self.speed, self.wanted, self.now_s = np.zeros(arm.joints), np.zeros(arm.joints), self.clock.now()

    def read_state(self) -> RobotState:
        if self._has("broken"):
            raise ZeroDivisionError("of all things")
        if self._has("lost"):
            raise RobotError("the connection to the controller was lost: check its cable.")
        faulty = self._has("reflex") or self._has("blind") or self._has("stubborn")
        ramp = BRAKE_RAD_S2 if faulty else RAMP_RAD_S2
        if not self._has("silent"):
            step_s, self.now_s = self.clock.now() - self.now_s, self.clock.now()
            wanted = np.zeros_like(self.wanted) if faulty else self.wanted
            self.speed = self.speed + np.clip(wanted - self.speed, -ramp * step_s, ramp * step_s)
            self.joint_rad = self.joint_rad + self.speed * step_s
        state = RobotState(self.joint_rad, self.speed, self.now_s)
        if faulty:
            raise RobotFaultError("joint_reflex", None if self._has("blind") else state)
        return state

    def command_velocity(self, joint_rad_s: FloatArray) -> FloatArray:
        if self._has("refusal"):
            raise RobotFaultError("command_refused")
        self.wanted = np.clip(joint_rad_s, -self.limit_rad_s, self.limit_rad_s)
        return self.wanted

    def move_to(self, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float = 0.02) -> None:
        move_by_velocity(self, self.clock, joint_rad, timeout_s, tolerance_rad)

    def stop(self) -> None:
        self.wanted = np.zeros_like(self.wanted)

    def recover(self) -> None:
        if self._has("stubborn"):
            raise RobotError("the arm cannot be recovered: its brakes are worn.")
        self.clock.sleep_until(self.clock.now() + 0.4)  # longer than a state may be old
        for name in ("reflex", "blind", "refusal"):
            (self.faults / name).unlink(missing_ok=True)

    def close(self) -> None:
        (self.faults / "closed").touch()

    def _has(self, fault: str) -> bool:
        return (self.faults / fault).exists()


class FakeCamera:
    """Implements `Camera`: grey images at the rate it is told."""

    def __init__(self, setup: CameraSetup) -> None:
        self.clock, self.rate_hz = setup.clock, setup.rate_hz
        self.image = np.full((setup.height, setup.width, 3), 128, np.uint8)

    def read_latest(self, max_age_s: float) -> Frame:
        tick_s = np.floor(self.clock.now() * self.rate_hz) / self.rate_hz
        return Frame(self.image, float(tick_s))


class SmallCamera(FakeCamera):
    """Gives images of another size than the task's."""

    def read_latest(self, max_age_s: float) -> Frame:
        return Frame(self.image[::2], self.clock.now())


class DarkCamera(FakeCamera):
    """Goes silent after 0.5 s, for half a second."""

    def __init__(self, setup: CameraSetup) -> None:
        super().__init__(setup)
        self.start_s = self.clock.now()

    def read_latest(self, max_age_s: float) -> Frame:
        if 0.5 < self.clock.now() - self.start_s < 1.0:
            raise StaleFrameError("the camera is unplugged.")
        return super().read_latest(max_age_s)
