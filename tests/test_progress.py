"""What the terminal says of an episode."""

from __future__ import annotations

from offbeat.progress import describe
from offbeat.timing.records import EpisodeRecord


def test_an_episode_is_told_by_return_response_and_deadlines() -> None:
    record = EpisodeRecord(3, 150, 123.4, 40.0, 24.0, 1500, 2, 5.25, 0.031, 1.0, -1.0, 0.1, 2.0)
    assert describe(record) == "return  123.4  response   5.2 ms  1,500 updates  late 0.03 ms (p99), 2 missed"
