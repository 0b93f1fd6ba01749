"""What the processes of Figure 3 hand to each other under the wall clock, in memory that they share.

SampleWorker --fill--> |slot|slot| --take--> UpdateWorker --publish--> SharedWeights --load_newest--> actor
      ^       ^------------ give back ------------'                                                     |
      '------------------------- Board.added, rung after every transition ------------------------------'

The hands of channels.py between processes, and the board where main process and workers tell each other how far they
are. No minibatch is pickled or copied on its way, no lock is taken, and whoever waits does so for a limited time.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offbeat.errors import OffbeatError
from offbeat.schedules.contracts import Policy
from offbeat.shared_memory import Arena, Doorbell, Ring, SeqLock, fence
from offbeat.timing.profile import Stage
from offbeat.types import Batch

LOSSES = ("critic_loss", "actor_loss", "temperature", "entropy")
"""The metrics of an update that a ledger keeps."""

_TRIES = 4
_ROWS = 1 << 14  # what the board keeps of each stage until it is taken: ten minutes at the paper's 25 updates a second


class StageRun(NamedTuple):
    """One run of a worker's stage: begin and end (s, run clock); LOSSES of an UPDATE, None for a SAMPLE."""

    stage: Stage
    begin_s: float
    end_s: float
    metrics: dict[str, float] | None


class SharedSlots:
    """BatchSlots between two processes: one claims and fills, the other takes and gives back.

    Slots go round in order, so four counts say everything, and each has one writer; count n stands for slot n % slots:

        given back <= taken <= filled <= claimed <= given back + slots
        '-- consumer ------'   '-- producer ---'

    A count is stored after what it counts, and a bell is rung after the count.
    """

    def __init__(
        self,
        size: int,
        stack: int,
        height: int,
        width: int,
        steps: int = 1,
        slots: int = 2,
        joints: int = 7,
        named: bool = False,
    ) -> None:
        """`slots` of a batch each, all free; give 2 to sample while updating.

        size: transitions in a batch. stack: S, images in an observation. height, width: pixels. steps: that a
        transition spans at most. joints: of the arm. named: batches name their frames instead of holding them.
        Raises: OffbeatError when there are no slots or no memory for them.
        """
        if slots < 1:
            raise OffbeatError(f"SharedSlots got {slots} slots: give at least 1, or 2 to sample while updating.")
        one = Batch.empty(size, stack, height, width, steps, joints, named)  # never touched, so it takes no memory
        arrays = {f.name: getattr(one, f.name) for f in fields(Batch)}
        layout = {f"{name} {slot}": (a.shape, a.dtype) for slot in range(slots) for name, a in arrays.items()}
        counts = {name: ((1,), np.int64) for name in ("claimed", "filled", "taken", "given_back")}
        self._arena, self._slots = Arena({**counts, **layout}), slots
        self._freed, self._ready = Doorbell(), Doorbell()
        self._view()

    def _view(self) -> None:
        array = self._arena.array
        self._claimed, self._filled = array("claimed"), array("filled")
        self._taken, self._given_back = array("taken"), array("given_back")
        names = [f.name for f in fields(Batch)]
        self.batches = tuple(Batch(**{name: array(f"{name} {i}") for name in names}) for i in range(self._slots))

    @property
    def free(self) -> int:
        """Slots that can be filled."""
        return _count(self._given_back) + self._slots - _count(self._claimed)

    @property
    def filled(self) -> int:
        """Slots that can be used."""
        return _count(self._filled) - _count(self._taken)

    @property
    def upcoming(self) -> Batch | None:
        """The batch that would be taken next, if there is one; for the process that takes."""
        return self.batches[_count(self._taken) % self._slots] if self.filled else None

    def wait_free(self, timeout_s: float) -> bool:
        """Wait until a slot can be filled; False when `timeout_s` (s) have passed."""
        return _wait(self._freed, lambda: self.free > 0, timeout_s)

    def wait_filled(self, timeout_s: float) -> bool:
        """Wait until a slot can be used; False when `timeout_s` (s) have passed."""
        return _wait(self._ready, lambda: self.filled > 0, timeout_s)

    def claim(self) -> int:
        """Take the next free slot, to fill it. Raises: IndexError when none is free."""
        if self.free < 1:
            raise IndexError("no slot is free")
        return _advance(self._claimed) % self._slots

    def fill(self, slot: int) -> None:
        """The claimed `slot` holds a batch now; slots are filled in the order in which they were claimed."""
        assert slot == _count(self._filled) % self._slots, "slots are filled in order"
        _advance(self._filled)
        self._ready.ring()

    def take(self) -> int:
        """Take the slot that was filled first, to use it. Raises: IndexError when none is filled."""
        if self.filled < 1:
            raise IndexError("no slot is filled")
        return _advance(self._taken) % self._slots

    def give_back(self, slot: int) -> None:
        """The taken `slot` has been used; slots are given back in the order in which they were taken."""
        assert slot == _count(self._given_back) % self._slots, "slots are given back in order"
        _advance(self._given_back)
        self._freed.ring()

    def __getstate__(self) -> dict[str, Any]:
        """For a process that is being spawned, and only then."""
        return {name: getattr(self, name) for name in ("_arena", "_slots", "_freed", "_ready")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In the spawned process: the same slots."""
        self.__dict__.update(state)
        self._view()


class SharedWeights:
    """WeightBuffer between processes: one publishes, the actor loads; never torn, and neither waits for the other.

    Version n is the n-th publication of the run; version 0 is before any, when the actor keeps the weights it was
    built with.
    """

    published_s: float
    """When the weights that were published or loaded last, here, had been published (s, run clock); NaN before any."""

    def __init__(self, size: int, cell: SeqLock | None = None) -> None:
        """size: numbers in the flat vector. cell: that of the weights it is a copy of."""
        self._size = size
        self._cell = cell or SeqLock([("version", "<i8"), ("published_s", "<f8"), ("flat", "<f4", (size,))])
        self._copy = np.zeros(1, self._cell.dtype)  # found to be whole before the policy gets it
        self._loaded = 0  # records of the cell; they begin at 1 in every process's life, versions go on after a resume
        self._version = int(self._cell.read()[1]["version"])
        self.published_s = math.nan

    def __reduce__(self) -> tuple[type[SharedWeights], tuple[Any, ...]]:
        """For a process that is being spawned, and only then."""
        return SharedWeights, (self._size, self._cell)

    def publish(self, flat: NDArray[np.float32], now_s: float) -> int:
        """Replace the weights by a copy of `flat` (n,); return the version. Only one process may publish."""
        self._version += 1
        self._cell.write(version=self._version, published_s=now_s, flat=flat)
        self.published_s = now_s
        return self._version

    def load_newest(self, policy: Policy) -> int:
        """Put the newest weights into `policy` unless it has them already; return the version that it has.

        When publications overtake the copy again and again, the policy keeps what it has until the next call.
        """
        for _ in range(_TRIES):
            if self._loaded == self._cell.version:
                break
            record = self._cell.try_read(self._copy)
            if record is not None:
                policy.load_weights(self._copy["flat"][0])
                self._loaded = record
                self._version, self.published_s = self._copy["version"][0].item(), self._copy["published_s"][0].item()
                break
        return self._version

    def state_dict(self) -> dict[str, Any]:
        """The newest weights, their version and their time, as those of a WeightBuffer."""
        count, record = self._cell.read()
        if not count:
            return {"version": 0, "published_s": math.nan, "flat": None}
        return {
            "version": int(record["version"]),
            "published_s": float(record["published_s"]),
            "flat": record["flat"].copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`, before the processes are spawned; the next `load_newest` copies the weights."""
        self._version, self.published_s = state["version"], state["published_s"]
        if state["flat"] is not None:
            self._cell.write(**state)


class _Number:
    """A number of the board, in shared memory; who sees it sees what its writer had written before it, too."""

    def __set_name__(self, owner: type[Board], name: str) -> None:
        self._name = name

    def __get__(self, board: Board, owner: type[Board]) -> int:
        return _count(board._arena.array(self._name))

    def __set__(self, board: Board, value: int) -> None:
        fence()
        board._arena.array(self._name)[0] = value


class Board:
    """What the main process and the workers of a run tell each other; every number has one writer, nobody waits.

    main process            stopped, paused, episode, checkpoint_requests; rings `added` and takes the stages
    each worker process     its beats
    the one that samples    its SAMPLEs
    the one that updates    its UPDATEs and their metrics
    """

    stopped = _Number()
    """1: workers end as soon as they see it."""
    paused = _Number()
    """1: workers start no new stage (running ones end)."""
    episode = _Number()
    """Number of the episode under way."""
    checkpoint_requests = _Number()
    """Checkpoints asked for so far."""

    def __init__(self, workers: int) -> None:
        """workers: worker processes, known by their place: 0, 1, ..."""
        self.added = Doorbell()
        """Rung after every transition that was added to the replay, and by `stop`; one process waits for it."""
        numbers = {name: ((1,), np.int64) for name, kind in vars(Board).items() if isinstance(kind, _Number)}
        self._arena = Arena({"beats": ((workers,), np.int64), **numbers})
        span = [("begin_s", "<f8"), ("end_s", "<f8")]
        self._samples = Ring(span, _ROWS)
        self._updates = Ring([*span, *((name, "<f8") for name in LOSSES)], _ROWS)
        self._metrics: Mapping[str, float] = {}
        self._sampled: deque[StageRun] = deque()
        self._updated: deque[StageRun] = deque()

    @property
    def samples(self) -> int:
        """Minibatches sampled so far."""
        return len(self._samples)

    @property
    def updates(self) -> int:
        """Gradient updates made so far."""
        return len(self._updates)

    def beat(self, place: int) -> None:
        """The worker process at this place is alive."""
        self._arena.array("beats")[place] += 1

    def beats(self, place: int) -> int:
        """How often the worker process at this place has said so."""
        return int(self._arena.array("beats")[place])

    def stop(self) -> None:
        """Ask the workers to end; they see it when they next look, at the latest when their wait times out."""
        self.stopped = 1
        self.added.ring()

    def request_checkpoint(self) -> int:
        """Ask for a checkpoint; return its number, from 1."""
        self.checkpoint_requests += 1
        return self.checkpoint_requests

    def on_update(self, metrics: Mapping[str, float]) -> None:
        """An update's metrics, kept until its stage is added; give this method to the UpdateWorker."""
        self._metrics = metrics

    def add_stage(self, stage: Stage, begin_s: float, end_s: float) -> None:
        """A SAMPLE or UPDATE ran from `begin_s` to `end_s` (s, run clock)."""
        if stage is Stage.UPDATE:
            self._updates.append(begin_s, end_s, *(self._metrics.get(name, math.nan) for name in LOSSES))
        else:
            self._samples.append(begin_s, end_s)

    def take_stages(self) -> list[StageRun]:
        """The stages added since the last call, in order of their ends; for the main process, between episodes.

        A SAMPLE comes with the UPDATE that used its batch: as many of the one as of the other, so that the n-th of
        all belongs to the n-th of all, also over a resume, which loses batches that were not used yet.
        """
        for begin_s, end_s in self._samples.take().tolist():
            self._sampled.append(StageRun(Stage.SAMPLE, begin_s, end_s, None))
        for begin_s, end_s, *losses in self._updates.take().tolist():
            self._updated.append(StageRun(Stage.UPDATE, begin_s, end_s, dict(zip(LOSSES, losses, strict=True))))
        pairs = min(len(self._sampled), len(self._updated))
        runs = [queue.popleft() for queue in (self._sampled, self._updated) for _ in range(pairs)]
        return sorted(runs, key=lambda run: run.end_s)


def _count(array: NDArray[np.int64]) -> int:
    """A count of another process, and from here on what it counts."""
    value = int(array[0])
    fence()
    return value


def _advance(array: NDArray[np.int64]) -> int:
    """Add one to a count of this process, after what it counts; return what it was."""
    value = int(array[0])
    fence()
    array[0] = value + 1
    return value


def _wait(bell: Doorbell, ready: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for a ring after which it is `ready`; a ring may be an old one."""
    deadline_s = time.monotonic() + timeout_s
    while not ready():
        left_s = deadline_s - time.monotonic()
        if left_s <= 0.0:
            return False
        bell.wait(left_s)
    return True
