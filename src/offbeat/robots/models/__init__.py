"""Published numbers of arms, and their kinematics."""

from __future__ import annotations

from offbeat.arms import RobotName
from offbeat.robots.models.arm import ArmModel
from offbeat.robots.models.panda import PANDA
from offbeat.robots.models.ur5e import UR5E

MODELS: dict[RobotName, ArmModel] = {"panda": PANDA, "ur5e": UR5E}
"""Every arm by its name."""
