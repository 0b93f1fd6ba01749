"""The loop that talks to a Panda, with a stand-in for libfranka: what it answers, and what it says of the arm."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from offbeat.robots.panda_loop import (
    BEGUN,
    CLOSED,
    ENDED,
    LEAVE,
    MEASURED,
    PACKET,
    RECOVER,
    STATE,
    TARGET,
    VELOCITY,
    Loop,
)

REFLEX = 'libfranka: Move command aborted: motion aborted by reflex!\n["joint_reflex"]'
SPEED = (0.2, -0.1, 0.0, 0.0, 0.0, 0.0, 0.1)
Answer = Callable[[int], list[float]]
"""Calls the loop's callback for so many milliseconds at once; what it answers (rad/s)."""


class Controller:
    """A stand-in for `libfranka.Robot`: `motions` are what happens in each motion, one after the other."""

    def __init__(self, *motions: Callable[[Answer], None]) -> None:
        self.motions = list(motions)
        self.mode, self.recoveries, self.finished = "Idle", 0, False
        self.thresholds: tuple[Any, ...] = ()

    def set_collision_behavior(self, *thresholds: list[float]) -> None:
        self.thresholds = thresholds

    def read_once(self) -> Any:
        return SimpleNamespace(q=[0.5] * 7, dq=[0.25] * 7, robot_mode=SimpleNamespace(name=f"k{self.mode}"))

    def automatic_error_recovery(self) -> None:
        self.recoveries += 1
        self.mode = "Idle"

    def control_joint_velocity(self, callback: Callable[[Any, Any], Any]) -> None:
        def answer(milliseconds: int) -> list[float]:
            given = callback(self.read_once(), SimpleNamespace(to_msec=lambda: milliseconds))
            self.finished = isinstance(given, tuple)
            return given[0] if isinstance(given, tuple) else given

        self.motions.pop(0)(answer)


class Bench:
    """A loop and the driver's end of its sockets."""

    def __init__(self, controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
        self.controller = controller
        config = SimpleNamespace(kEnforce=0, kIgnore=1)
        libfranka = SimpleNamespace(
            Robot=lambda host, realtime: controller,
            RealtimeConfig=config,
            JointVelocities=list,
            motion_finished=lambda answer: (answer,),
        )
        monkeypatch.setitem(sys.modules, "panda_py", SimpleNamespace(libfranka=libfranka))
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.setblocking(False)
        theirs.setblocking(False)
        self.loop = Loop(theirs, "host", 40.0, 30.0)

    def said(self) -> list[bytes]:
        """What the loop has said, states left out."""
        return [packet for packet in self.packets() if packet[:1] != STATE]

    def packets(self) -> Iterator[bytes]:
        """All it has said."""
        try:
            while packet := self.link.recv(PACKET):
                yield packet
        except BlockingIOError:
            pass

    def command(self, hold_s: float) -> None:
        """Send SPEED, to be held for so long."""
        self.link.send(VELOCITY + TARGET.pack(*SPEED, time.monotonic() + hold_s))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*motions: Callable[[Answer], None]) -> Bench:
        made.append(Bench(Controller(*motions), monkeypatch))
        return made[-1]

    yield make
    for one in made:
        one.link.close()


def test_it_ramps_to_commands_and_stands_when_their_time_is_over(bench: Callable[..., Bench]) -> None:
    def motion(answer: Answer) -> None:
        assert answer(0) == [0.0] * 7
        one.command(hold_s=60.0)
        path = [answer(1) for _ in range(100)]
        assert path[-1] == pytest.approx(SPEED)
        assert np.abs(np.diff(path, axis=0)).max() <= 16.0 * 1e-3 + 1e-9  # rad/s in a millisecond
        one.command(hold_s=0.0)
        assert answer(100) == pytest.approx([0.0] * 7)
        one.link.send(LEAVE)
        answer(1)

    one = bench(motion)
    one.loop.run()
    assert one.controller.finished
    assert one.said() == [BEGUN]
    torques, forces = [40.0] * 7, [30.0] * 6
    assert one.controller.thresholds == (torques, torques, forces, forces)


def test_it_leaves_with_a_standing_arm_when_the_other_side_has_died(bench: Callable[..., Bench]) -> None:
    def motion(answer: Answer) -> None:
        one.command(hold_s=60.0)
        answer(100)
        one.link.close()
        assert max(answer(1)) > 0.1
        assert not one.controller.finished
        while not one.controller.finished:
            last = answer(1)
        assert last == [0.0] * 7

    one = bench(motion)
    one.loop.run()


def test_it_publishes_states(bench: Callable[..., Bench]) -> None:
    def motion(answer: Answer) -> None:
        list(one.packets())
        before_s = time.monotonic()
        answer(1)
        (packet,) = (p for p in one.packets() if p[:1] == STATE)
        stamp_s, *numbers = MEASURED.unpack(packet[1:])
        assert before_s <= stamp_s <= time.monotonic()
        assert numbers == [0.5] * 7 + [0.25] * 7
        one.link.send(LEAVE)
        answer(1)

    one = bench(motion)
    one.loop.run()


def test_it_recovers_an_arm_that_stopped_by_itself_and_begins_at_rest(bench: Callable[..., Bench]) -> None:
    def stopped(answer: Answer) -> None:
        one.command(hold_s=60.0)
        answer(100)
        one.controller.mode = "Reflex"
        one.link.send(RECOVER)  # it listens only once it has said why
        raise RuntimeError(REFLEX)

    def going_on(answer: Answer) -> None:
        assert answer(0) == answer(10) == [0.0] * 7  # what was commanded before is void
        one.link.send(LEAVE)
        answer(1)

    one = bench(stopped, going_on)
    one.loop.run()
    assert one.controller.recoveries == 1
    assert one.said() == [BEGUN, ENDED + b" ".join(REFLEX.encode().split()), BEGUN]


def test_a_user_stop_ends_it_with_the_mode(bench: Callable[..., Bench]) -> None:
    def stopped(answer: Answer) -> None:
        answer(0)
        one.controller.mode = "UserStopped"
        raise RuntimeError("libfranka: Move command aborted: User Stop pressed!")

    one = bench(stopped)
    one.loop.run()
    assert one.said() == [BEGUN, CLOSED + b"UserStopped"]


def test_a_lost_connection_is_no_fault_of_the_arm(bench: Callable[..., Bench]) -> None:
    def lost(answer: Answer) -> None:
        raise RuntimeError("libfranka: UDP receive: Timeout")

    with pytest.raises(RuntimeError, match="Timeout"):
        bench(lost).loop.run()


def test_an_arm_in_a_reflex_is_recovered_at_the_beginning(bench: Callable[..., Bench]) -> None:
    def motion(answer: Answer) -> None:
        one.link.send(LEAVE)
        answer(1)

    one = bench(motion)
    one.controller.mode = "Reflex"
    one.loop.run()
    assert one.controller.recoveries == 1
