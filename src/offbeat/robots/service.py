"""Processes that serve an arm or a camera: how they are started, asked, watched and ended. Both ends of the channel.

    who started it                                    the process (spawn)
      Service   ask("render"), close() -- requests -->  Line.take()
                answer, or what it raised  <---------   Line.answer(number, value)
                explain()     <--- trouble, its end --   Line.say(sentence), run_service
                .process, .beats()                      whatever it publishes in shared memory

A request is (number, name, *arguments), its answer (number, value); a value that is an exception is raised. Requests
belong outside of action cycles: who asks waits for the answer.
"""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol, TextIO

from offbeat.errors import OffbeatError, RobotError
from offbeat.timing.realtime import raise_priority, take_short_slices

READY, CRASHED, TROUBLE, LEAVE = 0, -1, -2, -3
"""Numbers of what nobody asked for. Answers: the service works; it does not any more, and this is its error or its
traceback; what is wrong just now, or "" when it is over. Of a request: leave, for this cause."""

_START_S = 60.0  # a process starts in a second, and asking a bad OpenGL driver may take half a minute
_ANSWER_S = 5.0
_LEAVE_S = 3.0  # more than a server takes to bring an arm to a stand
_SAY_S = 0.5
_SWITCH_S = 0.0005  # threads beside the loop give way after this long, a quarter of a physics step


class Serving(Protocol):
    """What works in the process; built there from arguments, the `Line` last."""

    def run(self) -> None:
        """Serve until `Line.take` says to leave."""
        ...


class Service:
    """A serving process, as seen by the one that started it. Implements `schedules.processes.Watched`."""

    process: SpawnProcess
    """The process."""
    beats: Callable[[], int]
    """Grows all the time while the process lives and gets on."""

    favour: str
    """What came of asking for real-time priority there, once it is ready; "" where it was not asked for."""

    def __init__(
        self,
        what: str,
        build: Callable[..., Serving],
        arguments: tuple[Any, ...],
        beats: Callable[[], int],
        realtime: bool = False,
    ) -> None:
        """Start it. what: "robot" or "camera", for messages. build: makes what works there, from arguments.

        realtime: whether to ask for real-time priority, where others want the cores and an arm does not wait.
        """
        self._what, self.beats, self.favour = what, beats, ""
        context = get_context("spawn")
        self._channel, theirs = context.Pipe()
        # Who waits for an answer and who watches may read the channel at the same time.
        self._reading = threading.RLock()
        self._number, self._answers = READY, dict[int, Any]()
        self._trouble, self._trace = "", ""
        self._error: OffbeatError | None = None
        # A daemon, so that a program that ends without close() ends it, by SIGTERM: it stops the arm first.
        self.process = context.Process(
            target=run_service,
            args=(build, arguments, theirs, os.getpid(), realtime),
            name=f"offbeat-{what}",
            daemon=True,
        )
        with _interrupt_blocked():
            self.process.start()
        theirs.close()

    def wait_ready(self) -> None:
        """Wait until it works. Raises: the OffbeatError for which it does not; RobotError with its traceback."""
        self.favour = self._answer(READY, _START_S)

    def ask(self, request: str, *arguments: Any) -> Any:
        """Its answer to a request. Raises: what the request raised there; RobotError when there is no answer."""
        self._number += 1
        self._answers.clear()  # of requests that took too long
        try:
            self._channel.send((self._number, request, *arguments))
        except OSError as error:
            raise RobotError(f"The {self._what} cannot be asked to {request}: {self.explain()}") from error
        return self._answer(self._number, _ANSWER_S)

    def explain(self, otherwise: str = "") -> str:
        """Why it does not do what it should, with its own error or traceback where it left one.

        otherwise: what else to say of a process that lives and has not said what is wrong.
        """
        self._hear()
        if self._error is not None:
            return str(self._error)
        if self._trace:
            return f"the process that serves it has failed.\n{self._trace}"
        # A process that has just been killed needs a moment to be known as dead.
        self.process.join(0.05)
        if not self.process.is_alive():
            return f"the process that serves it has ended with exit code {self.process.exitcode}."
        stuck = f"the process that serves it (pid {self.process.pid}) is stopped or kept from running."
        return self._trouble or otherwise or stuck

    def last_words(self) -> tuple[str, str]:
        """Why it ended, as far as it said so: a sentence or "", and a traceback or ""."""
        self._hear()
        return ("" if self._error is None else str(self._error)), self._trace

    def close(self, listens: bool = True) -> None:
        """End it, by force when it does not leave or does not listen; does nothing the second time."""
        with suppress(OSError):
            if listens:
                self._channel.send((LEAVE, "closed"))
                self.process.join(_LEAVE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self._hear()
        self._channel.close()

    def _answer(self, number: int, timeout_s: float) -> Any:
        deadline_s = time.monotonic() + timeout_s
        while number not in self._answers:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise RobotError(f"The {self._what} gave no answer within {timeout_s:g} s: {self.explain()}")
            wait([self._channel], left_s)
            if self._hear() and number not in self._answers:
                if number == READY and self._error is not None:
                    raise self._error
                raise RobotError(f"The {self._what} gave no answer: {self.explain()}")
        value = self._answers.pop(number)
        if isinstance(value, Exception):
            raise value
        return value

    def _hear(self) -> bool:
        """Read what has come; True when nothing will come any more."""
        with self._reading:
            try:
                while self._channel.poll():
                    number, value = self._channel.recv()
                    if number == TROUBLE:
                        self._trouble = value
                    elif number != CRASHED:
                        self._answers[number] = value
                    elif isinstance(value, OffbeatError):
                        self._error = value
                    else:
                        self._trace = value
            except (EOFError, OSError):
                return True
            return self._error is not None or bool(self._trace)


class Line:
    """The serving process's end of the channel, and what it must leave for."""

    def __init__(self, channel: Connection, parent: int) -> None:
        """parent: the process (id) that it does not outlive. SIGTERM is taken over."""
        self._channel, self._parent = channel, parent
        self._terminated, self._said, self._next_s = False, "", -math.inf
        self._favour = ""
        signal.signal(signal.SIGTERM, self._on_terminate)

    def ask_priority(self) -> None:
        """Ask the system for real-time priority, or else for short time slices, for the thread that calls."""
        attempt = raise_priority()
        self._favour = attempt.found
        if not attempt.granted:
            take_short_slices()

    def take(self) -> tuple[Any, ...] | None:
        """The next request, if one has come: (number, name, *arguments), or (LEAVE, cause). Never waits."""
        if self._terminated:
            return LEAVE, "terminated"
        try:
            if os.getppid() == self._parent:
                return self._channel.recv() if self._channel.poll() else None
        except (EOFError, ConnectionError):
            pass
        return LEAVE, "parent died"

    def ready(self) -> None:
        """The service works."""
        self.answer(READY, self._favour)

    def answer(self, number: int, value: Any = None) -> None:
        """Answer a request; an exception is raised by who asked."""
        with suppress(OSError):  # of a parent that has died: `take` tells
            self._channel.send((number, value))

    def say(self, trouble: str) -> None:
        """Say in a sentence what is wrong just now; "" when it is over. A sentence that changes is said now and then.

        Nobody may listen for seconds, and a channel full of sentences with ages in them would make this end wait.
        """
        now_s = time.monotonic()
        if trouble != self._said and (not trouble or now_s >= self._next_s):
            self._said, self._next_s = trouble, now_s + _SAY_S
            self.answer(TROUBLE, trouble)

    def _on_terminate(self, *_: object) -> None:
        self._terminated = True


class EventLog:
    """A file of JSON objects, one event a line.

    A thread writes it: neither a full disk nor one that is busy with a checkpoint may cost an arm its guard. What is
    left when the process ends is written first.
    """

    def __init__(self, path: Path | None) -> None:
        """path: the file to append to; None: nothing is kept. Raises: OSError when it cannot be opened."""
        self._file = None if path is None else path.open("a", buffering=1, encoding="utf-8")
        self._thread = ThreadPoolExecutor(1, "log")

    def write(self, event: str, **facts: float | str) -> None:
        """Write an event with its facts, times rounded to microseconds."""
        if self._file is not None:
            line = {name: round(value, 6) if isinstance(value, float) else value for name, value in facts.items()}
            self._thread.submit(self._append, self._file, json.dumps({"event": event} | line) + "\n")

    @staticmethod
    def _append(file: TextIO, line: str) -> None:
        with suppress(OSError):
            file.write(line)


def run_service(
    build: Callable[..., Serving], arguments: tuple[Any, ...], channel: Connection, parent: int, realtime: bool
) -> None:
    """The process. An error goes to the other side, with its traceback unless it says all, and ends it with code 1."""
    # These two go to every process of a terminal; what becomes of the arm then is for the parent to say.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_S)
    line = Line(channel, parent)
    try:
        server = build(*arguments, line)
        if realtime:
            line.ask_priority()
        gc.freeze()  # what lives as long as the process need not be looked through between two steps
        server.run()
    except OffbeatError as error:
        line.answer(CRASHED, error)
        raise SystemExit(1) from None
    except Exception:
        line.answer(CRASHED, traceback.format_exc())
        raise SystemExit(1) from None


@contextmanager
def _interrupt_blocked() -> Iterator[None]:
    """Keep SIGINT from a process from its first instant on; here it arrives a moment later."""
    resource_tracker.ensure_running()  # starting it on the way would unblock SIGINT
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
