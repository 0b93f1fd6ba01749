"""A simulated arm, bag and wrist camera that do not wait.

The physics is integrated lazily up to `clock.now()` under the velocity the arm holds, so time spent thinking moves
the arm on either clock. The camera ticks at its own rate; an image can be read once its latency has passed, and shows
the scene as it was at its tick. Only images that are read are drawn.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import mujoco
import numpy as np

from offbeat.arms import ARMS
from offbeat.config import EnvConfig
from offbeat.errors import StaleFrameError
from offbeat.robots.base import SCENE_SIZE, Placement
from offbeat.robots.models import MODELS
from offbeat.robots.moves import move_by_velocity
from offbeat.robots.render import Renderer, make_renderer
from offbeat.robots.world import SceneConfig, build_model
from offbeat.timing.clock import Clock
from offbeat.types import FloatArray, Frame, ImageArray, RobotState

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
# Ramps leave a fifth of the arm's acceleration limits to what one joint's motion does to another.
_RAMP_SHARE = 0.8
# Snapshots kept for the camera: ten ticks, a third of a second at 30 Hz, cover any latency up to that.
_TICKS_KEPT = 10
# Where the bag lies (m) in a new world: in view, and on a slack thread.
_FIRST_BAG_M = np.array([0.70, 0.0])


class SimWorld:
    """The scene's state in time: arm, bag and thread, and what the camera's ticks have seen.

    clock: its `now()` is how far the physics goes. camera_rate_hz: ticks a second.
    """

    def __init__(self, clock: Clock, camera_rate_hz: float, scene: SceneConfig | None = None) -> None:
        self.scene = scene or SceneConfig()
        self.arm = MODELS[self.scene.robot]
        self._joints = self.arm.joints
        self.model = build_model(self.scene)
        self.data = mujoco.MjData(self.model)
        self._clock = clock
        self._rate_hz = camera_rate_hz
        # Physics steps and camera ticks are counted from here (s), so that a seeded reset repeats at any time.
        self._origin_s = clock.now()
        self._steps = 0
        # Velocities (n, N) rad/s of the ramp under way, one a physics step, and how many of them have been applied.
        self._path = np.zeros((0, self._joints))
        self._ramp_step = 0
        self._ramp = _RAMP_SHARE * self.arm.acceleration_limit_rad_s2 * self.scene.timestep_s
        # How far (n, N) rad/s a ramp has come after one step, two and so on, up to the longest there is.
        longest = math.ceil(2 * (self.arm.velocity_limit_rad_s / self._ramp).max())
        self._reach = self._ramp * np.arange(1, longest + 1)[:, None]
        self._next_tick = 0
        self._ticks: deque[tuple[int, FloatArray]] = deque(maxlen=_TICKS_KEPT)
        self._half_bag = self.scene.bag_size_m[2] / 2
        self.place(Placement(np.array(ARMS[self.scene.robot].first_rad), _FIRST_BAG_M, 0.0))

    def advance(self) -> None:
        """Integrate up to the clock."""
        goal, control = self._steps_until(self._clock.now()), self.data.ctrl
        if goal <= self._steps < self._next_tick_step():
            return
        while True:
            while self._next_tick_step() <= self._steps:
                self._ticks.append((self._next_tick, self.data.qpos.copy()))
                self._next_tick += 1
            if self._steps >= goal:
                return
            count = min(goal, self._next_tick_step()) - self._steps
            ramp = self._path[self._ramp_step : self._ramp_step + count]
            for joint_rad_s in ramp:
                control[:] = joint_rad_s
                mujoco.mj_step(self.model, self.data)
            if len(ramp) < count:
                mujoco.mj_step(self.model, self.data, count - len(ramp))
            self._ramp_step += len(ramp)
            self._steps += count

    def _steps_until(self, time_s: float) -> int:
        return math.floor((time_s - self._origin_s) / self.scene.timestep_s + 1e-6)

    def _next_tick_step(self) -> int:
        return math.floor(self._next_tick / self._rate_hz / self.scene.timestep_s + 1e-6)

    def newest_tick(self, before_s: float) -> tuple[float, FloatArray] | None:
        """When the camera's last tick no later than `before_s` was (s), and the positions (nq,) it caught."""
        last = math.floor((before_s - self._origin_s) * self._rate_hz + 1e-6)
        for tick, positions in reversed(self._ticks):
            if tick <= last:
                return self._origin_s + tick / self._rate_hz, positions
        return None

    def hold(self, joint_rad_s: FloatArray) -> None:
        """Ramp to this joint velocity (N,) rad/s and hold it."""
        self.advance()
        change = np.asarray(joint_rad_s, float) - self.data.ctrl
        steps = math.ceil(float((np.abs(change) / self._ramp).max()) - 1e-9)
        reach = self._reach[:steps]
        self._path = self.data.ctrl + np.minimum(np.maximum(change, -reach), reach)
        self._ramp_step = 0

    def joints(self) -> tuple[FloatArray, FloatArray]:
        """Joint positions (N,) rad and velocities (N,) rad/s at the clock's time."""
        self.advance()
        return self.data.qpos[: self._joints].copy(), self.data.qvel[: self._joints].copy()

    def bag_m(self) -> FloatArray:
        """Centre of the bag (3,) m at the clock's time."""
        self.advance()
        return self.data.body("bag").xpos.copy()

    def restart(self) -> None:
        """Count physics steps and camera ticks from now on, as a new world would."""
        self._origin_s = self._clock.now()

    def place(self, placement: Placement) -> None:
        """Put arm and bag at rest where told, now; the time since the last advance never happened for them."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[: self._joints] = placement.joint_rad
        yaw = placement.bag_yaw_rad / 2
        self.data.qpos[self._joints :] = [*placement.bag_xy_m, self._half_bag, math.cos(yaw), 0.0, 0.0, math.sin(yaw)]
        mujoco.mj_forward(self.model, self.data)
        self._path, self._ramp_step = np.zeros((0, self._joints)), 0
        now = self._clock.now()
        self._steps = self._steps_until(now)
        self._next_tick = math.floor((now - self._origin_s) * self._rate_hz + 1e-6) + 1
        self._ticks.clear()
        for tick in range(self._next_tick - _TICKS_KEPT, self._next_tick):
            self._ticks.append((tick, self.data.qpos.copy()))

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what happens next, as plain arrays and numbers."""
        state = np.zeros(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return {
            "physics": state,
            "origin_s": self._origin_s,
            "steps": self._steps,
            "path": self._path[self._ramp_step :].copy(),
            "next_tick": self._next_tick,
            "ticks": [(tick, qpos.copy()) for tick, qpos in self._ticks],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        mujoco.mj_setState(self.model, self.data, np.asarray(state["physics"]), _STATE)
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_setState(self.model, self.data, np.asarray(state["physics"]), _STATE)
        self._steps, self._next_tick = int(state["steps"]), int(state["next_tick"])
        self._path, self._ramp_step = np.array(state["path"]), 0
        self._origin_s = float(state["origin_s"])
        self._ticks = deque(((int(t), np.array(q)) for t, q in state["ticks"]), maxlen=_TICKS_KEPT)


class SimRobot:
    """The arm of a `SimWorld`, driven by joint velocities through the arm's own limits. Implements `Robot`."""

    def __init__(self, world: SimWorld, clock: Clock) -> None:
        self._world, self._clock = world, clock

    def read_state(self) -> RobotState:
        """Joint positions and velocities now."""
        position, velocity = self._world.joints()
        return RobotState(position, velocity, self._clock.now())

    def command_velocity(self, joint_rad_s: FloatArray) -> FloatArray:
        """Ramp to this velocity (N,) rad/s, clipped to the arm's limits, and hold it; returns what was sent."""
        limit_rad_s = self._world.arm.velocity_limit_rad_s
        sent = np.minimum(np.maximum(joint_rad_s, -limit_rad_s), limit_rad_s)
        self._world.hold(sent)
        return sent

    def move_to(self, joint_rad: FloatArray, timeout_s: float, tolerance_rad: float = 0.02) -> None:
        """Move to a joint position (N,) rad and stop. Raises: MoveTimeoutError when it did not arrive in time."""
        move_by_velocity(self, self._clock, joint_rad, timeout_s, tolerance_rad)

    def stop(self) -> None:
        """Ramp to a stand."""
        self._world.hold(np.zeros(self._world.arm.joints))


class SimCamera:
    """A view of a `SimWorld` with a rate and a latency of its own. Implements `Camera`."""

    def __init__(
        self, world: SimWorld, clock: Clock, latency_s: float, height: int, width: int, renderer: str = "rays"
    ) -> None:
        self._world, self._clock, self._latency_s = world, clock, latency_s
        self._data = mujoco.MjData(world.model)
        self._renderer: Renderer = make_renderer(renderer, world.model, "wrist", height, width, hide_arm=True)
        self.renderer = self._renderer.name
        self._drawn: Frame | None = None

    def read_latest(self, max_age_s: float) -> Frame:
        """The newest image that has arrived, (H, W, 3) uint8 RGB.

        Raises: StaleFrameError when its light was captured over `max_age_s` ago.
        """
        self._world.advance()
        now = self._clock.now()
        tick = self._world.newest_tick(now - self._latency_s)
        captured_s, positions = tick if tick is not None else (-math.inf, None)
        if positions is None or now - captured_s > max_age_s:
            raise StaleFrameError(
                f"The newest image is {now - captured_s:.3f} s old and {max_age_s:g} s is allowed: "
                "check the camera's rate, its latency and its cable."
            )
        if self._drawn is None or self._drawn.captured_s != captured_s:
            self._data.qpos[:] = positions
            mujoco.mj_kinematics(self._world.model, self._data)
            mujoco.mj_camlight(self._world.model, self._data)
            if self.renderer == "gl":
                mujoco.mj_comPos(self._world.model, self._data)
                mujoco.mj_tendon(self._world.model, self._data)
            self._drawn = Frame(self._renderer.render(self._data), captured_s)
        return self._drawn

    def forget(self) -> None:
        """Drop the cached image, after the scene was placed anew."""
        self._drawn = None

    def close(self) -> None:
        """Let go of the renderer."""
        self._renderer.close()


class SimRig:
    """A simulated arm and camera of one configuration. Implements `Rig`."""

    def __init__(self, config: EnvConfig, clock: Clock) -> None:
        self._world = SimWorld(clock, config.camera_rate_hz, SceneConfig(robot=config.robot))
        self._kind = config.renderer
        self._scene: Renderer | None = None
        self.robot = SimRobot(self._world, clock)
        self.camera = SimCamera(
            self._world, clock, config.camera_latency_s, config.height, config.width, config.renderer
        )

    def place(self, placement: Placement) -> None:
        """Put arm and bag at rest where told, now."""
        self._world.place(placement)
        self.camera.forget()

    def restart(self, placement: Placement) -> None:
        """`place`, in a world that counts its steps and ticks from now."""
        self._world.restart()
        self.place(placement)

    def render(self) -> ImageArray:
        """The second camera's view of the scene now, (360, 480, 3) uint8 RGB."""
        if self._scene is None:
            self._scene = make_renderer(self._kind, self._world.model, "scene", *SCENE_SIZE, hide_arm=False)
        self._world.advance()
        return self._scene.render(self._world.data)

    def state_dict(self) -> dict[str, Any]:
        """The world's state."""
        return self._world.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._world.load_state_dict(state)
        self.camera.forget()

    def close(self) -> None:
        """Stop the arm and close the renderers."""
        self.robot.stop()
        self.camera.close()
        if self._scene is not None:
            self._scene.close()
            self._scene = None
