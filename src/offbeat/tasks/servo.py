"""A scripted policy for the visual-reacher: steer the mask's centre to the middle of the image, and descend.

It shows what the task allows: the yardstick for learned policies, and a check of the scene's calibration.
"""

from __future__ import annotations

import numpy as np

from offbeat.config import EnvConfig
from offbeat.robots.models import MODELS
from offbeat.tasks.visual_reacher import bag_mask
from offbeat.types import FloatArray, ImageArray, Observation

_GAIN_M_S = 0.35
_DESCENT_M_S = 0.25
_LEVEL_GAIN_RAD_S = 1.0
_DAMPING = 0.05
_MARGIN_M = 0.01
_FLOOR_M = 0.08


class ServoPolicy:
    """Acts on the newest image and the joint positions alone, like a learned policy."""

    def __init__(self, config: EnvConfig) -> None:
        self._config, self._arm = config, MODELS[config.robot]

    def act(self, observation: Observation) -> FloatArray:
        """The action (N,) for an observation."""
        joint_rad = observation["proprioception"][: self._arm.joints].astype(float)
        pose, jac = self._arm.kinematics(joint_rad)
        twist = self._twist(observation["image"][..., -3:], pose)
        joint_rad_s = jac.T @ np.linalg.solve(jac @ jac.T + _DAMPING**2 * np.eye(6), twist)
        limit = self._config.action_limit_rad_s
        joint_rad_s *= min(1.0, limit / np.abs(joint_rad_s).max())
        return (joint_rad_s if self._config.clip_action else joint_rad_s / limit).astype(np.float32)

    def _twist(self, image: ImageArray, pose: FloatArray) -> FloatArray:
        """Wanted flange velocity (6,): m/s, then rad/s, in the base frame."""
        mask = bag_mask(np.ascontiguousarray(image))
        rows, columns = np.nonzero(mask)
        velocity = np.zeros(3)
        height, width = mask.shape
        if len(rows):
            up = 0.5 - (rows.mean() + 0.5) / height
            right = (columns.mean() + 0.5) / width - 0.5
            # Image up lies in the flange's plane, a quarter turn about the flange's z before image right.
            x, y = self._arm.camera_up
            axis_up = (x * pose[:3, 0] + y * pose[:3, 1]) / np.hypot(x, y)
            axis_right = (x * pose[:3, 1] - y * pose[:3, 0]) / np.hypot(x, y)
            velocity = _GAIN_M_S * (up * axis_up + right * width / height * axis_right)
            velocity[2] = 0.0
            centred = np.hypot(up, right * width / height) < 0.35
            velocity[2] = -_DESCENT_M_S if centred and pose[2, 3] > _FLOOR_M + _MARGIN_M else 0.0
        level = np.cross(pose[:3, 2], [0.0, 0.0, -1.0])
        return np.concatenate([velocity, _LEVEL_GAIN_RAD_S * level])
