"""Figure 3's sampling process and updating process, as the two stages that run beside the interaction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from offbeat.schedules.channels import BatchSlots, WeightBuffer
from offbeat.schedules.contracts import Learner, Replay
from offbeat.timing.clock import Clock
from offbeat.timing.profile import Stage


def allowed_updates(added: int, warmup_steps: int, max_updates_per_step: float) -> int:
    """Updates that may have been started once `added` transitions are stored: the cap times the steps since warm-up."""
    return max(0, math.floor(max_updates_per_step * (added - warmup_steps) + 1e-9))


class SampleWorker:
    """Fills free batch slots from the replay, never more batches than updates are allowed.

    The cap on updates is kept here: an update needs a batch, so no update can start that was not allowed, and no
    batch waits in a slot, growing old, that may not be used yet.
    """

    stage = Stage.SAMPLE

    def __init__(
        self,
        replay: Replay,
        slots: BatchSlots,
        rng: np.random.Generator,
        warmup_steps: int,
        max_updates_per_step: float = 1.0,
    ) -> None:
        """rng: the random stream of sampling, saved with the worker. warmup_steps: steps before the first update."""
        self._replay = replay
        self._slots = slots
        self._rng = rng
        self._warmup_steps = warmup_steps
        self._max_updates_per_step = max_updates_per_step
        self._started = 0
        self._slot: int | None = None

    def ready(self) -> bool:
        """Whether a slot is free and one more update is allowed."""
        return self._slots.free > 0 and self._started < allowed_updates(
            self._replay.added, self._warmup_steps, self._max_updates_per_step
        )

    def start(self) -> None:
        """Gather a minibatch of what the replay holds now into a free slot."""
        self._started += 1
        self._slot = self._slots.claim()
        self._replay.sample(self._rng, out=self._slots.batches[self._slot])

    def finish(self) -> None:
        """Hand the slot over to the updater."""
        assert self._slot is not None
        self._slots.fill(self._slot)
        self._slot = None

    def state_dict(self) -> dict[str, Any]:
        """Batches started, the slot being filled and the random stream, as plain data."""
        return {"started": self._started, "slot": self._slot, "rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._started, self._slot = state["started"], state["slot"]
        self._rng.bit_generator.state = state["rng"]


class UpdateWorker:
    """Turns filled batch slots into gradient updates and publishes the weights of each."""

    stage = Stage.UPDATE

    def __init__(
        self,
        learner: Learner,
        slots: BatchSlots,
        weights: WeightBuffer,
        clock: Clock,
        on_update: Callable[[Mapping[str, float]], None],
    ) -> None:
        """on_update: called with the metrics of each update when it is published (the ledger's `update`)."""
        self._learner = learner
        self._slots = slots
        self._weights = weights
        self._clock = clock
        self._on_update = on_update
        self._slot: int | None = None
        self._metrics: dict[str, float] = {}

    def ready(self) -> bool:
        """Whether a batch waits."""
        return self._slots.filled > 0

    def start(self) -> None:
        """Make one update from the batch that waited longest."""
        self._slot = self._slots.take()
        self._metrics = self._learner.update(self._slots.batches[self._slot], self._slots.upcoming)

    def finish(self) -> None:
        """Give the slot back and publish the new weights."""
        assert self._slot is not None
        self._slots.give_back(self._slot)
        self._slot = None
        self._weights.publish(self._learner.policy.weights(), self._clock.now())
        self._on_update(self._metrics)

    def state_dict(self) -> dict[str, Any]:
        """The slot in use and the metrics not yet published; the learner's own state is saved by its owner."""
        return {"slot": self._slot, "metrics": dict(self._metrics)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._slot, self._metrics = state["slot"], dict(state["metrics"])
