"""Servers that speak an arm's own protocol with a simulated arm behind it, for tests and rehearsal.

    test or rehearsal                              the server's process
    the vendor's library  <--- sockets, 127.x.y.z --->  Server: fci_server.py | ur_server.py
    Served                <--- pipe: inject, state, counters --->        its Plant

The vendors' own libraries connect as they are. The ports are fixed by the protocols, so each server has a loopback
address of its own and several can run side by side.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from offbeat.errors import ConfigError, RobotError
from offbeat.robots.protocols.plant import Plant

Maker = Literal["franka", "ur"]

LATEST_FCI = 10
"""The newest version of the Franka Control Interface that is served."""

READY, REFUSED, CRASHED = "ready", "refused", "crashed"
"""What a server's process says by itself: it listens; it cannot (why); it has failed (its traceback)."""

_START_S, _ANSWER_S, _LEAVE_S = 60.0, 5.0, 2.0


class Server(Protocol):
    """An arm's controller as seen from the network. Listens from its construction on, which raises OSError."""

    @property
    def FAULTS(self) -> tuple[str, ...]:
        """Faults that `inject` knows."""
        ...

    counters: dict[str, int]
    """What has happened so far: commands, lost packets, reflexes."""
    plant: Plant
    """The arm behind it."""

    def tick(self) -> None:
        """Sleep until the next control period is due, then serve the sockets and move the arm on."""
        ...

    def inject(self, fault: str) -> None:
        """Let a fault happen now; one of FAULTS."""
        ...

    def close(self) -> None:
        """Let go of all sockets."""
        ...


def make_server(maker: Maker, protocol: int, host: str) -> Server:
    """The server of a maker's arm, listening at `host`. Raises: ConfigError when it cannot, or the version is unknown.

    protocol: version of the Franka Control Interface, 5 (a Panda) or 10 (an FR3).
    """
    try:
        return _MAKERS[maker](host, protocol)
    except OSError as error:
        raise ConfigError(
            f"The server cannot listen at {host} ({error.strerror or error}): end what listens there, or give another "
            "address of this machine, for example --host 127.0.0.2."
        ) from error


def _make_franka(host: str, protocol: int) -> Server:
    from offbeat.robots.protocols.fci_server import FCIServer

    return FCIServer(host, protocol)


def _make_ur(host: str, protocol: int) -> Server:
    from offbeat.robots.protocols.ur_server import URServer

    return URServer(Plant("ur5e"), host)


_MAKERS: Mapping[Maker, Callable[[str, int], Server]] = MappingProxyType({"franka": _make_franka, "ur": _make_ur})


@dataclass(frozen=True)
class Order:
    """What a server's process is told: see `serving`; and the process (id) it does not outlive."""

    maker: Maker
    protocol: int
    host: str
    parent: int


class Served:
    """A server in a process of its own, seen from outside of its protocol."""

    host: str
    """Where it listens."""
    process: SpawnProcess
    """Its process."""

    def __init__(self, order: Order) -> None:
        """Start it and wait until it listens. Raises: RobotError when it does not."""
        from offbeat.robots.protocols.process import serve

        context = get_context("spawn")
        self.host, self._traceback = order.host, ""
        self._channel, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(order, theirs), name=f"offbeat-{order.maker}", daemon=True)
        self.process.start()
        theirs.close()
        try:
            self._answer(_START_S)
        except BaseException:
            self.close()
            raise

    def inject(self, fault: str) -> None:
        """Let a fault happen now. Raises: RobotError when this server has none of that name."""
        self._ask("inject", fault)

    def state(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The arm's true joint positions, velocities and accelerations (N,), whatever is said on the network."""
        state: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] = self._ask("state")
        return state

    def flange(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The flange's true position (3,) m and rotation (3, 3)."""
        flange: tuple[NDArray[np.float64], NDArray[np.float64]] = self._ask("flange")
        return flange

    @property
    def counters(self) -> dict[str, int]:
        """What has happened so far: commands, lost packets, reflexes."""
        counters: dict[str, int] = self._ask("counters")
        return counters

    def close(self) -> None:
        """End the server, by force when it does not leave; does nothing the second time."""
        with suppress(OSError):
            self._channel.send(("close",))
        self.process.join(_LEAVE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self._channel.close()

    def _ask(self, request: str, *arguments: Any) -> Any:
        try:
            self._channel.send((request, *arguments))
        except OSError as error:
            raise RobotError(f"The server cannot be asked for {request}: {self._ended()}") from error
        return self._answer(_ANSWER_S)

    def _answer(self, timeout_s: float) -> Any:
        try:
            if not self._channel.poll(timeout_s):
                raise RobotError(f"The server gave no answer within {timeout_s:g} s.")
            what, value = self._channel.recv()
        except (EOFError, ConnectionError) as error:
            raise RobotError(f"The server gave no answer: {self._ended()}") from error
        if what == CRASHED:
            raise RobotError(f"The server has failed.\n{value}")
        if what == REFUSED:
            raise RobotError(value)
        return value

    def _ended(self) -> str:
        self.process.join(_LEAVE_S)
        return f"its process has ended with exit code {self.process.exitcode}."


@contextmanager
def serving(maker: Maker, protocol: int = LATEST_FCI, host: str | None = None) -> Iterator[Served]:
    """A server of a maker's arm, for the time of the block; `host` is by default a loopback address of its own.

    protocol: version of the Franka Control Interface. Raises: RobotError when it does not start.
    """
    served = Served(Order(maker, protocol, host or own_address(), os.getpid()))
    try:
        yield served
    finally:
        served.close()


_addresses = 0


def own_address() -> str:
    """A loopback address that no other process of this machine is likely to use, and this one only once.

    127.0.0.1 where a system has no others (all but Linux).
    """
    global _addresses
    if not sys.platform.startswith("linux"):
        return "127.0.0.1"
    _addresses += 1
    number = os.getpid() * 64 + _addresses % 64
    return f"127.{1 + (number >> 16) % 253}.{(number >> 8) % 256}.{1 + number % 254}"
