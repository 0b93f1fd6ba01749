"""Your own robot and camera: any objects with these methods will do. This arm is a few numbers; put yours in.

cd examples
offbeat train --robot own_robot:make_robot --camera own_robot:make_camera --scale cpu --minutes 1 --out /tmp/own
"""

import numpy as np

from offbeat.robots.base import CameraSetup, RobotSetup
from offbeat.robots.moves import move_by_velocity
from offbeat.types import FloatArray, Frame, RobotState


class OwnRobot:
    def __init__(self, setup: RobotSetup) -> None:
        self.clock, self.joint_rad = setup.clock, np.array([0.0, 0.13, 0.02, -1.97, 0.03, 2.07, 0.8])
        self.speed, self.wanted, self.now_s = np.zeros(7), np.zeros(7), setup.clock.now()

    def read_state(self) -> RobotState:
        step_s, self.now_s = self.clock.now() - self.now_s, self.clock.now()
        self.speed = self.speed + np.clip(self.wanted - self.speed, -6.0 * step_s, 6.0 * step_s)  # 6 rad/s2
        self.joint_rad = self.joint_rad + self.speed * step_s
        return RobotState(self.joint_rad, self.speed, self.now_s)

    def command_velocity(self, joint_rad_s: FloatArray) -> FloatArray:
        self.wanted = np.clip(joint_rad_s, -2.0, 2.0)
        return self.wanted

    def move_to(self, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float = 0.02) -> None:
        move_by_velocity(self, self.clock, joint_rad, timeout_s, tolerance_rad)

    def stop(self) -> None:
        self.wanted = np.zeros(7)


class OwnCamera:
    def __init__(self, setup: CameraSetup) -> None:
        self.clock, self.image = setup.clock, np.zeros((setup.height, setup.width, 3), np.uint8)
        self.image[: setup.height // 3, : setup.width // 3] = 237, 33, 64  # something red to reach for

    def read_latest(self, max_age_s: float) -> Frame:
        return Frame(self.image, self.clock.now())


make_robot, make_camera = OwnRobot, OwnCamera
