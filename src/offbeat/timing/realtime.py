"""What keeps other work out of the interaction's cycles: real-time priority, a core, locked memory, no collector.

None of the system's favours is required. Each is tried and says what came of it; what was granted lasts until the
process ends.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

PRIORITY = 50
"""Real-time priority that is asked for: above everything usual, below the kernel's own threads (1 to 99)."""

# From sys/mman.h on Linux: lock what is mapped now, each page once it is used (the replay's file may be huge).
_MCL_CURRENT, _MCL_ONFAULT = 1, 4

_OWN_THREADS = "/proc/self/task"
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # the C library has no name for this call
_SLICE_NS = 100_000  # the shortest that Linux grants


@dataclass(frozen=True, slots=True)
class Attempt:
    """A favour asked of the system: its name, whether it was granted, and what was found in one sentence."""

    name: str
    granted: bool
    found: str


def try_realtime(priority: int = PRIORITY, core: int | None = None) -> tuple[Attempt, ...]:
    """Ask for real-time priority, a core and locked memory for the thread that calls.

    Call it after the workers were started, which would inherit the core, and before the replay is opened, whose pages
    would be held in memory too. core: the core to stay on; by default the last this process may use.
    """
    return raise_priority(priority), stay_on_core(core), lock_memory()


def raise_priority(priority: int = PRIORITY) -> Attempt:
    """Ask for the FIFO scheduler at `priority` (1 to 99); processes started later do not inherit it."""
    name = "Real-time priority"
    if not hasattr(os, "SCHED_RESET_ON_FORK"):
        return Attempt(name, False, "not offered by this system")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError as error:
        return Attempt(name, False, f"{priority} was refused ({error.strerror}): allow it in limits.conf (rtprio)")
    return Attempt(name, True, f"{priority}, first in, first out")


@contextmanager
def lend_priority() -> Iterator[None]:
    """Ask for real-time priority for the threads that start within the block: as much as the calling thread has.

    For the loops of libraries: a thread begins as an ordinary one however urgent the thread is that started it. Where
    the calling thread is ordinary itself, they are given `PRIORITY`.
    """
    if not hasattr(os, "SCHED_RESET_ON_FORK"):
        yield
        return
    own = os.sched_getparam(0).sched_priority  # 0 for an ordinary thread
    before = set(os.listdir(_OWN_THREADS))
    try:
        yield
    finally:
        for thread in set(os.listdir(_OWN_THREADS)) - before:
            with suppress(OSError):  # refused, or it has ended
                policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
                os.sched_setscheduler(int(thread), policy, os.sched_param(own or PRIORITY))


@contextmanager
def keep_scheduler() -> Iterator[None]:
    """Put the scheduler of the calling thread back as it was, after a block that changes it.

    A library that raises the thread that calls it raises with it every thread and process that is started later.
    """
    if not hasattr(os, "SCHED_RESET_ON_FORK"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def stay_on_core(core: int | None = None) -> Attempt:
    """Ask to run on one core only, by default the last that this process may use."""
    name = "Processor core"
    if not hasattr(os, "sched_setaffinity"):
        return Attempt(name, False, "not offered by this system")
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) == 1:
        return Attempt(name, False, f"{usable[0]} is the only one there is, and the workers need it too")
    core = usable[-1] if core is None else core
    try:
        os.sched_setaffinity(0, {core})
    except OSError as error:
        return Attempt(name, False, f"{core} was refused ({error.strerror}): choose one of {usable}")
    return Attempt(name, True, f"{core} of {usable}")


def lock_memory() -> Attempt:
    """Ask that what this process has in memory now is never moved to the disk."""
    name = "Locked memory"
    try:
        mlockall = ctypes.CDLL(None, use_errno=True).mlockall
    except (AttributeError, OSError, TypeError):
        return Attempt(name, False, "not offered by this system")
    if mlockall(_MCL_CURRENT | _MCL_ONFAULT) != 0:
        reason = os.strerror(ctypes.get_errno())
        return Attempt(name, False, f"was refused ({reason}): allow it in limits.conf (memlock)")
    return Attempt(name, True, "all that is in use now")


def take_short_slices() -> bool:
    """Ask for the shortest time slices for the thread that calls, which nobody needs a right for.

    Returns False where that is refused, and for a thread that has real-time priority, which needs none and keeps it.

    Linux gives a thread that wakes the processor at once when its slice is shorter than that of whoever has it (from
    6.12 on), where it would let a learner finish some milliseconds of its own first. Source: sched_setattr(2).
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    size, policy, flags, nice, priority, deadline, period = 48, os.SCHED_OTHER, 0, os.nice(0), 0, 0, 0
    attributes = struct.pack("=IIQiIQQQ", size, policy, flags, nice, priority, _SLICE_NS, deadline, period)
    try:
        return ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0
    except (AttributeError, OSError, TypeError):
        return False


@contextmanager
def collect_between_episodes() -> Iterator[Callable[[], None]]:
    """Keep Python's cyclic garbage collector from running by itself; yields what to call between episodes instead.

    A collection walks through every container object, which takes tens of milliseconds in a process that has loaded
    torch. What exists on entry is set aside, so that the collections between episodes are short.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()

    def collect() -> None:
        gc.collect()

    try:
        yield collect
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
