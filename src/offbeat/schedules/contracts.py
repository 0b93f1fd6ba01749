"""What the schedules ask of the boxes they call; any object with these methods will do."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from offbeat.types import Batch, FloatArray, Observation

StepResult = tuple[Observation, float, bool, bool, dict[str, Any]]
"""Observation, reward, terminated, truncated, info."""


class Env(Protocol):
    """An environment of one action cycle a step, which can also be taken in two halves."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Bring the robot to a start and observe; takes the time it takes."""
        ...

    def send(self, action: FloatArray) -> None:
        """The command (N,) leaves now."""
        ...

    def receive(self) -> StepResult:
        """Wait for the end of the cycle and observe."""
        ...

    def step(self, action: FloatArray) -> StepResult:
        """`send`, then `receive`."""
        ...


class Policy(Protocol):
    """From observations to actions, with weights that can be replaced whole."""

    def act(self, observation: Observation, deterministic: bool = False) -> FloatArray:
        """An action (N,) in [-1, 1]."""
        ...

    def weights(self) -> NDArray[np.float32]:
        """All weights in one flat vector, a copy."""
        ...

    def load_weights(self, flat: NDArray[np.float32]) -> None:
        """Replace all weights."""
        ...


class Learner(Protocol):
    """The agent that learns, and the policy it makes."""

    @property
    def policy(self) -> Policy:
        """The policy with the learner's own weights."""
        ...

    def update(self, batch: Batch, upcoming: Batch | None = None) -> dict[str, float]:
        """One gradient update; returns its metrics. upcoming: the batch of the next update, if it is known."""
        ...


class TransitionSink(Protocol):
    """Where the interaction puts what it saw."""

    def begin_episode(self, observation: Observation) -> None:
        """The first observation of an episode."""
        ...

    def add(
        self, action: FloatArray, reward: float, observation: Observation, terminated: bool, truncated: bool
    ) -> None:
        """The action taken, and what came of it."""
        ...


class Replay(TransitionSink, Protocol):
    """A sink that can be sampled from."""

    @property
    def added(self) -> int:
        """Transitions ever added."""
        ...

    def sample(self, rng: np.random.Generator, out: Batch) -> None:
        """Fill `out` with transitions drawn uniformly."""
        ...


class WeightSource(Protocol):
    """Where the interaction gets weights from."""

    @property
    def published_s(self) -> float:
        """When the newest weights were published (s, run clock), NaN before the first."""
        ...

    def load_newest(self, policy: Policy) -> int:
        """Put the newest weights into `policy`; return their version. Never blocks, never torn."""
        ...
