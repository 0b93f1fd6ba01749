"""The arm of fake_arm.py, begun away from home: 0.1 rad in every joint."""

from __future__ import annotations

from fake_arm import FakeArm

from offbeat.robots.base import RobotSetup


class AwayArm(FakeArm):
    """Implements `Robot` and `Recoverable`."""

    def __init__(self, setup: RobotSetup) -> None:
        super().__init__(setup)
        self.joint_rad = self.joint_rad - 0.1


class MixedArm(AwayArm):
    """Its driver gives the joints in the wrong order."""

    def command_velocity(self, joint_rad_s):  # type: ignore[no-untyped-def]
        return super().command_velocity(joint_rad_s[::-1])
