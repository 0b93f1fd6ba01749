"""A Universal Robots controller to connect to: RTDE, scripts and dashboard of a simulated UR5e, with faults on demand.

    ur-rtde, unmodified                     30004   RTDE: recipes, registers, states 500 times a second (rtde.py)
      RTDEControlInterface  <-- TCP -->     30003   the script it uploads starts the program (ur_controller.py)
      RTDEReceiveInterface                  29999   dashboard (ur_dashboard.py)
      DashboardClient

The ports are fixed in the library, so several servers need an address each: 127.0.0.1, 127.0.0.2, ...
"""

from __future__ import annotations

import math
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from offbeat.robots.protocols import rtde, ur_dashboard
from offbeat.robots.protocols.plant import Plant
from offbeat.robots.protocols.ur_controller import SOFTWARE, STEP_S, Controller

SCRIPT_PORT = 30003
DELAY_S = 0.05
"""How late every package comes, both ways, in the fault "delay" (s)."""

_LATE_S = 0.02  # a process that was held up for longer than this (s) skips the time, which nobody is to blame for
_BACKLOG_BYTES = 1 << 17  # a client that leaves more than this unread is hung up on, as by the real controller
_END = re.compile(rb"^end\s*$", re.MULTILINE)  # of the program: what is within it is indented


@dataclass
class Network:
    """What lies between the controller and its clients. delay_s: of every package. dead: nothing gets through."""

    delay_s: float = 0.0
    dead: bool = False


class Connection:
    """One client's socket; it never waits.

    arrived: bytes that the client sent and nobody has taken yet. open: whether it still is.
    """

    def __init__(self, link: socket.socket, network: Network) -> None:
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link, self._network = link, network
        self.arrived, self.open = bytearray(), True
        self._coming: deque[tuple[float, bytes]] = deque()
        self._going: deque[tuple[float, bytes]] = deque()
        self._unsent = bytearray()

    def pump(self, now_s: float) -> None:
        """Receive and send what can be received and sent now (s)."""
        if self._network.dead or not self.open:
            return
        try:
            with suppress(BlockingIOError):
                while data := self._link.recv(1 << 16):
                    self._coming.append((now_s + self._network.delay_s, data))
                self.close()
                return
            while self._coming and self._coming[0][0] <= now_s:
                self.arrived += self._coming.popleft()[1]
            while self._going and self._going[0][0] <= now_s:
                self._unsent += self._going.popleft()[1]
            with suppress(BlockingIOError):
                while self._unsent:
                    del self._unsent[: self._link.send(self._unsent)]
        except OSError:  # it hung up
            self.close()
        if len(self._unsent) > _BACKLOG_BYTES:
            self.close()

    def send(self, data: bytes, now_s: float) -> None:
        """Send bytes at the next `pump` when there is no delay; what a dead network is given is lost."""
        if not self._network.dead:
            self._going.append((now_s + self._network.delay_s, data))

    def close(self) -> None:
        """Hang up."""
        self.open = False
        self._link.close()


class _Session(Protocol):
    """What is said on one connection."""

    connection: Connection

    def listen(self, now_s: float) -> None:
        """Take what arrived, and answer."""
        ...

    def publish(self, values: Mapping[str, Sequence[Any]], now_s: float) -> None:
        """Send what is sent every period."""
        ...


class _Silent:
    """A session that sends nothing by itself."""

    def publish(self, values: Mapping[str, Sequence[Any]], now_s: float) -> None:
        """Nothing."""


class _DashboardSession(_Silent):
    def __init__(self, connection: Connection, controller: Controller, now_s: float) -> None:
        self.connection, self._controller = connection, controller
        connection.send(f"{ur_dashboard.GREETING}\n".encode(), now_s)

    def listen(self, now_s: float) -> None:
        while b"\n" in self.connection.arrived:
            line, _, rest = self.connection.arrived.partition(b"\n")
            self.connection.arrived = rest
            reply = ur_dashboard.answer(self._controller, line.decode("utf-8", "replace"))
            self.connection.send(f"{reply}\n".encode(), now_s)


class _ScriptSession(_Silent):
    def __init__(self, connection: Connection, controller: Controller) -> None:
        self.connection, self._controller = connection, controller

    def listen(self, now_s: float) -> None:
        del now_s
        if _END.search(self.connection.arrived):
            self.connection.arrived.clear()
            self._controller.play()


class _RtdeSession:
    def __init__(self, connection: Connection, controller: Controller, written: dict[str, Connection]) -> None:
        """written: who writes each input field; the session enters its own."""
        self.connection, self._controller, self._written = connection, controller, written
        self._outputs: rtde.Recipe | None = None
        self._inputs: dict[int, rtde.Recipe] = {}
        self._started, self._every, self._period = False, 1, 0

    def listen(self, now_s: float) -> None:
        try:
            for kind, payload in rtde.take_packages(self.connection.arrived):
                if kind == rtde.Kind.DATA:
                    self._controller.write(self._inputs[payload[0]].unpack(payload))
                else:
                    self.connection.send(rtde.package(kind, self._answer(kind, payload)), now_s)
        except (KeyError, IndexError, ValueError, struct.error):  # no client of ours
            self.connection.close()

    def publish(self, values: Mapping[str, Sequence[Any]], now_s: float) -> None:
        self._period += 1
        if self._started and self._outputs is not None and self._period % self._every == 0:
            self.connection.send(self._outputs.pack(values), now_s)

    def _answer(self, kind: int, payload: bytes) -> bytes:
        if kind == rtde.Kind.VERSION:
            return bytes([int.from_bytes(payload, "big") == rtde.VERSION])
        if kind == rtde.Kind.CONTROLLER:
            return struct.pack(">4I", *SOFTWARE)
        if kind in (rtde.Kind.START, rtde.Kind.PAUSE):
            self._started = kind == rtde.Kind.START
            return b"\x01"
        if kind in (rtde.Kind.OUTPUTS, rtde.Kind.INPUTS):
            return self._set_up(kind, payload)
        raise ValueError(f"a package of kind {kind}")

    def _set_up(self, kind: int, payload: bytes) -> bytes:
        frequency_hz, names = rtde.read_setup(kind, payload)
        fields = rtde.OUTPUTS if kind == rtde.Kind.OUTPUTS else rtde.INPUTS
        types = [fields.get(name, rtde.NOT_FOUND) for name in names]
        if kind == rtde.Kind.INPUTS:
            types = [rtde.IN_USE if self._is_taken(name) else found for name, found in zip(names, types, strict=True)]
        number = 0
        if not {rtde.NOT_FOUND, rtde.IN_USE} & set(types):
            number = len(self._inputs) + 1 if kind == rtde.Kind.INPUTS else 1
            recipe = rtde.Recipe(number, names, types)
            if kind == rtde.Kind.INPUTS:
                self._inputs[number] = recipe
                self._written |= dict.fromkeys(names, self.connection)
            else:
                self._outputs, self._every = recipe, max(1, round(1.0 / STEP_S / max(frequency_hz, 1.0)))
        return bytes([number]) + ",".join(types).encode()

    def _is_taken(self, name: str) -> bool:
        writer = self._written.get(name)
        return writer is not None and writer is not self.connection and writer.open


class URServer:
    """The controller of a simulated UR5e at an address; see `protocols.serving`."""

    FAULTS = ("protective_stop", "emergency_stop", "communication_loss", "delay", "drop", "script_loss", "release")
    """protective_stop: the arm stops by itself, and can be unlocked 5 s later. emergency_stop: it is switched off.
    communication_loss: nothing gets through any more. delay: all packages come 50 ms late. release: the end of these
    three. drop: all connections are closed. script_loss: those that scripts come by are, and nobody is told."""

    plant: Plant
    """The arm."""

    def __init__(self, plant: Plant, host: str) -> None:
        """Listen at `host`. Raises: OSError."""
        self.plant = plant
        self._controller = Controller(plant)
        self.counters = self._controller.counters
        self._network = Network()
        self._sessions: list[_Session] = []
        self._written: dict[str, Connection] = {}
        self._listeners = [
            (_listen(host, rtde.PORT), self._open_rtde),
            (_listen(host, SCRIPT_PORT), self._open_script),
            (_listen(host, ur_dashboard.PORT), self._open_dashboard),
        ]
        self._due_s = time.monotonic()

    def tick(self) -> None:
        """One period of the controller: sleep until it is due, talk, and move the arm."""
        self._due_s += STEP_S
        left_s = self._due_s - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)
        elif left_s < -_LATE_S:
            periods = math.floor(-left_s / STEP_S)
            self._due_s += periods * STEP_S
            self._controller.skip(periods)
        now_s = time.monotonic()
        self._accept(now_s)
        for session in self._sessions:
            session.connection.pump(now_s)
            session.listen(now_s)
        self._controller.step()
        values = self._controller.outputs()
        for session in self._sessions:
            session.publish(values, now_s)
            session.connection.pump(now_s)
        self._sessions = [session for session in self._sessions if session.connection.open]

    def inject(self, fault: str) -> None:
        """Have one of `FAULTS`. Raises: ValueError when it is none of them."""
        faults: dict[str, Callable[[], None]] = {
            "protective_stop": self._controller.protective_stop,
            "emergency_stop": self._controller.emergency_stop,
            "communication_loss": lambda: setattr(self._network, "dead", True),
            "delay": lambda: setattr(self._network, "delay_s", DELAY_S),
            "drop": self._drop,
            "script_loss": lambda: self._drop(_ScriptSession),
            "release": self._release,
        }
        if fault not in faults:
            raise ValueError(f"Unknown fault {fault!r}: use {', '.join(self.FAULTS)}.")
        faults[fault]()

    def close(self) -> None:
        """Hang up on everybody."""
        self._drop()
        for listener, _ in self._listeners:
            listener.close()

    def _drop(self, kind: type = object) -> None:
        for session in self._sessions:
            if isinstance(session, kind):
                session.connection.close()

    def _release(self) -> None:
        self._network.dead, self._network.delay_s = False, 0.0
        self._controller.release()

    def _accept(self, now_s: float) -> None:
        if self._network.dead:
            return
        for listener, open_session in self._listeners:
            with suppress(OSError):  # nobody there, or gone again
                link, _ = listener.accept()
                self._sessions.append(open_session(Connection(link, self._network), now_s))

    def _open_rtde(self, connection: Connection, now_s: float) -> _Session:
        del now_s
        return _RtdeSession(connection, self._controller, self._written)

    def _open_script(self, connection: Connection, now_s: float) -> _Session:
        del now_s
        return _ScriptSession(connection, self._controller)

    def _open_dashboard(self, connection: Connection, now_s: float) -> _Session:
        return _DashboardSession(connection, self._controller, now_s)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port))
    listener.setblocking(False)
    return listener
