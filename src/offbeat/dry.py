"""The same loops with nothing computed: an environment, a learner and a replay that only keep time and count.

A dry run answers what a schedule costs (steps, updates, response times, missed deadlines) in seconds, since under the
virtual clock the time of every stage comes from the profile, whether or not anything is rendered or learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from offbeat.config import EnvConfig
from offbeat.timing.clock import Clock, CycleGrid, Wake
from offbeat.types import Batch, FloatArray, Observation


def _constant(size: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros that cannot be written, since all steps share them."""
    array = np.zeros(size, dtype)
    array.flags.writeable = False
    return array


_WEIGHTS = _constant(1, np.float32)


def make_dry_batch() -> Batch:
    """The smallest batch there is, for loops that sample nothing into it."""
    return Batch.empty(1, 1, 1, 1)


class DryEnv:
    """`RealTimeEnv` in its timing alone: same resets, deadlines, lateness and stamps; reward 0, nothing to see."""

    def __init__(self, config: EnvConfig, clock: Clock) -> None:
        """config: cycle, episode, reset and camera times."""
        self._config = config
        self._clock = clock
        self._grid = CycleGrid(config.cycle_s)
        self._episode_steps = config.episode_steps
        self._step = 0
        self._observed_s = 0.0
        self._sent_s = 0.0
        joints = _constant(config.joints, np.float64)
        self._observation = Observation(
            image=_constant((1, 1, 3), np.uint8), proprioception=_constant(config.proprioception, np.float32)
        )
        self._robot_info = {
            "flange_m": _constant(3, np.float64),
            **dict.fromkeys(("joint_rad", "joint_rad_s", "sent_rad_s"), joints),
            "applied_action": _constant(config.joints, np.float32),
            **dict.fromkeys(("mask_share", "robot_s", "camera_s"), 0.0),
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Let `reset_s` pass and begin an episode. seed, options: taken for the interface's sake, without effect."""
        self._clock.sleep_until(self._clock.now() + self._config.reset_s)
        self._step = 0
        now_s = self._observed_s = self._sent_s = self._clock.now()
        self._grid.start(now_s)
        return self._observation, self._info(now_s, Wake(now_s, 0.0, 0.0))

    def send(self, action: FloatArray) -> None:
        """The command leaves now."""
        self._sent_s = self._clock.now()

    def receive(self) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Wait for the deadline of the cycle and observe."""
        info = self._info(self._observed_s, self._grid.wait(self._clock))
        self._observed_s = self._clock.now()
        self._step += 1
        return self._observation, 0.0, False, self._step >= self._episode_steps, info

    def step(self, action: FloatArray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One action cycle: `send`, then `receive`."""
        self.send(action)
        return self.receive()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: between two episodes a dry environment remembers nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""

    def _info(self, observed_s: float, wake: Wake) -> dict[str, Any]:
        # The newest image that has had time to arrive was captured at a whole tick of the camera.
        ticks = math.floor((observed_s - self._config.camera_latency_s) * self._config.camera_rate_hz + 1e-9)
        return {
            **self._robot_info,
            "captured_s": ticks / self._config.camera_rate_hz,
            "observed_s": observed_s,
            "sent_s": self._sent_s,
            "deadline_s": wake.deadline_s,
            "slack_s": wake.slack_s,
            "lateness_s": wake.lateness_s,
            "response_s": self._sent_s - observed_s,
        }


class DryPolicy:
    """Does not move."""

    def __init__(self, joints: int = 7) -> None:
        """joints: of the arm that stands still."""
        self._action = _constant(joints, np.float32)

    def act(self, observation: Observation, deterministic: bool = False) -> FloatArray:
        """No velocity (N,)."""
        return self._action

    def weights(self) -> NDArray[np.float32]:
        """One number that never changes."""
        return _WEIGHTS

    def load_weights(self, flat: NDArray[np.float32]) -> None:
        """Nothing to replace."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""


class DryLearner:
    """Counts updates."""

    def __init__(self, joints: int = 7) -> None:
        """A learner that has made no update, of an arm with so many joints."""
        self.policy = DryPolicy(joints)
        self.updates = 0

    def update(self, batch: Batch, upcoming: Batch | None = None) -> dict[str, float]:
        """Count one update; there are no metrics."""
        self.updates += 1
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The count."""
        return {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.updates = state["updates"]


class DryReplay:
    """Counts transitions."""

    def __init__(self, capacity: int) -> None:
        """capacity: transitions that a real one would hold."""
        self._capacity = capacity
        self.added = 0

    def __len__(self) -> int:
        """Transitions that could be sampled."""
        return min(self.added, self._capacity)

    def begin_episode(self, observation: Observation) -> None:
        """Nothing to keep."""

    def add(
        self, action: FloatArray, reward: float, observation: Observation, terminated: bool, truncated: bool
    ) -> None:
        """Count one transition."""
        self.added += 1

    def sample(self, rng: np.random.Generator, out: Batch) -> None:
        """Leave `out` as it is, and the random stream too."""

    def flush(self) -> None:
        """Nothing is stored."""

    def state_dict(self) -> dict[str, Any]:
        """The count."""
        return {"added": self.added}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.added = state["added"]
