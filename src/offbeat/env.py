"""`RealTimeEnv`: one action cycle a step, on a clock that does not wait for the agent.

A step is two halves: `send` lets the command leave, `receive` sleeps to the cycle's deadline and observes. `step` is
both; a schedule that learns while the arm moves puts its learning between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces

from offbeat.config import EnvConfig, make_config
from offbeat.errors import ActionError, ConfigError, MoveTimeoutError
from offbeat.robots.base import Rig
from offbeat.robots.models import MODELS
from offbeat.robots.models.arm import ArmModel
from offbeat.robots.sim import SimRig
from offbeat.safety import SafetyLimits, VelocityFilter
from offbeat.tasks.visual_reacher import VisualReacher
from offbeat.timing.clock import Clock, CycleGrid, VirtualClock, Wake
from offbeat.timing.profile import load_profile
from offbeat.types import FloatArray, Observation, RobotState

MAX_IMAGE_AGE_S = 0.2
_RESET_TRIES = 3


class RealTimeEnv(gymnasium.Env[Any, Any]):
    """The visual-reacher on an arm with a wrist camera.

    config: sizes, times and switches. clock: what time is. rig: the arm and its camera. seed: of the resets.

    Observation: see `types.Observation`. Action: (N,) in [-1, 1]; scaled to the joint speed limit, or with
    `clip_action` read as rad/s and clipped to it. Reward: Eq. 3 on the newest image. An episode is truncated after
    `episode_s`. `info` is described in docs/architecture.md.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012  gymnasium's own type

    def __init__(
        self,
        config: EnvConfig,
        clock: Clock,
        rig: Rig,
        seed: int = 0,
        render_mode: str | None = None,
        restart_clock: Callable[[], None] | None = None,
        stop_when_late: bool = False,
    ) -> None:
        """restart_clock: sets the clock back to 0 on a seeded reset, where the clock is the environment's alone.

        stop_when_late: what happens when a deadline was missed; True: the arm stops until the next command leaves.
        """
        self.config = config
        self.render_mode = render_mode
        self._restart_clock = restart_clock
        self._stop_when_late = stop_when_late
        self._clock = clock
        self._rig, self._robot, self._camera = rig, rig.robot, rig.camera
        box_m = np.asarray(SafetyLimits.box_lower_m), np.asarray(SafetyLimits.box_upper_m)
        colours = config.hsv_lower, config.hsv_upper
        self._task = VisualReacher(box_m if config.start_inside else None, config.robot, colours)
        # A policy that may ask for more than the paper's speed gets it, within every other limit.
        speed_rad_s = max(SafetyLimits.velocity_rad_s[0], config.action_limit_rad_s)
        self._filter = VelocityFilter(SafetyLimits.of(config.robot, speed_rad_s), config.cycle_s)
        self._arm, self._joints = MODELS[config.robot], config.joints
        self._grid = CycleGrid(config.cycle_s)
        self._rng = np.random.default_rng(seed)
        self._stack: list[Any] = []
        self._applied = np.zeros(self._joints, np.float32)
        self._sent: FloatArray = np.zeros(self._joints)
        self._state: RobotState = self._robot.read_state()
        self._step = 0
        self._captured_s = self._observed_s = self._sent_s = 0.0
        self._robot_s = self._camera_s = 0.0
        shape = (config.height, config.width, 3 * config.stack)
        extent = _extent(self._arm)
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, shape, np.uint8),
                "proprioception": spaces.Box(-extent, extent, extent.shape, np.float32),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (self._joints,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Bring arm and bag to a new start and observe. Raises: MoveTimeoutError when the arm does not get there."""
        super().reset(seed=seed)
        if seed is not None:
            # A seeded reset does not depend on what came before it.
            self._rng = np.random.default_rng(seed)
            self._stack.clear()
            if self._restart_clock is not None:
                self._restart_clock()
            self._rig.restart(self._task.placement(self._rng))
        if self.config.fast_reset:
            self._clock.sleep_until(self._clock.now() + self.config.reset_s)
            self._rig.place(self._task.placement(self._rng))
        else:
            self._reset_by_moves()
        self._filter.reset()
        self._applied[:] = 0.0
        self._sent[:] = 0.0
        self._step = 0
        self._grid.start(self._clock.now())
        if not self.config.keep_stack:
            self._stack.clear()
        observation, share = self._observe()
        start = Wake(self._observed_s, slack_s=0.0, lateness_s=0.0)
        return observation, self._info(share, start, response_s=0.0)

    def _reset_by_moves(self) -> None:
        for attempt in range(_RESET_TRIES):
            try:
                return self._task.reset(self._robot, self._rng)
            except MoveTimeoutError:
                if attempt == _RESET_TRIES - 1:
                    raise

    def send(self, action: FloatArray) -> None:
        """The command leaves now. Raises: ActionError unless the action is N finite numbers."""
        action = np.asarray(action, np.float32)
        if action.shape != (self._joints,) or not np.isfinite(action).all():
            raise ActionError(
                f"An action must be {self._joints} finite numbers in [-1, 1], and this one is {action.tolist()}."
            )
        self._applied = _clip(action, 1.0)
        limit = self.config.action_limit_rad_s
        wanted = _clip(self._applied, limit) if self.config.clip_action else self._applied * limit
        begin_s = self._clock.now()
        self._state = self._robot.read_state()
        self._sent = self._robot.command_velocity(self._filter.filter(wanted.astype(float), self._state))
        self._sent_s = self._clock.now()
        self._robot_s += self._sent_s - begin_s

    def receive(self) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Sleep to the deadline of the cycle and observe."""
        response_s = self._sent_s - self._observed_s
        wake = self._grid.wait(self._clock)
        if wake.missed and self._stop_when_late:
            self._robot.stop()
            self._filter.reset()
        self._step += 1
        # What the cycle that ends here answered and spent; observing begins the next one.
        answered = {
            "observed_s": self._observed_s,
            "captured_s": self._captured_s,
            "robot_s": self._robot_s,
            "camera_s": self._camera_s,
        }
        observation, share = self._observe()
        reward = self._task.reward(share, self.config.cycle_s)
        info = self._info(share, wake, response_s) | answered
        truncated = self._step >= self.config.episode_steps
        if truncated:
            self._robot.stop()
        return observation, reward, False, truncated, info

    def step(self, action: FloatArray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One action cycle: `send`, then `receive`."""
        self.send(action)
        return self.receive()

    def _observe(self) -> tuple[Observation, float]:
        self._observed_s = self._clock.now()
        self._state = self._robot.read_state()
        read_s = self._clock.now()
        frame = self._camera.read_latest(MAX_IMAGE_AGE_S)
        self._captured_s = frame.captured_s
        size = self.config.stack
        self._stack = [*self._stack, frame.image][-size:] if self._stack else [frame.image] * size
        proprioception = np.concatenate([self._state.joint_rad, self._state.joint_rad_s, self._applied])
        observation = Observation(image=cv2.merge(self._stack), proprioception=proprioception.astype(np.float32))
        share = self._task.share(frame.image)
        self._robot_s = read_s - self._observed_s
        self._camera_s = self._clock.now() - read_s
        return observation, share

    def _info(self, share: float, wake: Wake, response_s: float) -> dict[str, Any]:
        state = self._state
        return {
            "flange_m": np.array(self._arm.flange_position(state.joint_rad.tolist())),
            "joint_rad": state.joint_rad,
            "joint_rad_s": state.joint_rad_s,
            "sent_rad_s": self._sent.copy(),
            "applied_action": self._applied.copy(),
            "mask_share": share,
            "response_s": response_s,
            "lateness_s": wake.lateness_s,
            "slack_s": wake.slack_s,
            "deadline_s": wake.deadline_s,
            "captured_s": self._captured_s,
            "observed_s": self._observed_s,
            "sent_s": self._sent_s,
            "robot_s": self._robot_s,
            "camera_s": self._camera_s,
        }

    def render(self) -> Any:
        """The second camera's view of the scene now, (360, 480, 3) uint8 RGB."""
        return self._rig.render()

    def close(self) -> None:
        """Stop the arm and let go of the rig."""
        self._rig.close()

    def state_dict(self) -> dict[str, Any]:
        """What a run between two episodes needs to go on exactly."""
        return {
            "rig": self._rig.state_dict(),
            "rng": self._rng.bit_generator.state,
            "stack": [image.copy() for image in self._stack],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state saved between two episodes."""
        self._rig.load_state_dict(state["rig"])
        self._rng.bit_generator.state = state["rng"]
        self._stack = [np.asarray(image) for image in state["stack"]]


def _clip(values: FloatArray, limit: float) -> FloatArray:
    """Between -limit and limit; numpy.clip costs five times as much on a few numbers."""
    return np.minimum(np.maximum(values, -limit), limit)


def _extent(arm: ArmModel) -> FloatArray:
    """Bounds of the proprioception (3 N,): the arm's own limits in whole rad and rad/s, and 1 for the last action."""
    turn_rad = np.maximum(-arm.joint_lower_rad, arm.joint_upper_rad).max()
    extent = np.array([np.ceil(turn_rad), np.ceil(arm.velocity_limit_rad_s.max()), 1.0], np.float32)
    return np.repeat(extent, arm.joints)


def make_env(
    scale: str = "cpu",
    setting: str = "async-base",
    preset: str = "default",
    render_mode: str | None = None,
    **changes: Any,
) -> RealTimeEnv:
    """`gymnasium.make("offbeat/VisualReacher-v0", scale="cpu")`: simulated time passes by whole cycles.

    scale, setting, preset: as on the command line. changes: fields of EnvConfig. Raises: ConfigError.
    """
    config = make_config(setting, scale, preset).env
    unknown = set(changes) - {field.name for field in fields(EnvConfig)}
    if unknown:
        raise ConfigError(f"The environment has no field {', '.join(sorted(unknown))}: see offbeat.config.EnvConfig.")
    config = replace(config, **changes)
    clock = VirtualClock(load_profile("zero"), seed=0)
    restart_clock = partial(clock.load_state_dict, clock.state_dict())
    return RealTimeEnv(config, clock, SimRig(config, clock), render_mode=render_mode, restart_clock=restart_clock)
