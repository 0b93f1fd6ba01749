"""FrameReplay returns exactly what the environment showed, however rings wrap, episodes end and runs resume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

from offbeat.errors import OffbeatError, RunError
from offbeat.replay import FrameReplay, memory_map
from offbeat.types import Batch, Observation

HEIGHT, WIDTH = 2, 3


@dataclass
class Shown:
    """An environment of random images, and a naive record of every transition it showed, stacks stored twice."""

    stack: int
    keep_stack: bool
    seed: int = 0
    images_differ: int = 250  # few different images make equal ones frequent
    transitions: list[tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[float, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.images: list[NDArray[np.uint8]] = []

    def observe(self) -> Observation:
        image = np.full((HEIGHT, WIDTH, 3), self.rng.integers(self.images_differ), np.uint8)
        self.images = [*(self.images or [image] * self.stack), image][-self.stack :]
        return {
            "image": np.concatenate(self.images, axis=-1),
            "proprioception": self.rng.standard_normal(21).astype(np.float32),
        }

    def play(self, replay: FrameReplay, steps: int) -> None:
        """One episode of `steps`, stored and recorded."""
        if not self.keep_stack:
            self.images = []
        before = self.observe()
        replay.begin_episode(before)
        for step in range(steps):
            after = self.observe()
            action, reward = self.rng.uniform(-1, 1, 7).astype(np.float32), float(len(self.transitions))
            terminated, truncated = step == steps - 1 and steps % 2 == 0, step == steps - 1 and steps % 2 == 1
            replay.add(action, reward, after, terminated, truncated)
            numbers = (*before["proprioception"], *after["proprioception"], *action, reward, terminated, truncated)
            self.transitions.append((before["image"], after["image"], tuple(float(x) for x in numbers)))
            before = after


Drawn = tuple[int, NDArray[np.uint8], NDArray[np.uint8], tuple[float, ...]]


def drawn(replay: FrameReplay, size: int = 64, seed: int = 1) -> Iterator[Drawn]:
    """Sampled transitions: number (told by the reward), stack, next stack, all numbers."""
    batch = Batch.empty(size, replay.stack, HEIGHT, WIDTH)
    replay.sample(np.random.default_rng(seed), batch)
    for i in range(size):
        stack, after = (np.concatenate(list(frames), axis=-1) for frames in (batch.frames[i, :-1], batch.frames[i, 1:]))
        flags = (batch.terminated[i], batch.truncated[i])
        parts = (batch.proprioception[i], batch.next_proprioception[i], batch.action[i], [batch.reward[i]], flags)
        yield int(batch.reward[i]), stack, after, tuple(float(x) for part in parts for x in part)


def assert_truthful(replay: FrameReplay, shown: Shown) -> None:
    live = range(len(shown.transitions) - len(replay), len(shown.transitions))
    for number, stack, after, numbers in drawn(replay):
        assert number in live
        np.testing.assert_array_equal(stack, shown.transitions[number][0])
        np.testing.assert_array_equal(after, shown.transitions[number][1])
        assert numbers == shown.transitions[number][2]


@settings(max_examples=150, deadline=None)
@given(
    capacity=st.integers(1, 40),
    margin=st.integers(0, 10),
    stack=st.integers(1, 5),
    keep_stack=st.booleans(),
    images_differ=st.sampled_from([1, 2, 250]),
    episodes=st.lists(st.integers(1, 12), min_size=1, max_size=20),
)
def test_samples_are_what_was_shown(
    capacity: int, margin: int, stack: int, keep_stack: bool, images_differ: int, episodes: list[int]
) -> None:
    replay = FrameReplay(capacity, stack, HEIGHT, WIDTH, margin=margin, episode_steps=1)
    shown = Shown(stack, keep_stack, seed=capacity, images_differ=images_differ)
    for steps in episodes:
        shown.play(replay, steps)
        assert replay.added == len(shown.transitions)
        assert len(replay) == min(capacity, replay.added)
        assert_truthful(replay, shown)


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(1, 30),
    stack=st.integers(1, 4),
    keep_stack=st.booleans(),
    before=st.lists(st.integers(1, 8), min_size=1, max_size=10),
    after=st.lists(st.integers(1, 8), max_size=5),
)
def test_going_back_to_a_checkpoint_finds_all_it_counted(
    capacity: int, stack: int, keep_stack: bool, before: list[int], after: list[int]
) -> None:
    replay = FrameReplay(capacity, stack, HEIGHT, WIDTH, margin=sum(after), episode_steps=1)
    shown = Shown(stack, keep_stack, images_differ=3)
    for steps in before:
        shown.play(replay, steps)
    state, images, live = replay.state_dict(), shown.images, len(replay)
    sampled = list(drawn(replay))
    for steps in after:
        shown.play(replay, steps)

    replay.load_state_dict(state)
    del shown.transitions[sum(before) :]
    shown.images = images

    assert len(replay) == live
    np.testing.assert_equal(list(drawn(replay)), sampled)
    shown.play(replay, 3)
    assert_truthful(replay, shown)


@settings(max_examples=100, deadline=None)
@given(
    capacity=st.integers(1, 40),
    stack=st.integers(1, 4),
    steps=st.integers(2, 6),
    keep_stack=st.booleans(),
    episodes=st.lists(st.integers(1, 12), min_size=1, max_size=12),
)
def test_transitions_over_several_steps_end_with_their_episode(
    capacity: int, stack: int, steps: int, keep_stack: bool, episodes: list[int]
) -> None:
    discount = 0.5
    replay = FrameReplay(capacity, stack, HEIGHT, WIDTH, episode_steps=1, return_steps=steps, discount=discount)
    shown = Shown(stack, keep_stack)
    for length in episodes:
        shown.play(replay, length)
    ends = np.cumsum(episodes)  # numbers after the last transition of each episode
    batch = Batch.empty(64, stack, HEIGHT, WIDTH, steps)
    replay.sample(np.random.default_rng(0), batch)
    numbers_of = {shown.transitions[n][2][42:49]: n for n in range(len(shown.transitions))}
    for i in range(64):
        first = numbers_of[tuple(float(x) for x in batch.action[i])]
        last = min(first + steps, int(ends[np.searchsorted(ends, first, side="right")])) - 1
        count = last - first + 1
        # The reward of transition n is n.
        assert batch.reward[i] == pytest.approx(sum(discount**k * (first + k) for k in range(count)), rel=1e-6)
        assert batch.discount[i] == pytest.approx(discount**count)
        before, after = batch.frames[i, :stack], batch.frames[i, -stack:]
        np.testing.assert_array_equal(np.concatenate(list(before), axis=-1), shown.transitions[first][0])
        np.testing.assert_array_equal(np.concatenate(list(after), axis=-1), shown.transitions[last][1])
        numbers = shown.transitions[last][2]
        assert tuple(batch.next_proprioception[i].tolist()) == numbers[21:42]
        assert (batch.terminated[i], batch.truncated[i]) == numbers[-2:]


def test_sampling_is_uniform_over_live_transitions() -> None:
    replay, shown = FrameReplay(10, 2, HEIGHT, WIDTH), Shown(2, keep_stack=False)
    for _ in range(4):
        shown.play(replay, 5)
    numbers = [number for number, *_ in drawn(replay, size=20_000)]
    counts = np.bincount(numbers, minlength=20)
    assert counts[:10].sum() == 0
    assert np.all(np.abs(counts[10:] - 2000) < 300)


@pytest.mark.parametrize("share", [0.5, 8 / 15, 0.3, 0.01, 0.999])
@pytest.mark.parametrize("return_steps", [1, 3])
def test_a_share_of_the_transitions_is_spread_evenly_over_time(share: float, return_steps: int) -> None:
    replay = FrameReplay(300, 2, HEIGHT, WIDTH, sample_share=share, return_steps=return_steps, discount=0.5)
    shown = Shown(2, keep_stack=False)
    numbers_of: dict[tuple[float, ...], int] = {}
    chosen: set[int] = set()
    for episode in range(10):
        shown.play(replay, 50)
        numbers_of |= {shown.transitions[n][2][42:49]: n for n in range(50 * episode, len(shown.transitions))}
        batch = Batch.empty(5000, 2, HEIGHT, WIDTH, return_steps)
        replay.sample(np.random.default_rng(episode), batch)
        numbers = [numbers_of[tuple(action)] for action in batch.action.tolist()]
        live = range(max(0, replay.added - 300), replay.added)
        assert set(numbers) <= set(live)
        if share * len(live) < 3:
            continue  # too few for a share of them: all may be sampled
        assert len(set(numbers)) == pytest.approx(share * len(live), abs=3)
        assert np.bincount(numbers).max() < 3 * len(numbers) / len(set(numbers))  # uniformly
        if chosen:  # what may be sampled stays so: of the episodes before, the same again
            assert {n for n in chosen if n in live} == {n for n in numbers if n < replay.added - 50}
        chosen = set(numbers)


@pytest.mark.parametrize("steps", [15, 16, 75, 80, 150])
def test_a_share_has_its_part_of_every_place_in_an_episode(steps: int) -> None:
    replay, shown = FrameReplay(60 * steps, 2, HEIGHT, WIDTH, sample_share=8 / 15), Shown(2, keep_stack=False)
    for _ in range(60):
        shown.play(replay, steps)
    batch = Batch.empty(40_000, 2, HEIGHT, WIDTH)
    replay.sample(np.random.default_rng(0), batch)
    ends = batch.action[batch.terminated | batch.truncated]
    assert len(np.unique(ends, axis=0)) == pytest.approx(32, abs=4)
    assert len(ends) / len(batch.action) == pytest.approx(1 / steps, rel=0.3)


def test_a_whole_share_draws_the_same_numbers_as_ever() -> None:
    replay, shown = FrameReplay(20, 2, HEIGHT, WIDTH, sample_share=1.0), Shown(2, keep_stack=False)
    for _ in range(3):
        shown.play(replay, 9)
    expected = np.random.default_rng(5).integers(7, 27, size=64).tolist()
    assert [number for number, *_ in drawn(replay, seed=5)] == expected


def test_an_episode_costs_one_image_more_than_it_has_transitions() -> None:
    for keep_stack in (False, True):
        replay, shown = FrameReplay(300, 3, HEIGHT, WIDTH), Shown(3, keep_stack)
        shown.play(replay, 30)
        rows = replay.state_dict()["counters"][2]
        shown.play(replay, 30)
        assert replay.state_dict()["counters"][2] == rows + 31


def test_the_papers_replay_needs_little_more_than_a_frame_a_transition() -> None:
    sizes: dict[str, int] = {}

    def measure(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        sizes[name] = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.empty((1, *shape[1:]), dtype)  # far too small, but nothing is stored

    FrameReplay(100_000, 3, 90, 160, measure, margin=0, episode_steps=150)
    assert sum(sizes.values()) < 1.02 * 100_000 * 90 * 160 * 3


def test_reopened_files_hold_every_transition(tmp_path: Path) -> None:
    shown = Shown(3, keep_stack=True)
    replay = FrameReplay(20, 3, HEIGHT, WIDTH, memory_map(tmp_path))
    for steps in (7, 9, 11):
        shown.play(replay, steps)
    replay.flush()

    reopened = FrameReplay(20, 3, HEIGHT, WIDTH, memory_map(tmp_path))

    assert (reopened.added, len(reopened)) == (27, 20)
    assert_truthful(reopened, shown)
    shown.play(reopened, 6)
    assert_truthful(reopened, shown)


def test_files_opened_to_be_read_show_what_is_stored_later(tmp_path: Path) -> None:
    replay, shown = FrameReplay(9, 2, HEIGHT, WIDTH, memory_map(tmp_path)), Shown(2, keep_stack=False)
    reader = FrameReplay(9, 2, HEIGHT, WIDTH, memory_map(tmp_path, readonly=True))
    shown.play(replay, 5)
    assert_truthful(reader, shown)
    with pytest.raises(ValueError, match="read-only"):
        reader.frames[0] = 0


@pytest.mark.parametrize("return_steps", [1, 3])
def test_a_batch_that_names_its_frames_names_those_that_another_one_holds(return_steps: int) -> None:
    replay, shown = FrameReplay(30, 2, HEIGHT, WIDTH, return_steps=return_steps), Shown(2, keep_stack=True)
    for _ in range(6):
        shown.play(replay, 9)  # the ring wraps
        held, named = (Batch.empty(64, 2, HEIGHT, WIDTH, return_steps, named=named) for named in (False, True))
        for batch in (held, named):
            replay.sample(np.random.default_rng(0), batch)
        assert (held.rows.size, named.frames.size) == (0, 0)
        frames = replay.frames[named.rows % len(replay.frames)]
        np.testing.assert_array_equal(frames.reshape(held.frames.shape), held.frames)
        for name in ("proprioception", "next_proprioception", "action", "reward", "discount", "terminated"):
            np.testing.assert_array_equal(getattr(named, name), getattr(held, name))


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    FrameReplay(20, 3, HEIGHT, WIDTH, memory_map(tmp_path))
    (tmp_path / "frames.bin").write_bytes(b"short")
    with pytest.raises(RunError, match=r"frames\.bin holds 5 bytes"):
        FrameReplay(20, 3, HEIGHT, WIDTH, memory_map(tmp_path))


def test_more_than_the_margin_since_the_checkpoint_is_refused() -> None:
    replay, shown = FrameReplay(10, 2, HEIGHT, WIDTH, margin=3), Shown(2, keep_stack=False)
    for _ in range(3):
        shown.play(replay, 10)
    state = replay.state_dict()
    shown.play(replay, 4)
    with pytest.raises(OffbeatError, match="4 transitions came after the checkpoint, above the margin of 3"):
        replay.load_state_dict(state)


def test_misuse_is_refused_in_one_sentence() -> None:
    replay, shown = FrameReplay(10, 3, HEIGHT, WIDTH), Shown(3, keep_stack=False)
    first = shown.observe()
    with pytest.raises(OffbeatError, match="empty"):
        replay.sample(np.random.default_rng(0), Batch.empty(2, 3, HEIGHT, WIDTH))
    with pytest.raises(OffbeatError, match="outside an episode"):
        replay.add(np.zeros(7), 0.0, first, False, False)
    replay.begin_episode(first)
    shown.observe()
    skipped = shown.observe()
    with pytest.raises(OffbeatError, match="shifted by exactly one image"):
        replay.add(np.zeros(7), 0.0, skipped, False, False)
    wrong: Observation = {"image": np.zeros((2, 3, 6), np.uint8), "proprioception": np.zeros(21, np.float32)}
    with pytest.raises(OffbeatError, match=r"uint8 \(2, 3, 6\): uint8 \(2, 3, 9\) was expected"):
        replay.begin_episode(wrong)


def test_threads_gather_the_same_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offbeat.replay._PIECE_BYTES", 100)  # far less than an image of the batch below
    batches = []
    for threads in (1, 3):
        replay = FrameReplay(30, 3, HEIGHT, WIDTH, threads=threads)
        Shown(3, keep_stack=False).play(replay, 20)
        batch = Batch.empty(50, 3, HEIGHT, WIDTH)
        replay.sample(np.random.default_rng(2), batch)
        batches.append(batch.frames)
    assert batches[0].any()
    np.testing.assert_array_equal(*batches)
