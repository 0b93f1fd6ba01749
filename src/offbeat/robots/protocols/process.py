"""The process of a protocol server: its loop, and the requests that come over the pipe."""

from __future__ import annotations

import gc
import os
import signal
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from offbeat.errors import ConfigError, UserError
from offbeat.robots.protocols import CRASHED, READY, REFUSED, Order, Server, make_server
from offbeat.timing.realtime import raise_priority, take_short_slices

_LOOK_S = 0.01  # how often requests are looked for


def prepare_thread() -> None:
    """Ask for what keeps a controller on time: a real one is a computer of its own, with nothing else to do."""
    gc.collect()
    gc.freeze()
    gc.disable()
    take_short_slices()
    raise_priority()


def serve(order: Order, channel: Connection) -> None:
    """Serve until told to leave, or the parent has died. Says that it listens, or why it does not."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        server = make_server(order.maker, order.protocol, order.host)
    except UserError as error:
        channel.send((REFUSED, str(error)))
        return
    except Exception:
        channel.send((CRASHED, traceback.format_exc()))
        raise SystemExit(1) from None
    try:
        prepare_thread()
        channel.send((READY, None))
        _loop(server, channel, order.parent)
    except Exception:
        with suppress(OSError):
            channel.send((CRASHED, traceback.format_exc()))
        raise SystemExit(1) from None
    finally:
        server.close()


def _loop(server: Server, channel: Connection, parent: int) -> None:
    look_s = 0.0
    while True:
        server.tick()
        now_s = time.monotonic()
        if now_s < look_s:
            continue
        look_s = now_s + _LOOK_S
        if os.getppid() != parent:
            return
        try:
            if channel.poll():
                request, *arguments = channel.recv()
                if request == "close":
                    return
                channel.send(_obey(server, request, arguments))
        except (EOFError, ConnectionError):
            return


def _obey(server: Server, request: str, arguments: Sequence[Any]) -> tuple[str, Any]:
    if request == "inject":
        try:
            check_fault(server, *arguments)
        except ConfigError as error:
            return REFUSED, str(error)
        server.inject(*arguments)
        return request, None
    answers = {"state": server.plant.state, "flange": server.plant.flange, "counters": lambda: dict(server.counters)}
    return request, answers[request]()


def check_fault(server: Server, fault: str) -> None:
    """Raises: ConfigError when the server has no such fault."""
    if fault not in server.FAULTS:
        raise ConfigError(f"There is no fault {fault!r} here: use {', '.join(server.FAULTS)}.")


def run(server: Server, faults: Sequence[tuple[float, str]]) -> NoReturn:
    """Serve for ever, with faults: after how many seconds, and which; they are known ones."""
    prepare_thread()
    coming, start_s = sorted(faults), time.monotonic()
    while True:
        server.tick()
        while coming and time.monotonic() - start_s >= coming[0][0]:
            server.inject(coming.pop(0)[1])
