"""What the visual-reacher asks of each arm: where its joints may be, and the two poses of a reset.

Plain data at the bottom of the house, for the agent (which scales joint positions by it), the safety filter, the task
and the simulated scene. Kinematics, inertias and the makers' own limits are in `robots/models`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RobotName = Literal["panda", "ur5e"]

Pose = tuple[float | tuple[float, float], ...]
"""A position (rad) for each joint, or the interval it is drawn from."""


@dataclass(frozen=True)
class Arm:
    """The task of one arm, base first.

    joint_lower_rad, joint_upper_rad: bounds of its joints. lift_rad: the pose that lifts and swings the bag; look_rad:
    the pose that looks at the table. first_rad: where a new simulated arm begins, looking at the table.
    bag_forward_m, bag_std_m: how far before the flange those two leave the bag on average, and its standard deviation
    forward and to the side, over 500 resets by moves in the simulated scene, half of them after episodes of the
    untrained policy and half after those of the scripted one.
    """

    joint_lower_rad: tuple[float, ...]
    joint_upper_rad: tuple[float, ...]
    lift_rad: Pose
    look_rad: Pose
    first_rad: tuple[float, ...]
    bag_forward_m: float
    bag_std_m: tuple[float, float]

    @property
    def joints(self) -> int:
        """Number of joints, N."""
        return len(self.joint_lower_rad)


ARMS: dict[RobotName, Arm] = {
    # The authors' own numbers.
    "panda": Arm(
        joint_lower_rad=(-0.5, 0.0, -0.5, -2.8, -0.4, 1.7, -0.9),
        joint_upper_rad=(0.5, 1.2, 0.5, -0.2, 0.4, 2.96, 0.9),
        lift_rad=((-0.1, 0.1), 0.0, 0.0, -1.6, 0.0, 1.6, 0.8),
        look_rad=(0.0, 0.13, 0.02, (-2.05, -1.9), 0.03, (2.0, 2.15), 0.8),
        first_rad=(0.0, 0.13, 0.02, -1.97, 0.03, 2.07, 0.8),
        bag_forward_m=0.150,
        bag_std_m=(0.044, 0.053),
    ),
    # Ours: flange and camera begin where the Panda's do, elbow up and away from singular poses.
    "ur5e": Arm(
        joint_lower_rad=(2.4, -2.1, 0.9, -2.8, -1.97, -0.9),
        joint_upper_rad=(3.4, -0.7, 2.5, -1.3, -1.17, 0.9),
        lift_rad=((2.8, 3.0), -1.4, 1.06, -1.23, -1.57, -0.24),
        look_rad=(2.93, -1.38, (1.5, 1.65), (-1.85, -1.7), -1.57, -0.21),
        first_rad=(2.93, -1.38, 1.58, -1.77, -1.57, -0.21),
        bag_forward_m=0.145,
        bag_std_m=(0.030, 0.070),
    ),
}
