"""What the processes of Figure 3 hand to each other: batches in slots and whole, versioned weights.

SampleWorker --fill--> |slot|slot| --take--> UpdateWorker --publish--> WeightBuffer --load_newest--> actor
              ^------------ give back ------------'
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbeat.schedules.contracts import Policy
from offbeat.types import Batch


class BatchSlots:
    """A fixed set of batches that go round in order: free, being filled, filled, being used, free again.

    The memory is the caller's (plain, shared or pinned) and is written in place: no minibatch is ever copied or
    allocated. A slot is known by its index.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        """All of `batches` are free. Raises: ValueError when there are none."""
        if not batches:
            raise ValueError("BatchSlots got 0 batches: give at least 1, or 2 to sample while updating.")
        self.batches = tuple(batches)
        self._free = deque(range(len(batches)))
        self._filled: deque[int] = deque()

    @property
    def free(self) -> int:
        """Slots that can be filled."""
        return len(self._free)

    @property
    def filled(self) -> int:
        """Slots that can be used."""
        return len(self._filled)

    @property
    def upcoming(self) -> Batch | None:
        """The batch that would be taken next, if there is one."""
        return self.batches[self._filled[0]] if self._filled else None

    def claim(self) -> int:
        """Take the free slot that waited longest, to fill it. Raises: IndexError when none is free."""
        return self._free.popleft()

    def fill(self, slot: int) -> None:
        """The claimed `slot` holds a batch now."""
        self._filled.append(slot)

    def take(self) -> int:
        """Take the slot that was filled first, to use it. Raises: IndexError when none is filled."""
        return self._filled.popleft()

    def give_back(self, slot: int) -> None:
        """The taken `slot` has been used."""
        self._free.append(slot)

    def state_dict(self) -> dict[str, Any]:
        """Order of the slots, and the contents of those that are not free."""
        held = [slot for slot in range(len(self.batches)) if slot not in self._free]
        contents = {slot: {name: a.copy() for name, a in _arrays(self.batches[slot])} for slot in held}
        return {"free": list(self._free), "filled": list(self._filled), "contents": contents}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`, into the same memory."""
        self._free = deque(state["free"])
        self._filled = deque(state["filled"])
        for slot, arrays in state["contents"].items():
            for name, array in arrays.items():
                np.copyto(getattr(self.batches[int(slot)], name), array)


def _arrays(batch: Batch) -> list[tuple[str, NDArray[Any]]]:
    """The arrays of a batch that hold something, with their names."""
    arrays = [(f.name, getattr(batch, f.name)) for f in fields(Batch)]
    return [(name, array) for name, array in arrays if array.size]


class WeightBuffer:
    """The newest weights of the learner, whole and versioned, for one actor.

    Version n is the n-th publication; version 0 is before any, when the actor keeps the weights it was built with.
    """

    published_s: float
    """When the newest weights were published (s, run clock), NaN before the first."""

    def __init__(self) -> None:
        """A buffer with nothing published."""
        self.published_s = math.nan
        self._version = 0
        self._loaded = 0
        self._flat: NDArray[np.float32] | None = None

    def publish(self, flat: NDArray[np.float32], now_s: float) -> int:
        """Replace the weights by `flat` (n,), kept without a copy: never write to it again; return the version."""
        self._flat = flat
        self._version += 1
        self.published_s = now_s
        return self._version

    def load_newest(self, policy: Policy) -> int:
        """Put the newest weights into `policy` unless it has them already; return their version."""
        if self._loaded != self._version and self._flat is not None:
            policy.load_weights(self._flat)
            self._loaded = self._version
        return self._version

    def state_dict(self) -> dict[str, Any]:
        """The newest weights, their version and their time."""
        return {"version": self._version, "published_s": self.published_s, "flat": self._flat}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`; the next `load_newest` copies the weights whatever the actor has."""
        self._version, self.published_s, self._flat = state["version"], state["published_s"], state["flat"]
        self._loaded = 0
