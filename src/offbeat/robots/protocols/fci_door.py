"""The TCP side of a Franka controller: one client at a time, and its commands in whole messages."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from offbeat.robots.protocols.fci import HEADER, PORT

Message = tuple[int, int, bytes]
"""Number and id of a command, and its payload."""

_LONGEST = 1 << 16  # no command has so many bytes
_PATIENCE_S = 0.2  # how long a second client waits for the first to leave


class Door:
    """Listens at a host's port, from its construction on. Nothing here waits.

    A client that comes while there is one is turned away (its connection reset) unless that one leaves soon.
    """

    def __init__(self, host: str, on_left: Callable[[], None]) -> None:
        """on_left: called when the client has gone. Raises: OSError when the address is taken or not this machine's."""
        self._on_left = on_left
        self._client: socket.socket | None = None
        self._next: tuple[socket.socket, float] | None = None  # and until when it waits
        self._unread = bytearray()
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((host, PORT))
            self._listener.listen()
            self._listener.setblocking(False)
        except OSError:
            self._listener.close()
            raise

    @property
    def client(self) -> str | None:
        """The address of the client; None when there is none."""
        with suppress(OSError):  # it may have gone since
            return None if self._client is None else str(self._client.getpeername()[0])
        return None

    def messages(self) -> list[Message]:
        """Commands that have arrived since."""
        self._let_in()
        if self._client is None:
            return []
        try:
            data = self._client.recv(_LONGEST)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.drop()
            return []
        self._unread += data
        return self._parse()

    def send(self, message: bytes) -> None:
        """Send a message to the client; one that does not take it is dropped."""
        if self._client is None:
            return
        try:
            self._client.sendall(message)
        except OSError:
            self.drop()

    def drop(self) -> None:
        """Close the connection to the client."""
        if self._client is not None:
            self._client.close()
            self._client = None
            self._unread.clear()
            self._on_left()

    def close(self) -> None:
        """Close everything."""
        self.drop()
        if self._next is not None:
            _reset(self._next[0])
            self._next = None
        self._listener.close()

    def _let_in(self) -> None:
        if self._next is None:
            try:
                comer, _ = self._listener.accept()
            except OSError:  # nobody is there
                return
            comer.setblocking(False)
            comer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._next = comer, time.monotonic() + _PATIENCE_S
        comer, until_s = self._next
        if self._client is None:
            self._client, self._next = comer, None
        elif time.monotonic() > until_s:
            _reset(comer)
            self._next = None

    def _parse(self) -> list[Message]:
        messages = []
        while len(self._unread) >= HEADER.size:
            number, command_id, size = HEADER.unpack_from(self._unread)
            if not HEADER.size <= size <= _LONGEST:
                self.drop()  # it speaks something else
                return []
            if len(self._unread) < size:
                break
            messages.append((number, command_id, bytes(self._unread[HEADER.size : size])))
            del self._unread[:size]
        return messages


def _reset(connection: socket.socket) -> None:
    """Close a connection so that the other side gets an error, and not silence."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
