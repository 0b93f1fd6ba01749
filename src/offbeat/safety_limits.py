"""What the velocity filter holds: limits of joints, of speed and of acceleration, and the flange's box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbeat.arms import ARMS, RobotName
from offbeat.errors import ConfigError
from offbeat.robots.models import MODELS
from offbeat.types import FloatArray


@dataclass(frozen=True)
class SafetyLimits:
    """What the filter holds; the defaults are those of the visual-reacher on a Panda. Raises: ConfigError."""

    robot: RobotName = "panda"
    """The arm of N joints, for its kinematics and its own limits."""
    joint_lower_rad: tuple[float, ...] = ARMS["panda"].joint_lower_rad
    """Lower joint bounds (N,) rad (the authors' task)."""
    joint_upper_rad: tuple[float, ...] = ARMS["panda"].joint_upper_rad
    """Upper joint bounds (N,) rad (the authors' task)."""
    velocity_rad_s: tuple[float, ...] = (0.2,) * 7
    """Joint velocity limits (N,) rad/s (the authors' action range)."""
    acceleration_rad_s2: tuple[float, ...] = (6.0,) * 7
    """Joint acceleration limits (N,) rad/s^2. A Panda's weakest joint can do 7.5 and the servo needs a reserve; at 6 a
    policy turns from one end of its range to the other in 67 ms, two cycles of 40 ms, and stops in one."""
    box_lower_m: tuple[float, ...] = (0.3, -0.3, 0.08)
    """Lower corner of the flange's box (3,) m (the paper's 40 x 60 x 30 cm, up to where the authors put it)."""
    box_upper_m: tuple[float, ...] = (0.7, 0.3, 0.4)
    """Upper corner of the flange's box (3,) m."""
    return_speed_m_s: float = 0.1
    """Speed inward, per face, of a flange that is outside the box (m/s; the paper)."""
    return_speed_rad_s: float = 0.1
    """Speed back of a joint that is outside its bounds (rad/s; the authors' 0.5 passes their own action range)."""

    @classmethod
    def of(cls, robot: RobotName, speed_rad_s: float = 0.2) -> SafetyLimits:
        """The visual-reacher's limits on an arm, with this limit on the speed of every joint (rad/s)."""
        arm = ARMS[robot]
        bounds = arm.joint_lower_rad, arm.joint_upper_rad
        return cls(robot, *bounds, (speed_rad_s,) * arm.joints, (6.0,) * arm.joints)

    def __post_init__(self) -> None:
        model = MODELS[self.robot]
        of_joints = ("joint_lower_rad", "joint_upper_rad", "velocity_rad_s", "acceleration_rad_s2")
        sizes = dict.fromkeys(of_joints, model.joints) | {"box_lower_m": 3, "box_upper_m": 3}
        for name, size in sizes.items():
            value = np.asarray(getattr(self, name), float)
            if value.shape != (size,) or not np.isfinite(value).all():
                raise ConfigError(f"{name} is {getattr(self, name)}: give {size} finite numbers.")
        _require_order("joint_lower_rad", self.joint_lower_rad, "joint_upper_rad", self.joint_upper_rad)
        _require_order("box_lower_m", self.box_lower_m, "box_upper_m", self.box_upper_m)
        _require_within("velocity_rad_s", self.velocity_rad_s, model.velocity_limit_rad_s)
        _require_within("acceleration_rad_s2", self.acceleration_rad_s2, model.acceleration_limit_rad_s2)
        for name in ("return_speed_m_s", "return_speed_rad_s"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: use a speed above 0 and at most 1.")


def _require_order(low_name: str, low: tuple[float, ...], high_name: str, high: tuple[float, ...]) -> None:
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        if not a < b:
            raise ConfigError(f"{low_name}[{i}] is {a}, not below {high_name}[{i}] = {b}: swap or widen them.")


def _require_within(name: str, values: tuple[float, ...], most: FloatArray) -> None:
    for i, (value, limit) in enumerate(zip(values, most.tolist(), strict=True)):
        if not 0 < value <= limit:
            raise ConfigError(f"{name}[{i}] is {value}: use a value above 0 and at most the arm's own {limit:g}.")
