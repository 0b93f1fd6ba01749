"""Franka arms: which of the two protocols a controller speaks, and what both drivers share.

The Panda (FER) and the FR3 look alike and speak two versions of the Franka Control Interface that no library joins: a
Panda's controller speaks version 5, an FR3's version 10. A controller tells its version to whoever connects, so nobody
needs to know which arm it is:

    Connect, version 0  -->  port 1337
                        <--  incompatible, version 5 or 10      (a simulator may say yes instead, and its version)

The drivers are `panda_arm.py` (version 5, panda-python) and `franky_arm.py` (franky-control).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType

from offbeat.errors import DriverError, RobotError
from offbeat.robots.base import Robot, RobotSetup

PORT = 1337
"""Where a controller listens."""
LAST_PANDA_VERSION = 5
"""The newest version of the interface that a Panda's controller speaks."""
JOINTS = 7

_CONNECT = 0
_HEADER = struct.Struct("<III")  # command, its number, bytes of the whole message
_REQUEST = struct.Struct("<HH")  # version, port for the states
_ANSWER = struct.Struct("<BH")  # status, version
_WAIT_S = 5.0

CLOSED_MODES: Mapping[str, str] = MappingProxyType(
    {
        "UserStopped": "its stop button is pressed: see that nothing is in the way, release it and start again",
        "Guiding": "it is being guided by hand: let go of its buttons and start again",
        "Other": "its brakes are closed or it is not in execution mode: open the brakes and activate FCI in Desk",
    }
)
"""Modes, by libfranka's names, in which a controller takes no commands: why, and what to do about it."""
REFLEX = "Reflex"
"""The mode of an arm that has stopped by itself."""


def make_franka(setup: RobotSetup) -> Robot:
    """The arm whose controller answers at `setup.host`: a Panda or an FR3.

    Raises: DriverError when the library for it is not installed or no address was given; RobotError when the controller
    does not answer or the arm cannot be moved.
    """
    if not setup.host:
        raise DriverError("The Franka driver needs its controller's address: say --robot-host, 172.16.0.2 for example.")
    if fci_version(setup.host) <= LAST_PANDA_VERSION:
        _require("panda_py", "A Panda (interface version 5) needs panda-python", "panda")
        from offbeat.robots.panda_arm import PandaArm

        return PandaArm(setup)
    _require("franky", "An FR3 (interface version 10) needs franky-control", "fr3")
    from offbeat.robots.franky_arm import FrankyArm

    return FrankyArm(setup)


def _require(module: str, sentence: str, extra: str) -> None:
    if find_spec(module) is None:
        raise DriverError(f'{sentence}: pip install "offbeat[{extra}]".')


def fci_version(host: str, port: int = PORT) -> int:
    """The version of the Franka Control Interface that the controller at `host` speaks.

    Raises: RobotError when it does not answer as one.
    """
    number = 1
    # A simulator that takes any version sends states at once, and they need somewhere to go.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as states:
        states.bind(("", 0))
        try:
            with socket.create_connection((host, port), timeout=_WAIT_S) as link:
                body = _REQUEST.pack(0, states.getsockname()[1])
                link.sendall(_HEADER.pack(_CONNECT, number, _HEADER.size + len(body)) + body)
                answer = _receive(link, _HEADER.size + _ANSWER.size)
        except OSError as error:
            raise RobotError(
                f"No Franka controller answers at {host}, port {port} ({error}): check the address and the cable, and "
                "that FCI is activated in Desk."
            ) from error
    command, echoed, _ = _HEADER.unpack_from(answer)
    version: int = _ANSWER.unpack_from(answer, _HEADER.size)[1]
    if (command, echoed) != (_CONNECT, number):
        raise RobotError(f"What answers at {host}, port {port} is no Franka controller: check the address.")
    return version


def _receive(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = link.recv(size - len(data))
        if not piece:
            raise ConnectionError("it closed the connection")
        data += piece
    return data


def has_realtime_kernel() -> bool:
    """Whether libfranka takes the kernel for a real-time one; it refuses to insist on that elsewhere."""
    try:
        with open("/sys/kernel/realtime", encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def refuse_closed(mode: str) -> None:
    """Raises: RobotError when an arm in this mode (libfranka's name of it) has to be set free by somebody first."""
    if mode in CLOSED_MODES:
        raise RobotError(f"The arm takes no commands: {CLOSED_MODES[mode]}.")
