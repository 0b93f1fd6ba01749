"""Figure 3's worker processes on the wall clock: how they run, how they are watched and how they end.

    interaction process                                     worker process (spawn)
      main thread ---- board: stop, checkpoint wanted ----->  main thread: a stage when it is ready, else wait
        ^ check()
      supervisor  <--- board: a heartbeat every 0.1 s ------  heart: beats; ends the process when the parent has died
                  <--- pipe: ready, saved, or failed -------  main thread
                  <--- sentinel: the process has ended

Nobody here waits for a worker inside a cycle: the supervisor is a thread that looks ten times a second, and `check`
reads one attribute.
"""

from __future__ import annotations

import atexit
import logging
import math
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from offbeat.errors import WorkerError
from offbeat.schedules.shared import Board
from offbeat.timing.clock import Clock, Worker
from offbeat.timing.wall import WallClock

BEAT_S = 0.1
"""Time between two heartbeats, and between two looks at them (s)."""
STUCK_S = 0.8
"""Without a heartbeat for this long (s) a process counts as stuck: with a look's time it is noticed within a second."""
START_S = 120.0
"""The longest that a process may take to start (s): it loads its libraries, from a cold disk perhaps."""

_WAIT_S = 0.05  # the longest wait of an idle worker before it looks at the board again
_NICE = 5  # workers stand back where the interaction or the arm wants the core

_READY, _SAVED, _FAILED = "ready", "saved", "failed"  # kinds of messages through a worker's pipe

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What one worker process does, built inside it.

    workers: stages that run in turn, each whenever it is ready. wait: sleeps until there may be work again, for the
    given time (s) at most. save: writes a checkpoint; None where there is nothing to save.
    """

    workers: Sequence[Worker]
    wait: Callable[[float], object]
    save: Callable[[], None] | None = None


BuildJob = Callable[[Clock], Job]
"""Builds a job in its process, on a clock of the run's epoch; a partial of a function of a module, to be pickled."""


class Watched(Protocol):
    """A process that the supervisor watches beside its own workers: that of an arm or a camera."""

    @property
    def process(self) -> BaseProcess:
        """The process."""
        ...

    def beats(self) -> float:
        """Changes all the time while the process lives and gets on."""
        ...

    def last_words(self) -> tuple[str, str]:
        """Why it ended, as far as it said so: a sentence or "", and a traceback or ""."""
        ...


class Supervisor:
    """Starts the worker processes, notices within a second when one is dead or stuck, and ends them all."""

    remedy: str
    """The end of every message: what to do."""

    def __init__(
        self, board: Board, epoch_s: float, jobs: Mapping[str, BuildJob], on_failure: Callable[[], object]
    ) -> None:
        """board: shared by all. epoch_s: of the run's clock. jobs: one process each, by name.

        on_failure: called once, from the supervisor's thread, as soon as something is wrong: stops the robot.
        """
        self._board, self._on_failure, self.remedy = board, on_failure, "Start it again."
        self._failure: WorkerError | None = None
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._saved = 0
        context = multiprocessing.get_context("spawn")
        self._seats: list[_Seat] = []
        for place, (name, build) in enumerate(jobs.items()):
            ours, theirs = context.Pipe(duplex=False)
            arguments = (place, build, board, epoch_s, theirs)
            process = context.Process(target=_run_worker, name=name, args=arguments, daemon=True)
            self._seats.append(_Seat(name, process, partial(board.beats, place), ours, theirs))
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    @property
    def processes(self) -> dict[str, BaseProcess]:
        """The processes watched, by name."""
        return {seat.name: seat.process for seat in self._seats}

    def start(self) -> None:
        """Start the workers and the watch over them."""
        # Workers do not end by the SIGTERM that multiprocessing sends those that are left when this process ends.
        atexit.register(self.close)
        for seat in self._seats:
            seat.start()
        self._thread.start()

    def watch(self, name: str, watched: Watched) -> None:
        """Watch a process, too, that was started elsewhere."""
        seat = _Seat(name, watched.process, watched.beats, last_words=watched.last_words)
        seat.ready = True
        self._seats = [*self._seats, seat]  # not in place: the thread goes through the list

    def wait_ready(self, check: Callable[[], None], timeout_s: float = START_S) -> None:
        """Wait until every worker has built its job. check: called ten times a second; may raise.

        Raises: WorkerError when one fails or is not ready in time.
        """
        deadline_s = time.monotonic() + timeout_s
        while not all(seat.ready for seat in self._seats):
            check()
            self.check()
            if time.monotonic() > deadline_s:
                late = ", ".join(seat.name for seat in self._seats if not seat.ready)
                raise WorkerError(f"Not started within {timeout_s:g} s: {late}. {self.remedy}")
            with self._changed:
                self._changed.wait(BEAT_S)

    def check(self) -> None:
        """Raises: WorkerError when a process is dead or stuck; costs nothing, for every cycle."""
        if self._failure is not None:
            raise self._failure

    def failure(self, timeout_s: float) -> WorkerError | None:
        """What is wrong, if that is found out within `timeout_s` (s): why a robot or a camera went silent."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None, timeout_s)
        return self._failure

    def save(self, timeout_s: float) -> bool:
        """Have a checkpoint written and wait for it; whether it is there."""
        wanted = self.request_save()
        with self._changed:
            # An arm's process, after a SIGTERM to the whole group, has ended before; the workers are all there.
            self._changed.wait_for(lambda: self._saved >= wanted or self._lost_a_worker(), timeout_s)
        return self._saved >= wanted

    def request_save(self) -> int:
        """Have a checkpoint written, without waiting for it; its number."""
        return self._board.request_checkpoint()

    def close(self, timeout_s: float = 5.0) -> None:
        """Ask the workers to end, and kill those that have not after `timeout_s` (s) or when one has failed."""
        if self._closing.is_set():
            return
        self._closing.set()
        atexit.unregister(self.close)
        self._board.stop()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        deadline_s = time.monotonic() + (timeout_s if self._failure is None else 0.0)
        for seat in self._seats:
            if seat.pipe is not None:
                seat.end(deadline_s)

    def _watch(self) -> None:
        looked_s = time.monotonic()
        while True:
            # A dead process or a message ends the wait at once.
            seats = [seat for seat in self._seats if not seat.fallen]
            wait([s.process.sentinel for s in seats] + [s.pipe for s in seats if s.pipe is not None], BEAT_S)
            if self._closing.is_set():
                return
            now_s = time.monotonic()
            for seat in seats:
                seat.hear()
                self._saved = max(self._saved, seat.saved)
                # Counted in looks, not by the clock: after the whole group was stopped (Ctrl-Z) nobody was stuck.
                trouble = seat.trouble(min(now_s - looked_s, 2 * BEAT_S))
                if trouble is not None:
                    seat.fallen = True
                    self._fail(WorkerError(f"The {seat.name} process {trouble}. {self.remedy}", seat.trace))
            looked_s = now_s
            with self._changed:
                self._changed.notify_all()

    def _lost_a_worker(self) -> bool:
        return any(seat.fallen and seat.pipe is not None for seat in self._seats)

    def _fail(self, failure: WorkerError) -> None:
        """Stop the robot; the first failure is the one that is told."""
        if self._failure is not None:
            return
        try:
            self._on_failure()
        except Exception:  # whatever it is, the reason to be told is the failure before it
            _logger.exception("The robot could not be told to stop.")
        self._failure = failure


class _Seat:
    """One process under watch: its pipe, and since when it is silent."""

    def __init__(
        self,
        name: str,
        process: BaseProcess,
        beats: Callable[[], float],
        pipe: Connection | None = None,
        theirs: Connection | None = None,
        last_words: Callable[[], tuple[str, str]] = lambda: ("", ""),
    ) -> None:
        self._last_words = last_words
        self.name, self.process, self.pipe = name, process, pipe
        self.ready, self.fallen, self.saved, self.trace = False, False, 0, ""
        self._beats, self._theirs = beats, theirs
        self._beat = math.nan
        self._silent_s = 0.0

    def start(self) -> None:
        if self._theirs is not None:
            self.process.start()
            self._theirs.close()  # the worker's end is the worker's alone: it closes when the worker dies

    def hear(self) -> None:
        """Read the messages that have come."""
        with suppress(EOFError, OSError):  # it has died: its sentinel tells
            while self.pipe is not None and self.pipe.poll():
                kind, content = self.pipe.recv()
                if kind == _READY:
                    self.ready = True
                elif kind == _SAVED:
                    self.saved = content
                else:
                    self.trace = content

    def trouble(self, since_s: float) -> str | None:
        """What is wrong with the process, at a look `since_s` (s) after the last."""
        if not self.process.is_alive():
            self.hear()  # what it said last
            said, trace = self._last_words()
            self.trace = self.trace or trace
            return _describe_end(self.process.exitcode) + (f": {said.rstrip('.')}" if said else "")
        beat = self._beats()
        self._silent_s = 0.0 if beat != self._beat or not self.ready else self._silent_s + since_s
        self._beat = beat
        return f"gave no sign of life for {self._silent_s:.1f} s" if self._silent_s >= STUCK_S else None

    def end(self, deadline_s: float) -> None:
        """Wait for the end of the process until `deadline_s` of the monotonic clock, then kill it."""
        assert self.pipe is not None
        if self.process.pid is not None:
            self.process.join(max(0.0, deadline_s - time.monotonic()))
            if self.process.is_alive():
                self.process.kill()  # also ends one that is stopped
                self.process.join()
            self.process.close()
        self.pipe.close()


def _describe_end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _run_worker(place: int, build: BuildJob, board: Board, epoch_s: float, pipe: Connection) -> None:
    """The main function of a worker process."""
    # Ctrl-C and SIGTERM go to the whole group: the parent stops the robot first, then asks for the end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(AttributeError, OSError):
        os.nice(_NICE)
    threading.Thread(target=_beat, args=(place, board), name="heart", daemon=True).start()
    try:
        clock = WallClock(epoch_s)
        job = build(clock)
        pipe.send((_READY, None))
        _work(job, board, clock, pipe)
    except BaseException:
        with suppress(OSError):
            pipe.send((_FAILED, traceback.format_exc()))
        os._exit(1)
    os._exit(0)  # all is saved, and taking down an interpreter with torch in it takes a second


def _work(job: Job, board: Board, clock: Clock, pipe: Connection) -> None:
    saved = 0
    while not board.stopped:
        wanted = board.checkpoint_requests
        if job.save is not None and wanted > saved:
            job.save()
            saved = wanted
            pipe.send((_SAVED, saved))
        if board.paused:
            time.sleep(_WAIT_S / 10)
            continue
        worked = False
        for worker in job.workers:
            if worker.ready():
                begin_s = clock.now()
                worker.start()
                worker.finish()
                board.add_stage(worker.stage, begin_s, clock.now())
                worked = True
        if not worked:
            job.wait(_WAIT_S)


def _beat(place: int, board: Board) -> None:
    """Beat until the parent dies, then end this process at once, whatever it is doing."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while not wait([parent.sentinel], BEAT_S):
        board.beat(place)
    os._exit(1)
