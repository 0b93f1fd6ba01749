"""FrameReplay: the replay buffer of Figure 3, every camera image stored once.

Two rings. Every observation of an episode appends exactly one *row* (its newest image and its proprioception); every
transition points at the row of its next observation and says how far behind it the older images lie:

    rows         |  f7  |  f8  |  f9  |  f10 |  f11 |            one image and one proprioception each
                        \\____________________/
    transition           lags = (3, 2, 1, 0), row = 10           S + 1 images: stack [:-1], next stack [1:]

    first stack of an episode: its images are stored once however often they repeat, and images kept from the
    episode before are found again, so an episode of L transitions costs L + 1 rows.

Rows and transitions carry ever growing numbers; number n lives in slot n modulo the ring. A ring is longer than what
counts as live by a *margin*: what is written after a checkpoint never destroys what the checkpoint counts as live, and
a reader in another process is not overtaken while it gathers.

Counters live in allocated memory too and are written after the data they count, so whoever opens the same memory
(another process, or a run resumed from memory-mapped files) finds every committed transition and no half of one.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from offbeat.errors import OffbeatError, RunError
from offbeat.sampling import draw_numbers
from offbeat.types import Batch, FloatArray, ImageArray, Observation

Allocate = Callable[[str, tuple[int, ...], DTypeLike], NDArray[Any]]

# A pixel as one item, so that numpy moves three bytes at once out of a stack.
_PIXEL = np.dtype("V3")
_PIECE_BYTES = 4 << 20  # what a thread is worth waking for

# Places in the counter array; the row numbers of the newest observation's stack follow from _STACK on.
_ADDED, _FIRST, _ROWS, _STACK = range(4)


def zeros(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Allocate in this process's own memory; the name is not needed."""
    return np.zeros(shape, dtype)


def memory_map(directory: Path, readonly: bool = False) -> Allocate:
    """An allocator of files in `directory`, one a name; a file that is there is opened with what it holds.

    On a disk the files outlive the process, under /dev/shm they are shared memory. readonly: files that are there.
    Raises (when used): RunError when a file has another size or the disk has no room for it.
    """

    def allocate(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        directory.mkdir(parents=True, exist_ok=True)
        path, size = directory / f"{name}.bin", math.prod(shape) * np.dtype(dtype).itemsize
        if path.exists():
            if path.stat().st_size != size:
                raise RunError(f"{path} holds {path.stat().st_size} bytes, not the {size} of this run: it is damaged.")
            return np.memmap(path, dtype, "r" if readonly else "r+", shape=shape)
        free = shutil.disk_usage(directory).free
        if size > free:
            raise RunError(f"The replay needs {size / 1e9:.1f} GB in {directory}, which has {free / 1e9:.1f} GB free.")
        return np.memmap(path, dtype, "w+", shape=shape)

    return allocate


class FrameReplay:
    """Transitions of image stacks, each image stored once; implements TransitionSink.

    capacity: newest transitions that can be sampled. stack: S, images in an observation. height, width: pixels.
    allocate: (name, shape, dtype) -> array that holds zeros or what was stored there before.
    margin: transitions that may be added after a checkpoint without touching what it counts as live.
    return_steps: steps that a sampled transition spans, fewer where its episode ends or the newest is reached.
    discount: of one step, for the rewards of those steps.
    threads: cores that may gather the images of one batch.
    joints: N, numbers in an action; an observation has 3 N beside its image.
    sample_share: share of the transitions that may be sampled, 1e-3 to 1, spread evenly over time and each episode.
    episode_steps: transitions of a usual episode. Shorter episodes are right too, but their extra first images take
        room, so that fewer than `capacity` transitions may be live.
    """

    def __init__(
        self,
        capacity: int,
        stack: int,
        height: int,
        width: int,
        allocate: Allocate = zeros,
        *,
        margin: int = 0,
        episode_steps: int = 64,
        return_steps: int = 1,
        discount: float = 1.0,
        joints: int = 7,
        threads: int = 1,
        sample_share: float = 1.0,
    ) -> None:
        if min(capacity, stack, height, width, episode_steps, return_steps) < 1 or margin < 0:
            raise OffbeatError("A replay needs sizes and steps of 1 or more, and a margin of 0 or more.")
        self.return_steps = return_steps
        self._threads, self._pool = threads, ThreadPoolExecutor(max(1, threads - 1))
        self._share = sample_share
        self._steps = np.arange(return_steps)
        self._discounts = np.float32(discount) ** np.arange(return_steps + 1, dtype=np.float32)
        self.capacity, self.stack, self._image_shape = capacity, stack, (height, width, 3)
        # Rows that are live; then rows the margin may write, in the worst case of first stacks that share nothing.
        # No image is ever looked for more than 2 S rows back, so that a transition spans at most 3 S rows.
        self._live_rows = capacity + math.ceil(capacity / episode_steps) + 3 * stack
        self._spare_rows = margin + stack * (math.ceil(margin / episode_steps) + 1)
        rows, transitions = self._live_rows + self._spare_rows + stack, capacity + margin + 1
        self._margin = margin
        self._arrays: dict[str, NDArray[Any]] = {}

        def array(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
            self._arrays[name] = allocate(name, shape, dtype)
            return np.asarray(self._arrays[name])

        self._frames: ImageArray = array("frames", (rows, height * width * 3), np.uint8)
        self.frames = self._frames  # (R, H W 3), for who keeps a copy; frame number n lies in row n % R
        self._pixels = self._frames.view(_PIXEL)
        self._proprioception = array("proprioception", (rows, 3 * joints), np.float32)
        self._row = array("row", (transitions,), np.int64)
        self._lags = array("lags", (transitions, stack + 1), np.uint8)
        self._action = array("action", (transitions, joints), np.float32)
        self._reward = array("reward", (transitions,), np.float32)
        self._terminated = array("terminated", (transitions,), np.bool_)
        self._truncated = array("truncated", (transitions,), np.bool_)
        self._counters: NDArray[np.int64] = array("counters", (_STACK + stack,), np.int64)
        self._newest: ImageArray | None = None  # bytes of the newest observation's image while an episode runs
        # Bytes of an image that the next stack repeats one image (three bytes) further left; and a place to compare.
        self._repeated = np.tile(np.repeat(np.array([255, 0], np.uint8), [3 * stack - 3, 3]), height * width)[:-3]
        self._difference = np.empty_like(self._repeated)

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return self.added - int(self._counters[_FIRST])

    @property
    def added(self) -> int:
        """Transitions ever added."""
        return int(self._counters[_ADDED])

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return sum(array.nbytes for array in self._arrays.values())

    def begin_episode(self, observation: Observation) -> None:
        """Store the first observation of an episode.

        Its images, oldest to newest, are looked for among those of the newest stored observation (an environment may
        keep its stack over a reset) and among one another. Raises: OffbeatError on a wrong shape.
        """
        image = self._checked_bytes(observation)
        known = [row for row in self._stack_rows() if row >= int(self._counters[_ROWS]) - 2 * self.stack]
        fresh: list[NDArray[np.void]] = []  # images to append, in order
        next_row = int(self._counters[_ROWS])
        stack_rows: list[int] = []
        for position in range(self.stack):
            piece = image.view(_PIXEL)[position :: self.stack]
            is_newest = position == self.stack - 1
            # Row numbers never fall along a stack: then the oldest image of a transition ages in order.
            lowest = stack_rows[-1] if stack_rows else 0
            # The newest image carries this observation's proprioception, so it never shares an older episode's row.
            old = [] if is_newest else [row for row in reversed(known) if row >= lowest]
            match = next((row for row in old if _equal(piece, self._pixels[row % len(self._pixels)])), None)
            if match is None and fresh and _equal(piece, fresh[-1]):
                match = next_row + len(fresh) - 1
            if match is None:
                fresh.append(piece)
                match = next_row + len(fresh) - 1
            stack_rows.append(match)
        self._retire(next_row + len(fresh), self.added)
        for offset, piece in enumerate(fresh):
            self._pixels[(next_row + offset) % len(self._pixels)] = piece
        self._commit(stack_rows, observation)
        self._newest = image.copy()

    def add(
        self, action: FloatArray, reward: float, observation: Observation, terminated: bool, truncated: bool
    ) -> None:
        """Store a transition from the newest observation to `observation`; the last one of an episode included.

        action: (N,) as applied. Raises: OffbeatError before the first `begin_episode` or after the end of an episode,
        on a wrong shape, and on a stack that is not the one before shifted by one image.
        """
        if self._newest is None:
            raise OffbeatError("A transition was added outside an episode: call begin_episode first.")
        image = self._checked_bytes(observation)
        if not self._shifted(self._newest, image):
            raise OffbeatError("The stack of an observation is not the one before shifted by exactly one image.")
        row, number = int(self._counters[_ROWS]), self.added
        stack_rows = [*self._stack_rows(), row]
        self._retire(row + 1, number + 1)
        slot = number % len(self._row)
        self._pixels[row % len(self._pixels)] = image.view(_PIXEL)[self.stack - 1 :: self.stack]
        self._row[slot] = row
        self._lags[slot] = row - np.asarray(stack_rows)
        self._action[slot] = action
        self._reward[slot] = reward
        self._terminated[slot] = terminated
        self._truncated[slot] = truncated
        self._commit(stack_rows[1:], observation)
        self._counters[_ADDED] = number + 1
        self._newest = None if terminated or truncated else image.copy()

    def sample(self, rng: np.random.Generator, out: Batch) -> None:
        """Fill `out` with transitions drawn uniformly, with replacement, from those that are live.

        Images are gathered straight into `out.frames`, contiguous and made for `return_steps`, or named in `out.rows`.
        Raises: OffbeatError while there is nothing to sample.
        """
        first, added = int(self._counters[_FIRST]), self.added
        if added <= first:
            raise OffbeatError("The replay is empty: add a transition before sampling.")
        numbers = draw_numbers(rng, first, added, len(out.reward), self._share)
        begin = numbers % len(self._row)
        end = begin if self.return_steps == 1 else self._sum_rewards(numbers, added, out)
        rows = self._rows_of(begin, end)
        out.rows[:] = rows[: len(out.rows)]
        rows %= len(self._frames)
        if out.frames.size:
            frames = out.frames.reshape(rows.size, -1)
            assert np.shares_memory(frames, out.frames), "a batch must be contiguous"
            self._gather(rows.reshape(-1), frames)
        self._proprioception.take(rows[:, self.stack - 1], 0, out.proprioception, "clip")
        self._proprioception.take(rows[:, -1], 0, out.next_proprioception, "clip")
        self._action.take(begin, 0, out.action, "clip")
        self._terminated.take(end, 0, out.terminated, "clip")
        self._truncated.take(end, 0, out.truncated, "clip")
        if self.return_steps == 1:
            self._reward.take(begin, 0, out.reward, "clip")
            out.discount[:] = self._discounts[1]

    def _gather(self, rows: NDArray[np.int64], out: ImageArray) -> None:
        """Copy these rows of the store (R,) into `out` (R, bytes of an image), on as many threads as pay."""
        count = min(self._threads, 1 + out.nbytes // _PIECE_BYTES)
        edges = [len(rows) * k // count for k in range(count + 1)]
        parts: list[Any] = [(self._frames, rows[i:j], 0, out[i:j], "clip") for i, j in pairwise(edges)]
        take: Callable[..., Any] = np.take  # "clip": straight into `out`
        beside = [self._pool.submit(take, *part) for part in parts[1:]]
        take(*parts[0])
        for piece in beside:
            piece.result()

    def _sum_rewards(self, numbers: NDArray[np.int64], added: int, out: Batch) -> NDArray[np.int64]:
        """Write reward and discount of transitions over several steps; returns the slots of their last steps (B,)."""
        later = numbers[:, None] + self._steps
        slots = later % len(self._row)
        rows = self._row.take(slots)
        # Within an episode rows follow one another; a new episode leaves at least one row between.
        valid = (later < added) & (rows == rows[:, :1] + self._steps)
        count = valid.sum(axis=1)
        rewards = self._reward.take(slots) * valid
        np.matmul(rewards, self._discounts[:-1], out=out.reward)
        self._discounts.take(count, 0, out.discount, "clip")
        return slots[np.arange(len(slots)), count - 1]

    def _rows_of(self, begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the images of a batch: (B, S + 1) for one step, (B, 2 S) for several."""
        rows = self._row.take(begin)[:, None] - self._lags.take(begin, 0)
        if self.return_steps == 1:
            return rows
        last = self._row.take(end)[:, None] - self._lags.take(end, 0)
        return np.concatenate([rows[:, :-1], last[:, 1:]], axis=1)

    def flush(self) -> None:
        """Bring memory-mapped storage to the disk."""
        for array in self._arrays.values():
            if isinstance(array, np.memmap):
                array.flush()

    def state_dict(self) -> dict[str, list[int]]:
        """The counters, to be saved between episodes; the data stays in the storage."""
        return {"counters": self._counters.tolist()}

    def load_state_dict(self, state: dict[str, list[int]]) -> None:
        """Go back to saved counters: transitions added since are forgotten and an episode must begin.

        Raises: OffbeatError when the storage does not hold, or no longer holds, what the counters say.
        """
        saved = np.asarray(state["counters"], np.int64)
        if saved.shape != self._counters.shape:
            raise OffbeatError(f"The saved stacks hold {len(saved) - _STACK} images, those of the replay {self.stack}.")
        since_rows, since = int(self._counters[_ROWS] - saved[_ROWS]), int(self.added - saved[_ADDED])
        if since < 0 or since_rows < 0:
            raise OffbeatError(f"The replay's storage holds {self.added} transitions, {saved[_ADDED]} were saved.")
        # One write more than is counted may have begun: it is why the rings are longer than live plus margin.
        spare_rows = len(self._frames) - self.stack - min(int(saved[_ROWS]), self._live_rows)
        spare = len(self._row) - 1 - int(saved[_ADDED] - saved[_FIRST])
        if since_rows > spare_rows or since > spare:
            raise OffbeatError(f"{since} transitions came after the checkpoint, above the margin of {self._margin}.")
        self._counters[:] = saved
        self._newest = None

    def _checked_bytes(self, observation: Observation) -> ImageArray:
        """The image of an observation, (H * W * 3 * S,) bytes in order."""
        image, (height, width, _) = observation["image"], self._image_shape
        if image.shape != (height, width, 3 * self.stack) or image.dtype != np.uint8:
            expected = (height, width, 3 * self.stack)
            raise OffbeatError(f"An observation's image is {image.dtype} {image.shape}: uint8 {expected} was expected.")
        return np.ascontiguousarray(image).reshape(-1)

    def _shifted(self, before: ImageArray, after: ImageArray) -> bool:
        """Whether a stack is the one before shifted by one image; three passes over whole arrays, as copies are."""
        np.bitwise_xor(after[:-3], before[3:], out=self._difference)
        np.bitwise_and(self._difference, self._repeated, out=self._difference)
        return not self._difference.any()

    def _stack_rows(self) -> list[int]:
        """Rows of the newest observation's images, oldest first; empty when nothing is stored."""
        rows = int(self._counters[_ROWS])
        return [row for row in self._counters[_STACK:].tolist() if row < rows]

    def _retire(self, rows: int, added: int) -> None:
        """Stop offering the transitions that will not be live once there are `rows` and `added`; before writing."""
        first, oldest_live = int(self._counters[_FIRST]), rows - self._live_rows
        while first < self.added:
            slot = first % len(self._row)
            if first >= added - self.capacity and self._row[slot] - self._lags[slot, 0] >= oldest_live:
                break
            first += 1
        self._counters[_FIRST] = first

    def _commit(self, stack_rows: list[int], observation: Observation) -> None:
        """Write the proprioception of the newest row, then count the rows up to it."""
        self._proprioception[stack_rows[-1] % len(self._frames)] = observation["proprioception"]
        self._counters[_STACK:] = stack_rows
        self._counters[_ROWS] = stack_rows[-1] + 1


def _equal(one: NDArray[np.void], other: NDArray[np.void]) -> bool:
    return one.tobytes() == other.tobytes()
