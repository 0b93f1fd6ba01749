"""What processes share without locks: an arena of arrays, a cell for the newest record, a ring of rows, a doorbell.

Nothing here has a name in a file system, so nothing is left behind however processes die; and no process can hold
anything that another one needs, so none is held up by one that is slow, stopped or dead. All of them are given to
a process as arguments when it is spawned, and it sees the same memory.

Memory order. Two things are relied on: an aligned 8-byte number is loaded and stored whole, as every 64-bit processor
does it; and `fence` keeps what stands before it before what stands after it, for other processes too. Data are
written, then fenced, then counted; and read the other way round: count, fence, data.
"""

from __future__ import annotations

import mmap
import os
import select
import tempfile
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.context import assert_spawning
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from offbeat.errors import OffbeatError

Layout = Mapping[str, tuple[tuple[int, ...], DTypeLike]]
"""Shape and type of each array of an arena, by name."""

_TRIES = 100
_PIPE = 1 << 16  # the most that a pipe holds (bytes), so that one read empties it


def fence() -> None:
    """Let no load or store pass this point in either direction.

    x86 keeps the order that a sequence lock needs by itself, ARM does not. Python has no fence of its own, but the
    release of a lock keeps what came before it before, its acquisition what follows after, and no processor swaps
    these two: released, then acquired, a lock that nobody else has is a fence on both.
    """
    lock = threading.Lock()
    lock.acquire()
    lock.release()
    lock.acquire()


class Arena:
    """Arrays of zeros in memory that a spawned process shares when it is given the arena.

    Each array begins on a page of its own, so that it can be pinned and no two share a cache line:

        | counters, 24 B  ........ | frames, 33 MB ......................... | reward, 512 B .......... |
        0                          4096                                                        (in bytes)

    On Linux the memory belongs to no file (memfd) and is not bound by the size of /dev/shm; elsewhere it is that of a
    temporary file without a name. It is freed when the last process that has it ends.
    """

    def __init__(self, layout: Layout) -> None:
        """layout: the arrays. Raises: OffbeatError when the system does not give the memory."""
        self._layout = {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in layout.items()}
        size = sum(_pages(shape, dtype) for shape, dtype in self._layout.values())
        try:
            self._map(_open(size))
        except OSError as error:
            raise OffbeatError(f"The system gives no {size / 1e6:.1f} MB of shared memory ({error}).") from error

    def array(self, name: str) -> NDArray[Any]:
        """The array of this name; the same memory every time. Raises: KeyError when the layout has none."""
        return self._arrays[name]

    def _map(self, fd: int) -> None:
        self._fd = fd
        weakref.finalize(self, os.close, fd)
        memory = mmap.mmap(fd, 0)
        self._arrays: dict[str, NDArray[Any]] = {}
        offset = 0
        for name, (shape, dtype) in self._layout.items():
            self._arrays[name] = np.ndarray(shape, dtype, memory, offset)
            offset += _pages(shape, dtype)

    def __getstate__(self) -> dict[str, Any]:
        """For a process that is being spawned, and only then."""
        assert_spawning(self)
        return {"layout": self._layout, "fd": reduction.DupFd(self._fd)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In the spawned process: map the same memory."""
        self._layout = state["layout"]
        self._map(_take(state["fd"]))


class SeqLock:
    """The newest record of one writer, for any number of readers: always whole, and nobody waits for anybody.

    A sequence lock over two buffers. Record n lies in buffer n % 2, so the newest one stays readable while the next
    is written, or half written by a process that was killed there:

        begun      n + 1   stored before the buffer is written        | buffer 0 | buffer 1 |
        published  n       stored after it                              n          n + 1, half there

    A reader copies record n and then asks whether n + 2, the next one in the same buffer, has begun: if not, its copy
    is whole; if so, it tries again.
    """

    def __init__(self, dtype: DTypeLike, arena: Arena | None = None) -> None:
        """dtype: of the record, with named fields; larger fields as subarrays. arena: of the cell it is a copy of."""
        self.dtype = np.dtype(dtype)
        """Of the record."""
        if self.dtype.names is None:
            raise OffbeatError(f"A record needs named fields: {self.dtype} has none.")
        layout: Layout = {"begun": ((1,), np.int64), "published": ((1,), np.int64)}
        record: Layout = {"0": ((1,), self.dtype), "1": ((1,), self.dtype)}
        self._arena = arena or Arena({**layout, **record})
        self._begun, self._published = self._arena.array("begun"), self._arena.array("published")
        self._records = self._arena.array("0"), self._arena.array("1")

    def __reduce__(self) -> tuple[type[SeqLock], tuple[Any, ...]]:
        """For a process that is being spawned, and only then."""
        return SeqLock, (self.dtype, self._arena)

    @property
    def version(self) -> int:
        """Records written so far; 0 is the record of zeros before the first."""
        return int(self._published[0])

    def write(self, **fields: ArrayLike) -> int:
        """Publish a record of these fields, all of them; return its version. Only one process may write.

        Raises: OffbeatError when a field is missing or unknown.
        """
        if fields.keys() != set(self.dtype.names or ()):
            raise OffbeatError(f"A record has the fields {self.dtype.names}, not {tuple(fields)}.")
        version = self.version + 1
        self._begun[0] = version
        fence()
        record = self._records[version % 2][0]
        for name, value in fields.items():
            record[name] = value
        fence()
        self._published[0] = version
        return version

    def try_read(self, out: NDArray[Any]) -> int | None:
        """Copy the newest record into `out` (1,) and return its version; None when it was overtaken on the way.

        Then `out` holds nothing that may be used.
        """
        version = self.version
        fence()
        np.copyto(out.view(np.uint8), self._records[version % 2].view(np.uint8))
        fence()
        return version if self._begun[0] <= version + 1 else None

    def read(self) -> tuple[int, Any]:
        """Version and a copy of the newest record, fields by name. Takes the time of a few copies at the most.

        Raises: OffbeatError when a hundred copies were overtaken in a row: the writer makes no pause at all.
        """
        out = np.empty(1, self.dtype)
        for _ in range(_TRIES):
            version = self.try_read(out)
            if version is not None:
                return version, out[0]
        raise OffbeatError(f"A shared record was overwritten during each of {_TRIES} reads: write it less often.")


class Ring:
    """The rows that one process writes and another takes, in order; the writer never waits.

    Rows carry ever growing numbers, number n lies in place n modulo the places, and the count is stored after the row.
    Rows that are not taken in time are overwritten, the oldest first, and counted as lost. There is one place more
    than rows to keep: the one that may be half written.
    """

    def __init__(self, dtype: DTypeLike, size: int, arena: Arena | None = None) -> None:
        """dtype: of a row, with named fields. size: rows that are kept. arena: of the ring it is a copy of."""
        self.lost = 0
        """Rows that were overwritten before this process took them."""
        self._dtype, self._size, self._taken = np.dtype(dtype), size, 0
        self._arena = arena or Arena({"count": ((1,), np.int64), "rows": ((size + 1,), self._dtype)})
        self._count, self._rows = self._arena.array("count"), self._arena.array("rows")

    def __reduce__(self) -> tuple[type[Ring], tuple[Any, ...]]:
        """For a process that is being spawned, and only then; it takes from the first row on."""
        return Ring, (self._dtype, self._size, self._arena)

    def __len__(self) -> int:
        """Rows ever written."""
        return int(self._count[0])

    def append(self, *values: Any) -> None:
        """Write a row of these values, one a field. Only one process may write."""
        number = len(self)
        self._rows[number % len(self._rows)] = values
        fence()
        self._count[0] = number + 1

    def take(self) -> NDArray[Any]:
        """A copy of the rows (n,) written since the last call. Only one process may take."""
        written = len(self)
        fence()
        first = max(self._taken, written - self._size)
        rows = self._rows[np.arange(first, written) % len(self._rows)]
        fence()
        whole = min(written, max(first, len(self) - self._size))  # the rows before it may have been overwritten since
        self.lost += whole - self._taken
        self._taken = written
        return rows[whole - first :]


class Doorbell:
    """A binary semaphore without a name: one process rings, another waits for it, with a time-out.

    Rings that nobody waited for count as one, so whoever wakes looks at the shared counters for what there is to do,
    and looks before waiting: what is counted before it is rung is never missed. It is a pipe that one byte a ring
    goes through; a ring that finds it full has nothing to add.
    """

    def __init__(self) -> None:
        """A bell that has not rung."""
        self._take(*os.pipe())

    def ring(self) -> None:
        """Wake the process that waits, or the next one to wait; never blocks."""
        with suppress(BlockingIOError):
            os.write(self._writer, b"\0")

    def wait(self, timeout_s: float) -> bool:
        """Wait until it rings or has rung since the last wait; False when `timeout_s` (s) have passed."""
        if not self._poll.poll(max(0.0, timeout_s) * 1e3):
            return False
        try:
            return bool(os.read(self._reader, _PIPE))
        except BlockingIOError:  # another process that waits for the same bell was faster
            return False

    def _take(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._poll = select.poll()
        self._poll.register(reader, select.POLLIN)
        for fd in (reader, writer):
            os.set_blocking(fd, False)
            weakref.finalize(self, os.close, fd)

    def __getstate__(self) -> tuple[Any, Any]:
        """For a process that is being spawned, and only then."""
        assert_spawning(self)
        return reduction.DupFd(self._reader), reduction.DupFd(self._writer)

    def __setstate__(self, state: tuple[Any, Any]) -> None:
        """In the spawned process: the same bell."""
        self._take(*(_take(fd) for fd in state))


def _pages(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of an array, rounded up to whole pages."""
    size = max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _open(size: int) -> int:
    """A descriptor of `size` bytes of zeros that no file system knows."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("offbeat")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        os.ftruncate(fd, max(size, mmap.PAGESIZE))
    except OSError:
        os.close(fd)
        raise
    return fd


def _take(passed: Any) -> int:
    """The descriptor that was passed to this process; not passed on to the programs it starts."""
    fd: int = passed.detach()
    os.set_inheritable(fd, False)
    return fd
