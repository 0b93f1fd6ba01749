"""What both Franka drivers share: the version of a controller, the check of commands, the words for a mode."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from offbeat.config import HardwareConfig
from offbeat.errors import DriverError, RobotError
from offbeat.robots import franka
from offbeat.robots.base import RobotSetup
from offbeat.robots.models.franka import FR3
from offbeat.robots.models.panda import PANDA
from offbeat.robots.vendor import checked
from offbeat.timing.wall import WallClock

HOST = "127.0.0.1"
READY = np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4])


@contextmanager
def controller(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Something that listens, takes one request and answers this: its port and what it was asked."""
    asked: list[bytes] = []

    def serve() -> None:
        link, _ = server.accept()
        with link:
            asked.append(link.recv(64))
            link.sendall(answer)

    with socket.create_server((HOST, 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], asked
        thread.join(5.0)


def setup(host: str = HOST) -> RobotSetup:
    return RobotSetup("panda", host, WallClock(), 0.12, HardwareConfig(driver="franka", host=host))


@pytest.mark.parametrize(("status", "version"), [(1, 5), (1, 10), (0, 10)])
def test_a_controller_is_asked_for_its_version(status: int, version: int) -> None:
    with controller(struct.pack("<IIIBH", 0, 1, 15, status, version)) as (port, asked):
        assert franka.fci_version(HOST, port) == version
    command, number, size, offered, _ = struct.unpack("<IIIHH", asked[0])
    # No controller takes a version 0, so it tells its own and holds no session for us.
    assert (command, number, size, offered) == (0, 1, 16, 0)


def test_what_listens_and_is_no_controller_is_named() -> None:
    with (
        controller(b"HTTP/1.1 400 Bad Request\r\n") as (port, _),
        pytest.raises(RobotError, match="is no Franka controller: check the address"),
    ):
        franka.fci_version(HOST, port)


def test_a_connection_that_closes_early_is_an_error() -> None:
    with controller(b"\0\0") as (port, _), pytest.raises(RobotError, match=r"closed the connection.*FCI is activated"):
        franka.fci_version(HOST, port)


def test_nobody_there_says_what_to_check() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(RobotError, match=f"at {HOST}, port {port} .*check the address and the cable"):
        franka.fci_version(HOST, port)


def test_an_address_is_needed() -> None:
    with pytest.raises(DriverError, match="say --robot-host"):
        franka.make_franka(setup(host=""))


@pytest.mark.parametrize(("version", "package"), [(5, "panda-python"), (10, "franky-control")])
def test_a_missing_library_is_named(version: int, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(franka, "fci_version", lambda host: version)
    monkeypatch.setattr(franka, "find_spec", lambda module: None)
    with pytest.raises(DriverError, match=rf"{package}: pip install \"offbeat\[") as caught:
        franka.make_franka(setup())
    assert str(caught.value).count(".") == 1  # one sentence


@pytest.mark.parametrize("command", [[0.1] * 6, [0.1] * 8, [np.nan] + [0.0] * 6, [0.0] * 6 + [np.inf]])
def test_a_command_is_seven_finite_numbers(command: list[float]) -> None:
    with pytest.raises(RobotError, match="7 finite numbers"):
        checked(np.array(command), franka.JOINTS)
    assert checked(np.arange(7), franka.JOINTS).tolist() == list(range(7))


@pytest.mark.parametrize(
    ("mode", "remedy"), [("UserStopped", "release it"), ("Guiding", "let go"), ("Other", "open the brakes")]
)
def test_a_mode_that_takes_no_commands_says_what_to_do(mode: str, remedy: str) -> None:
    with pytest.raises(RobotError, match=remedy):
        franka.refuse_closed(mode)
    franka.refuse_closed("Idle")
    franka.refuse_closed("Move")


def test_the_numbers_of_an_fr3() -> None:
    # Same kinematics; its own limits, which hold the task's bounds as well.
    np.testing.assert_array_equal(FR3.forward_kinematics(READY), PANDA.forward_kinematics(READY))
    assert FR3.velocity_limit_rad_s.tolist() == [2.62] * 4 + [5.26, 4.18, 5.26]
    assert FR3.acceleration_limit_rad_s2.tolist() == [10.0] * 7
