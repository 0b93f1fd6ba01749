"""What a serving process says by itself, and to whom nobody listens."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from offbeat.robots import service
from offbeat.robots.service import TROUBLE, Line


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Line]]:
    handler = signal.getsignal(signal.SIGTERM)
    ours, theirs = Pipe()
    yield ours, Line(theirs, os.getppid())
    signal.signal(signal.SIGTERM, handler)
    ours.close()
    theirs.close()


def heard(channel: Connection) -> list[str]:
    """All that was said so far."""
    said = []
    while channel.poll():
        number, sentence = channel.recv()
        assert number == TROUBLE
        said.append(sentence)
    return said


def test_a_trouble_is_said_once_and_its_end_at_once(ends: tuple[Connection, Line]) -> None:
    channel, line = ends
    for sentence in ("", "it is dark.", "it is dark.", "", ""):
        line.say(sentence)
    assert heard(channel) == ["it is dark.", ""]


def test_a_sentence_that_always_changes_never_fills_the_channel(ends: tuple[Connection, Line]) -> None:
    channel, line = ends
    for age in range(2000):  # of 100 bytes each: three times what a channel holds
        line.say(f"the newest image is {age} ms old.".ljust(100))
    assert 1 <= len(heard(channel)) < 20


def test_a_new_sentence_is_said_after_a_while(ends: tuple[Connection, Line], monkeypatch: pytest.MonkeyPatch) -> None:
    channel, line = ends
    monkeypatch.setattr(service, "_SAY_S", 0.0)
    for sentence in ("slow.", "lost.", ""):
        line.say(sentence)
    assert heard(channel) == ["slow.", "lost.", ""]
