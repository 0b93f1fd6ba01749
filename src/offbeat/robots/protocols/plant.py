"""The arm behind a protocol server: the simulated one, driven by joint velocities a thousand times a second."""

from __future__ import annotations

from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from offbeat.arms import ARMS, RobotName
from offbeat.robots.models import MODELS
from offbeat.robots.world import SceneConfig, build_model
from offbeat.types import FloatArray

STEP_S = 0.001
"""Time of one step (s)."""


@lru_cache
def _model(robot: RobotName) -> mujoco.MjModel:
    """The scene's arm. Its controller knows of nothing that hangs on it: no thread, no contacts, and the bag floats."""
    model = build_model(SceneConfig(robot=robot, timestep_s=STEP_S))
    model.tendon_limited[:] = 0
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    model.body_gravcomp[model.body("bag").id] = 1.0
    return model


class Plant:
    """An arm of N joints at rest in its first pose; it goes at the velocities it is told, with no ramp of its own."""

    robot: RobotName
    """Whose it is."""

    def __init__(self, robot: RobotName) -> None:
        self.robot, self._joints = robot, MODELS[robot].joints
        self._model = _model(robot)
        self._data = mujoco.MjData(self._model)
        self._data.qpos[: self._joints] = ARMS[robot].first_rad
        mujoco.mj_forward(self._model, self._data)
        # Views of what MuJoCo writes, so that a step costs no allocation.
        self._q, self._dq = self._data.qpos[: self._joints], self._data.qvel[: self._joints]
        self._ddq = self._data.qacc[: self._joints]
        site = self._data.site("flange")
        self._position, self._rotation = site.xpos, site.xmat.reshape(3, 3)

    def step(self, joint_rad_s: FloatArray) -> None:
        """Go on by a millisecond at these joint velocities (N,) rad/s."""
        self._data.ctrl[:] = joint_rad_s
        mujoco.mj_step(self._model, self._data)

    def state(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Joint positions (N,) rad, velocities (N,) rad/s and accelerations (N,) rad/s2 now."""
        return self._q.copy(), self._dq.copy(), self._ddq.copy()

    def flange(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The flange's position (3,) m and rotation (3, 3) in the base frame now, by MuJoCo's own kinematics."""
        mujoco.mj_kinematics(self._model, self._data)  # a step leaves them where it began
        return self._position.copy(), self._rotation.copy()
