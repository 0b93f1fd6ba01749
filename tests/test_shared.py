"""Batches, weights and the board between processes: in order, whole, with time-outs, and the same as in one process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from multiprocessing.process import BaseProcess

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from spawning import spawned

from offbeat.errors import OffbeatError
from offbeat.schedules.channels import BatchSlots, WeightBuffer
from offbeat.schedules.shared import Board, SharedSlots, SharedWeights
from offbeat.timing.profile import Stage
from offbeat.types import Batch

SIZES = (4, 3, 2, 5)  # transitions, stack, height, width
TIMEOUT_S = 30.0


class CheckedPolicy:
    """Weights that must all be one number, a version's last 24 bits, and never a lower version than before."""

    def __init__(self) -> None:
        self.loads, self.number = 0, 0

    def load_weights(self, flat: NDArray[np.float32]) -> None:
        lowest, highest = int(flat.min()), int(flat.max())
        assert lowest == highest, f"torn: {lowest} and {highest}"
        assert highest > self.number, f"went back from {self.number} to {highest}"
        self.loads, self.number = self.loads + 1, highest


def publish_forever(weights: SharedWeights, size: int) -> None:
    """In a process of its own: version n is a vector full of n."""
    flat = np.empty(size, np.float32)
    for version in range(1, 1 << 24):
        flat.fill(version)
        assert weights.publish(flat, float(version)) == version


def fill_slots(slots: SharedSlots, batches: int) -> None:
    """In a process of its own: batch n is full of n."""
    for number in range(1, batches + 1):
        assert slots.wait_free(TIMEOUT_S)
        slot = slots.claim()
        for f in fields(Batch):
            getattr(slots.batches[slot], f.name)[...] = number % 2 if f.name.endswith("ated") else number
        slots.fill(slot)


def work(board: Board, place: int) -> None:
    """In a process of its own: an update whenever a transition was added, until told to stop."""
    while not board.stopped:
        board.beat(place)
        if board.added.wait(TIMEOUT_S) and not board.stopped:
            number = float(board.updates)
            board.add_stage(Stage.SAMPLE, number, number + 0.25)
            board.on_update({"critic_loss": number, "q_mean": 1.0})
            board.add_stage(Stage.UPDATE, number + 0.5, number + 0.75)


@pytest.fixture
def own_core() -> Iterator[Callable[[BaseProcess], None]]:
    """Gives this process and another one a core each, so that they really run at once beside whatever else does."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def split(process: BaseProcess) -> None:
        if len(cores) > 1:
            os.sched_setaffinity(0, cores[:1])
            os.sched_setaffinity(process.pid or 0, cores[1:2])

    yield split
    if cores:
        os.sched_setaffinity(0, cores)


@pytest.mark.parametrize(("size", "reads"), [(50, 99_600), (1_200_000, 400)], ids=["small", "as in the paper"])
def test_weights_are_never_torn_and_never_go_back(
    size: int, reads: int, own_core: Callable[[BaseProcess], None]
) -> None:
    # Together a hundred thousand loads beside a publisher that makes no pause.
    weights, policy, before = SharedWeights(size), CheckedPolicy(), 0
    with spawned(publish_forever, weights, size) as process:
        own_core(process)
        deadline_s = time.monotonic() + 3 * TIMEOUT_S
        while policy.loads < reads:
            assert process.is_alive() and time.monotonic() < deadline_s
            for _ in range(50):
                version = weights.load_newest(policy)
                assert version == policy.number >= before
                assert version == 0 or weights.published_s == version
                before = version


def test_weights_are_those_of_a_weight_buffer() -> None:
    shared, buffer = SharedWeights(3), WeightBuffer()
    for weights in (shared, buffer):
        policy = CheckedPolicy()
        assert weights.load_newest(policy) == 0 and policy.loads == 0
        assert np.isnan(weights.published_s)
        assert weights.publish(np.full(3, 5, np.float32), 1.5) == 1
        assert weights.publish(np.full(3, 6, np.float32), 2.5) == 2
        assert [weights.load_newest(policy) for _ in range(3)] == [2, 2, 2]
        assert (policy.number, policy.loads, weights.published_s) == (6, 1, 2.5)
    assert str(shared.state_dict()) == str(buffer.state_dict())


@pytest.mark.parametrize("publications", [0, 3])
def test_versions_of_weights_go_on_after_a_resume(publications: int) -> None:
    before = WeightBuffer()  # a checkpoint of either kind will do
    for number in range(publications):
        before.publish(np.full(2, number + 1, np.float32), number / 10)
    weights, policy = SharedWeights(2), CheckedPolicy()
    weights.load_state_dict(before.state_dict())
    assert weights.load_newest(policy) == publications == policy.number
    with spawned(publish_once, weights, publications + 1) as process:
        process.join(TIMEOUT_S)
        assert process.exitcode == 0
    assert weights.load_newest(policy) == publications + 1 == policy.number
    assert weights.published_s == 9.0


def publish_once(weights: SharedWeights, number: int) -> None:
    """In a process of its own, which must know what came before."""
    assert weights.publish(np.full(2, number, np.float32), 9.0) == number


def test_batches_arrive_whole_and_in_order() -> None:
    slots = SharedSlots(*SIZES)
    with spawned(fill_slots, slots, 200):
        for number in range(1, 201):
            assert slots.wait_filled(TIMEOUT_S)
            slot = slots.take()
            batch = slots.batches[slot]
            np.testing.assert_array_equal(batch.frames, number)
            np.testing.assert_array_equal(batch.reward, number)
            np.testing.assert_array_equal(batch.truncated, bool(number % 2))
            if number > 195:
                time.sleep(0.01)  # the producer waits for slots now
            slots.give_back(slot)
        assert not slots.wait_filled(0.01)
        assert (slots.free, slots.filled) == (2, 0)


@settings(max_examples=50)
@given(slots=st.integers(1, 4), script=st.lists(st.sampled_from(["claim", "fill", "take", "give_back"]), max_size=40))
def test_slots_are_those_of_one_process(slots: int, script: list[str]) -> None:
    shared = SharedSlots(*SIZES, slots=slots)
    plain = BatchSlots([Batch.empty(*SIZES) for _ in range(slots)])
    claimed: list[int] = []
    taken: list[int] = []
    for step in script:
        if step in ("claim", "take"):
            results = []
            for each in (shared, plain):
                try:
                    results.append(getattr(each, step)())
                except IndexError:
                    results.append(None)
            assert results[0] == results[1]
            if results[0] is not None:
                (claimed if step == "claim" else taken).append(results[0])
        else:
            held = claimed if step == "fill" else taken
            if held:
                slot = held.pop(0)
                for each in (shared, plain):
                    getattr(each, step)(slot)
        assert (shared.free, shared.filled) == (plain.free, plain.filled)
        assert [b is shared.upcoming for b in shared.batches] == [b is plain.upcoming for b in plain.batches]
        assert shared.wait_free(0.0) == (shared.free > 0)
        assert shared.wait_filled(0.0) == (shared.filled > 0)


def test_slots_need_at_least_one() -> None:
    with pytest.raises(OffbeatError, match="SharedSlots got 0 slots"):
        SharedSlots(*SIZES, slots=0)


def test_waiting_for_slots_ends_in_time() -> None:
    slots = SharedSlots(*SIZES, slots=1)
    began_s = time.monotonic()
    assert not slots.wait_filled(0.05)
    slots.claim()
    assert not slots.wait_free(0.05)
    assert 0.1 <= time.monotonic() - began_s < TIMEOUT_S


def test_slots_are_used_in_place() -> None:
    batch = SharedSlots(*SIZES).batches[1]
    for f in fields(Batch):
        array = getattr(batch, f.name)
        tensor = torch.from_numpy(array)
        array[...] = 1
        assert bool((tensor == 1).all()) and tensor.is_contiguous()
        assert array.shape == getattr(Batch.empty(*SIZES), f.name).shape


def test_the_board_joins_main_process_and_worker() -> None:
    board, metrics = Board(2), ("critic_loss", "actor_loss", "temperature", "entropy")
    with spawned(work, board, 1) as process:
        taken = []
        for number in range(3):
            board.added.ring()
            wait_until(lambda expected=number + 1: board.updates == expected)
            taken += board.take_stages()
        board.stop()
        process.join(TIMEOUT_S)
        assert process.exitcode == 0
    assert [(run.stage, run.begin_s, run.end_s) for run in taken] == [
        run for n in range(3) for run in [(Stage.SAMPLE, n, n + 0.25), (Stage.UPDATE, n + 0.5, n + 0.75)]
    ]
    assert [run.metrics and tuple(run.metrics) for run in taken] == [None, metrics] * 3
    assert [run.metrics["critic_loss"] for run in taken[1::2]] == [0, 1, 2]
    assert np.isnan(taken[1].metrics["entropy"])
    assert board.beats(0) == 0 and board.beats(1) >= 3
    assert (board.samples, board.updates) == (3, 3)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_a_sample_is_taken_with_its_update() -> None:
    board = Board(1)
    for n in range(3):
        board.add_stage(Stage.SAMPLE, n, n + 1)
    assert board.take_stages() == []
    board.add_stage(Stage.UPDATE, 1.5, 4)
    assert [(run.stage, run.end_s) for run in board.take_stages()] == [(Stage.SAMPLE, 1), (Stage.UPDATE, 4)]
    board.add_stage(Stage.UPDATE, 4, 5)
    assert [(run.stage, run.end_s) for run in board.take_stages()] == [(Stage.SAMPLE, 2), (Stage.UPDATE, 5)]


def test_numbers_of_the_board() -> None:
    board = Board(1)
    assert (board.stopped, board.paused, board.episode, board.checkpoint_requests) == (0, 0, 0, 0)
    board.paused, board.episode = True, 7
    assert [board.request_checkpoint(), board.request_checkpoint()] == [1, 2]
    assert (board.stopped, board.paused, board.episode, board.checkpoint_requests) == (0, 1, 7, 2)
    board.stop()
    assert board.stopped and board.added.wait(0.0)
