"""Real-time favours: asked for in processes of their own, since what is granted lasts; and the collector's pauses."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from offbeat.timing import realtime
from offbeat.timing.realtime import Attempt, collect_between_episodes, lock_memory, raise_priority, stay_on_core

ASK = """
import json, os, sys
from dataclasses import asdict
from offbeat.timing.realtime import try_realtime
attempts = [asdict(attempt) for attempt in try_realtime()]
child = os.fork()
if child == 0:
    os._exit(os.sched_getscheduler(0) & 0xFF)
print(json.dumps([attempts, sorted(os.sched_getaffinity(0)), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]))
"""


def run_ordinary(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that begins as an ordinary one, whatever an earlier test made of this one."""
    if hasattr(os, "SCHED_OTHER"):
        code = f"import os; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "SCHED_RESET_ON_FORK"), reason="needs Linux")
def test_whatever_is_refused_the_process_goes_on_and_says_so() -> None:
    result = run_ordinary(ASK)
    assert result.returncode == 0, result.stderr
    attempts, cores, policy_of_child = json.loads(result.stdout)
    assert [attempt["name"] for attempt in attempts] == ["Real-time priority", "Processor core", "Locked memory"]
    assert all(attempt["found"] for attempt in attempts)
    if attempts[1]["granted"]:
        assert len(cores) == 1
    assert policy_of_child == os.SCHED_OTHER  # a worker never inherits the priority


LEND = """
import os, threading
from offbeat.timing.realtime import lend_priority, raise_priority
done = threading.Event()

def start():
    thread = threading.Thread(target=done.wait, daemon=True)
    thread.start()
    return thread

granted, before = raise_priority(60).granted, start()
with lend_priority():
    within = start()
threads = before, within, start()
print(granted, *(os.sched_getscheduler(t.native_id) & 0xFF for t in threads), os.sched_getparam(within.native_id))
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_RESET_ON_FORK"), reason="needs Linux")
def test_priority_is_lent_to_the_threads_that_start_within_and_to_no_other() -> None:
    result = run_ordinary(LEND)
    granted, before, within, after, *priority = result.stdout.split()
    assert (int(before), int(after)) == (os.SCHED_OTHER, os.SCHED_OTHER), result.stderr
    assert int(within) == (os.SCHED_FIFO if granted == "True" else os.SCHED_OTHER)
    assert priority[-1].endswith("=60)" if granted == "True" else "=0)")


LEND_ANYWAY = """
import os, threading
from offbeat.timing.realtime import keep_scheduler, lend_priority, raise_priority
done = threading.Event()
thread = threading.Thread(target=done.wait, daemon=True)
with lend_priority():
    thread.start()
loop, own = os.sched_getscheduler(thread.native_id) & 0xFF, os.sched_getscheduler(0)
with keep_scheduler():
    granted = raise_priority(60).granted
print(granted, loop, own, os.sched_getscheduler(0))
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_RESET_ON_FORK"), reason="needs Linux")
def test_an_ordinary_thread_asks_for_others_and_keeps_its_own_scheduler() -> None:
    result = run_ordinary(LEND_ANYWAY)
    granted, *policies = result.stdout.split()
    loop = os.SCHED_FIFO if granted == "True" else os.SCHED_OTHER
    assert [int(policy) for policy in policies] == [loop, os.SCHED_OTHER, os.SCHED_OTHER], result.stderr


def test_short_slices_are_asked_for_and_a_refusal_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "import os; from offbeat.timing import realtime as r; "
    ask += "print(r.take_short_slices(), os.sched_getscheduler(0), os.nice(0))"
    result = subprocess.run(["nice", "-n", "3", sys.executable, "-c", ask], capture_output=True, text=True, timeout=60)
    # Nothing else about the thread changes.
    assert result.stdout.split()[1:] == [str(os.SCHED_OTHER), "3"], result.stderr
    monkeypatch.setattr(realtime.platform, "machine", lambda: "pdp11")
    assert not realtime.take_short_slices()


SLICES_OF_ONE_WITH_PRIORITY = """
import os
from offbeat.timing.realtime import raise_priority, take_short_slices
granted, before = raise_priority(60).granted, os.sched_getscheduler(0)
print(granted, take_short_slices(), os.sched_getscheduler(0) == before)
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_RESET_ON_FORK"), reason="needs Linux")
def test_a_thread_with_priority_keeps_it_and_takes_no_slices() -> None:
    """As where a run is started with chrt."""
    result = run_ordinary(SLICES_OF_ONE_WITH_PRIORITY)
    granted, taken, kept = result.stdout.split()
    assert kept == "True", result.stderr
    assert granted == "False" or taken == "False"


def refuse(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_refusal_names_its_reason_and_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime.os, "SCHED_RESET_ON_FORK", 0x40000000, raising=False)
    monkeypatch.setattr(realtime.os, "sched_setscheduler", refuse, raising=False)
    assert raise_priority(60) == Attempt(
        "Real-time priority", False, "60 was refused (Operation not permitted): allow it in limits.conf (rtprio)"
    )
    monkeypatch.setattr(realtime.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(realtime.os, "sched_setaffinity", refuse, raising=False)
    assert stay_on_core(7).found == "7 was refused (Operation not permitted): choose one of [0, 1]"


def test_the_last_core_is_taken_and_an_only_core_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(realtime.os, "sched_setaffinity", lambda _, cores: taken.append(cores), raising=False)
    monkeypatch.setattr(realtime.os, "sched_getaffinity", lambda _: {3, 1, 2}, raising=False)
    assert stay_on_core().granted and taken == [{3}]
    monkeypatch.setattr(realtime.os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert not stay_on_core().granted and taken == [{3}]


def test_a_system_without_a_favour_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SCHED_RESET_ON_FORK", "sched_setaffinity"):
        monkeypatch.delattr(realtime.os, name, raising=False)
    monkeypatch.setattr(realtime.ctypes, "CDLL", lambda *_, **__: object())
    found = [attempt() for attempt in (raise_priority, stay_on_core, lock_memory)]
    assert [(attempt.granted, attempt.found) for attempt in found] == [(False, "not offered by this system")] * 3


def test_garbage_is_collected_between_episodes_only() -> None:
    class Node:
        pass

    def make_garbage() -> None:
        node = Node()
        node.itself = node  # type: ignore[attr-defined]

    def nodes() -> int:
        return sum(type(thing) is Node for thing in gc.get_objects())

    with collect_between_episodes() as collect:
        assert not gc.isenabled()
        for _ in range(5000):  # far more than the collector's own threshold
            make_garbage()
        assert nodes() == 5000
        collect()
        assert nodes() == 0
    assert gc.isenabled() and gc.get_freeze_count() == 0
