"""A client of the Franka Control Interface in bare sockets: what libfranka does, a step at a time."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from offbeat.robots.protocols.fci import HEADER, PORT, WIRES, Command, Controller, Generator, RobotMode, Status

DEVIATIONS = struct.pack("<6d", *(10.0, 3.12, 2 * np.pi) * 2)


class FCIClient:
    """Connected from its construction on."""

    def __init__(
        self, host: str, version: int, says: int | None = None, turn: Callable[[], object] = lambda: time.sleep(0.0005)
    ) -> None:
        """says: the version that it claims to speak. turn: what to do while nothing is there, as a server's tick."""
        self.wire, self.turn = WIRES[version], turn
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("", 0))
        self.udp.setblocking(False)
        self.tcp = socket.create_connection((host, PORT), timeout=2.0)
        self.tcp.setblocking(False)
        self._ids, self.server = 0, ("", 0)
        asked = self.request(0, struct.pack("<HH", version if says is None else says, self.udp.getsockname()[1]))
        self.greeting = self.reply(asked)

    def __enter__(self) -> FCIClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.tcp.close()
        self.udp.close()

    def request(self, number: int, payload: bytes = b"") -> int:
        """Send a command; its id."""
        self._ids += 1
        self.tcp.sendall(HEADER.pack(number, self._ids, HEADER.size + len(payload)) + payload)
        return self._ids

    def ask(self, command: Command, payload: bytes = b"") -> bytes:
        """Send a command and wait for the payload of its answer."""
        return self.reply(self.request(self.wire.number(command), payload))

    def reply(self, command_id: int) -> bytes:
        """The payload of the next answer, which must be to this command."""
        _, answered, size = HEADER.unpack(self._take(HEADER.size))
        assert answered == command_id
        return self._take(size - HEADER.size)

    def state(self) -> Any:
        """The newest state: waits for one where none is there."""
        until_s = time.monotonic() + 2.0
        while not (data := self._newest()):
            assert time.monotonic() < until_s, "there is no state"
            self.turn()
        assert len(data) == self.wire.state.itemsize
        return np.frombuffer(data, self.wire.state)[0]

    def send(self, message_id: int, finished: bool = False, **setpoint: Any) -> None:
        """Send a command that answers a state."""
        command = np.zeros(1, self.wire.command)
        command["message_id"], command["motion_generation_finished"] = message_id, finished
        for name, value in setpoint.items():
            command[name] = value
        self.udp.sendto(command.tobytes(), self.server)

    def start(self, generator: Generator = Generator.JOINT_VELOCITY) -> int:
        """Begin a motion and wait until states say so; the id of the command to move."""
        payload = struct.pack("<II", Controller.JOINT_IMPEDANCE, generator - 1) + DEVIATIONS
        asked = self.request(self.wire.number(Command.MOVE), payload)
        assert self.reply(asked)[0] == self.wire.code(Command.MOVE, Status.MOTION_STARTED)
        self.wait(lambda state: state["motion_generator_mode"] == generator)
        return asked

    def drive(self, seconds: float, velocity: Callable[[float], Any]) -> Any:
        """Send velocities, a function of the time since now, one a state, while the motion lasts; the newest state."""
        state = self.state()
        first = int(state["message_id"])
        while (passed := (int(state["message_id"]) - first) * 1e-3) < seconds and state["robot_mode"] == RobotMode.MOVE:
            self.send(int(state["message_id"]), dq_c=velocity(passed))
            state = self.state()
        return state

    def wait(self, true: Callable[[Any], bool], timeout_s: float = 2.0) -> Any:
        """The first state of which something is true."""
        until_s = time.monotonic() + timeout_s
        while not true(state := self.state()):
            assert time.monotonic() < until_s, "it did not come true"
        return state

    def is_closed(self) -> bool:
        """Whether the server has closed the connection, now or a moment later."""
        try:
            return not self._take(1)
        except ConnectionResetError:
            return True

    def _newest(self) -> bytes:
        data = b""
        try:
            while True:
                data, self.server = self.udp.recvfrom(4096)
        except BlockingIOError:
            return data

    def _take(self, size: int) -> bytes:
        """So many bytes; fewer when the connection was closed."""
        data, until_s = b"", time.monotonic() + 3.0
        while len(data) < size:
            try:
                more = self.tcp.recv(size - len(data))
            except BlockingIOError:
                assert time.monotonic() < until_s, "there is no answer"
                self.turn()
                continue
            if not more:
                break
            data += more
        return data
