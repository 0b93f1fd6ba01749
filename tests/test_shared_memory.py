"""Shared memory: seen by spawned processes, whole records beside a writer that never rests or dies half way, bells."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spawning import spawned

from offbeat.errors import OffbeatError
from offbeat.shared_memory import Arena, Doorbell, Ring, SeqLock

RECORD = [("number", "<i8"), ("values", "<f4", (1000,))]
TIMEOUT_S = 30.0


def answer(arena: Arena, cell: SeqLock, ring: Ring, asked: Doorbell, answered: Doorbell) -> None:
    """In a process of its own: after the bell, write to everything that is shared."""
    assert asked.wait(TIMEOUT_S)
    arena.array("b")[:] = 2 * arena.array("a")
    cell.write(number=1, values=7.0)
    ring.append(1, 2.5)
    answered.ring()


def write_forever(cell: SeqLock, written: Doorbell) -> None:
    """In a process of its own: records whose values are all their number."""
    for number in range(1, 1 << 40):
        cell.write(number=number, values=np.float32(number))
        written.ring()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_spawned_process_shares_what_it_is_given() -> None:
    arena = Arena({"a": ((3,), np.float32), "b": ((3,), np.float64)})
    arena.array("a")[:] = (1, 2, 3)
    cell, ring, asked, answered = SeqLock(RECORD), Ring([("n", "<i8"), ("x", "<f8")], 4), Doorbell(), Doorbell()
    with spawned(answer, arena, cell, ring, asked, answered) as process:
        asked.ring()
        assert answered.wait(TIMEOUT_S)
        process.join(TIMEOUT_S)
        assert process.exitcode == 0
    np.testing.assert_array_equal(arena.array("b"), [2, 4, 6])
    version, record = cell.read()
    assert (version, record["number"]) == (1, 1)
    np.testing.assert_array_equal(record["values"], 7.0)
    assert ring.take().tolist() == [(1, 2.5)]


def test_an_arena_is_zeros_on_pages_of_their_own() -> None:
    arena = Arena({"one": ((), np.uint8), "many": ((5, 1000), np.float32), "none": ((0, 7), np.int64)})
    for name, shape in {"one": (), "many": (5, 1000), "none": (0, 7)}.items():
        assert arena.array(name).shape == shape
        assert not arena.array(name).any()
        assert arena.array(name).ctypes.data % 4096 == 0
    arena.array("one")[...] = 255
    assert not arena.array("many").any()


def test_an_arena_that_does_not_fit_says_so() -> None:
    with pytest.raises(OffbeatError, match=r"gives no 9.* MB of shared memory"):
        Arena({"all": (((1 << 63) - 8192,), np.uint8)})


def test_nothing_is_shared_but_with_a_process_that_is_spawned() -> None:
    for shared in (Arena({"a": ((1,), np.int8)}), SeqLock(RECORD), Ring(RECORD, 2), Doorbell()):
        with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
            pickle.dumps(shared)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
def test_nothing_is_left_behind() -> None:
    names, before = set(os.listdir("/dev/shm")), open_descriptors()
    parts = [Arena({"a": ((1000,), np.int8)}), SeqLock(RECORD), Ring(RECORD, 2), Doorbell()]
    assert open_descriptors() > before
    assert set(os.listdir("/dev/shm")) <= names
    parts.clear()
    assert open_descriptors() == before


def test_without_memfd_the_memory_is_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cell, ring, asked, answered = SeqLock(RECORD), Ring([("n", "<i8"), ("x", "<f8")], 4), Doorbell(), Doorbell()
    arena = Arena({"a": ((3,), np.float32), "b": ((3,), np.float64)})
    assert list(tmp_path.iterdir()) == []
    with spawned(answer, arena, cell, ring, asked, answered):
        asked.ring()
        assert answered.wait(TIMEOUT_S)
    assert cell.read()[1]["values"][-1] == 7.0


def test_a_cell_holds_zeros_before_the_first_record_and_then_the_newest() -> None:
    cell = SeqLock(RECORD)
    version, record = cell.read()
    assert (version, cell.version, record["number"]) == (0, 0, 0)
    for number in (5, 6, 7):
        assert cell.write(number=number, values=np.full(1000, number)) == cell.version == number - 4
        version, record = cell.read()
        assert (version, record["number"], record["values"][999]) == (number - 4, number, number)
    kept = record["values"].copy()
    cell.write(number=8, values=0.0)
    np.testing.assert_array_equal(record["values"], kept)  # what was read is the reader's own


def test_a_record_is_written_whole() -> None:
    cell = SeqLock(RECORD)
    with pytest.raises(OffbeatError, match=r"A record has the fields \('number', 'values'\), not \('number',\)"):
        cell.write(number=1)
    with pytest.raises(OffbeatError, match=r"not .*'colour'"):
        cell.write(number=1, values=0.0, colour=3)
    with pytest.raises(OffbeatError, match="A record needs named fields: float64 has none"):
        SeqLock(np.float64)
    assert cell.version == 0


def test_a_copy_that_was_overtaken_is_refused() -> None:
    cell, out = SeqLock(RECORD), np.zeros(1, RECORD)
    cell.write(number=1, values=1.0)
    cell._begun[0] = 2  # the writer is in the other buffer
    assert cell.try_read(out) == 1
    cell._begun[0] = 3  # and now in this one
    assert cell.try_read(out) is None
    with pytest.raises(OffbeatError, match="overwritten during each of 100 reads"):
        cell.read()


def test_a_writer_that_dies_half_way_leaves_the_record_before() -> None:
    cell, written = SeqLock(RECORD), Doorbell()
    rng = np.random.default_rng(0)
    for _ in range(3):
        with spawned(write_forever, cell, written) as process:
            assert written.wait(TIMEOUT_S)
            time.sleep(0.002 * rng.random())
            process.kill()
            process.join()
        _, record = cell.read()
        np.testing.assert_array_equal(record["values"], np.float32(record["number"]))


def test_a_stopped_writer_holds_up_no_reader() -> None:
    cell, written = SeqLock(RECORD), Doorbell()
    with spawned(write_forever, cell, written) as process:
        for _ in range(5):
            assert written.wait(TIMEOUT_S)
            os.kill(process.pid, signal.SIGSTOP)
            _, record = cell.read()
            np.testing.assert_array_equal(record["values"], np.float32(record["number"]))
            os.kill(process.pid, signal.SIGCONT)


@given(size=st.integers(1, 5), script=st.lists(st.integers(0, 9), max_size=20))
def test_a_ring_gives_every_row_once_or_counts_it_as_lost(size: int, script: list[int]) -> None:
    ring, written, taken = Ring([("n", "<i8")], size), 0, []
    for rows in script:
        for _ in range(rows):
            ring.append(written)
            written += 1
        got = ring.take()["n"].tolist()
        assert got == list(range(written - min(rows, size), written))
        taken += got
    assert len(ring) == written == len(taken) + ring.lost


def test_rows_that_may_have_been_overwritten_while_they_were_copied_are_lost() -> None:
    ring = Ring([("n", "<i8")], 3)
    for number in range(3):
        ring.append(number)

    class Overtaken(np.ndarray):
        """Rows under which the writer adds two more, just after they were copied."""

        def __getitem__(self, index: Any) -> Any:
            rows = super().__getitem__(index).view(np.ndarray)
            ring._rows = ring._rows.view(np.ndarray)
            ring.append(3)
            ring.append(4)
            return rows

    ring._rows = ring._rows.view(Overtaken)
    assert ring.take()["n"].tolist() == [2]
    assert ring.lost == 2
    assert ring.take()["n"].tolist() == [3, 4]


def test_a_bell_rings_once_for_many_and_remembers() -> None:
    bell = Doorbell()
    assert not bell.wait(0.0)
    for _ in range(100_000):  # more than the pipe below it holds
        bell.ring()
    assert bell.wait(0.0)
    assert not bell.wait(0.001)


def test_a_bell_wakes_the_one_that_waits() -> None:
    bell = Doorbell()
    timer = threading.Timer(0.05, bell.ring)
    timer.start()
    assert bell.wait(TIMEOUT_S)
    timer.join()
