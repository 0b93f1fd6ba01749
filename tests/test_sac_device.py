"""Where an update's data lie changes no result; all on a CPU, by the code that a GPU runs (test_sac_gpu.py)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_sac_learner import same

from offbeat.build import build_channels, build_policy, build_replay
from offbeat.checkpoint import read_checkpoint
from offbeat.config import ComputeConfig, EnvConfig, RunConfig, SACConfig, WallConfig, make_config
from offbeat.directory import REPLAY
from offbeat.errors import ConfigError
from offbeat.jobs import Start, build_job
from offbeat.replay import FrameReplay, memory_map
from offbeat.run import resume, train
from offbeat.sac import learner as learning
from offbeat.sac.device import BatchTensors, make_step, pin
from offbeat.sac.frames import DeviceFrames
from offbeat.sac.learner import Learner
from offbeat.timing.ledger import EpisodeRecord
from offbeat.timing.wall import WallClock
from offbeat.types import Batch, Observation

CPU = torch.device("cpu")
ENV = EnvConfig(height=20, width=28, stack=2)
SAC = SACConfig(batch_size=6, filters=4, hidden=(16, 16), strides=(2, 1), learning_rate=1e-3)


def play(replay: FrameReplay, rng: np.random.Generator, steps: int, env: EnvConfig = ENV) -> None:
    """Store an episode of random images."""

    def observe(image: np.ndarray) -> Observation:
        return {"image": image, "proprioception": rng.normal(size=3 * env.joints).astype(np.float32)}

    image = np.tile(rng.integers(0, 256, (env.height, env.width, 3), np.uint8), env.stack)
    replay.begin_episode(observe(image))
    for step in range(steps):
        newest = rng.integers(0, 256, (env.height, env.width, 3), np.uint8)
        image = np.concatenate([image[:, :, 3:], newest], axis=-1)
        action = rng.uniform(-1, 1, env.joints).astype(np.float32)
        replay.add(action, rng.random(), observe(image), False, step == steps - 1)


def batches(steps: int = 1) -> tuple[Batch, Batch]:
    """One that holds its frames and one that names them."""
    held, named = (Batch.empty(6, ENV.stack, ENV.height, ENV.width, steps, named=named) for named in (False, True))
    return held, named


@pytest.fixture(params=[True, False], ids=["in place", "copied"])
def in_place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learners that have the frames of a replay read them there, or keep a copy as on a GPU."""
    monkeypatch.setattr(learning, "DeviceFrames", partial(DeviceFrames, in_place=request.param))


@pytest.mark.parametrize("return_steps", [1, 3])
@pytest.mark.usefixtures("in_place")
def test_a_learner_that_has_the_frames_learns_the_same_as_one_that_is_given_them(return_steps: int) -> None:
    replay = FrameReplay(20, ENV.stack, ENV.height, ENV.width, return_steps=return_steps, discount=0.9)
    plain, resident = Learner(SAC, ENV, 0), Learner(SAC, ENV, 0, frames=replay.frames)
    rng = np.random.default_rng(0)
    for update in range(12):
        play(replay, rng, 5)  # the ring wraps after four
        for learner, batch in zip((plain, resident), batches(return_steps), strict=True):
            replay.sample(np.random.default_rng(update), batch)
            learner.update(batch)
        assert same(plain.state_dict(), resident.state_dict())


@pytest.mark.usefixtures("in_place")
def test_a_learner_that_has_the_frames_goes_back_to_a_checkpoint_with_the_replay() -> None:
    replay, rng = FrameReplay(20, ENV.stack, ENV.height, ENV.width, margin=20), np.random.default_rng(0)
    plain, resident = Learner(SAC, ENV, 0), Learner(SAC, ENV, 0, frames=replay.frames)
    play(replay, rng, 9)
    saved = replay.state_dict(), plain.state_dict()
    for update in range(3):
        if update == 2:
            replay.load_state_dict(saved[0])
            for learner in (plain, resident):
                learner.load_state_dict(saved[1])
        play(replay, rng, 6)
        for learner, batch in zip((plain, resident), batches(), strict=True):
            replay.sample(np.random.default_rng(update), batch)
            learner.update(batch)
    assert same(plain.state_dict(), resident.state_dict())


@given(
    size=st.integers(1, 70),
    steps=st.lists(st.integers(0, 150), min_size=1, max_size=6),
    forgotten=st.integers(0, 5),
)
def test_frames_are_uploaded_once_and_lie_where_they_are_looked_for(
    size: int, steps: list[int], forgotten: int
) -> None:
    """Frame number n shows n. What was uploaded is damaged at home, where it is not read again."""
    ring = np.zeros((size, 2 * 2 * 3), np.uint8)
    frames, end = DeviceFrames(ring, 2, 2, CPU, in_place=False), 0
    for index, step in enumerate(steps):
        for number in range(end, end + step):
            ring[number % size] = number % 251
        end += step
        if index == forgotten:
            frames.forget()
            for number in range(max(0, end - size), end):
                ring[number % size] = number % 251
        frames.upload(end)
        ring[:] = 255
        numbers = torch.arange(max(0, end - size), end)
        assert frames.images.shape == (size, 2, 2, 3)
        assert torch.equal(frames.images[numbers % size, 1, 1, 2].long(), numbers % 251)


def test_frames_stored_after_a_batch_was_drawn_do_not_take_the_place_of_its_own() -> None:
    replay, rng, (held, named) = FrameReplay(20, ENV.stack, ENV.height, ENV.width), np.random.default_rng(0), batches()
    frames = DeviceFrames(replay.frames, ENV.height, ENV.width, CPU, in_place=False)
    for round_ in range(5):
        play(replay, rng, 7)
        for batch in (held, named):
            replay.sample(np.random.default_rng(round_), batch)
        frames.upload(int(named.rows.max()) + 1)
        play(replay, rng, 30)  # the whole ring, and all that was live
        frames.upload(int(named.rows.max()) + 1)
        np.testing.assert_array_equal(frames.images[named.rows % len(frames.images)].numpy(), held.frames)


def test_frames_that_find_no_room_are_one_sentence() -> None:
    ring = np.broadcast_to(np.uint8(0), (2**45, 1200))
    with pytest.raises(ConfigError, match=r"frames \(42221246.5 GB\) find no room on cpu: use --compute.resident"):
        DeviceFrames(ring, 20, 20, CPU, in_place=False)  # type: ignore[arg-type]


def test_frames_in_place_are_the_replays_own_memory_which_may_be_read_only() -> None:
    ring = np.zeros((5, 2 * 2 * 3), np.uint8)
    view = ring.view()
    view.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = DeviceFrames(view, 2, 2, CPU)
    ring[3] = 7
    frames.upload(4)
    assert frames.images[3].unique().tolist() == [7]
    assert frames.images.data_ptr() == ring.ctypes.data


def test_a_batch_on_the_cpu_is_used_where_it_lies() -> None:
    batch, tensors = Batch.empty(2, 1, 16, 16), BatchTensors(CPU)
    tensors.load(batch)
    batch.reward[1] = 3.0
    assert tensors.reward.tolist() == [0.0, 3.0]
    images, rows = tensors.images()
    assert images.data_ptr() == batch.frames.ctypes.data
    assert rows.tolist() == [[0, 1], [2, 3]]


def fill(batch: Batch, number: int) -> None:
    for field in fields(Batch):
        getattr(batch, field.name)[...] = number % 2 if field.name.endswith("ated") else number


def shown(tensors: BatchTensors) -> set[int]:
    names = ("frames", "proprioception", "next_proprioception", "action", "reward", "discount")
    return {int(value) for name in names for value in getattr(tensors, name).unique()}


def test_copies_stay_in_their_place_and_slots_can_be_filled_again() -> None:
    """Three slots go round; each is filled again as soon as its batch was used, the next one is fetched ahead."""
    slots, tensors = [Batch.empty(2, 1, 16, 16) for _ in range(3)], BatchTensors(CPU, in_place=False)
    for number in range(2):
        fill(slots[number], number + 1)
    places = set()
    for number in range(2, 20):
        batch, upcoming = slots[(number - 2) % 3], slots[(number - 1) % 3]
        tensors.load(batch, upcoming if number % 5 else None)  # sometimes the next one is late
        fill(slots[number % 3], number + 1)
        assert shown(tensors) == {number - 1}
        assert tensors.terminated.tolist() == [bool((number - 1) % 2)] * 2
        places.add(tuple(getattr(tensors, field.name).data_ptr() for field in fields(Batch) if field.name != "rows"))
        fill(batch, 100)
    assert len(places) == 1


def test_what_was_fetched_ahead_is_used_next_or_never() -> None:
    slots, tensors = [Batch.empty(2, 1, 16, 16) for _ in range(3)], BatchTensors(CPU, in_place=False)
    for number, slot in enumerate(slots, start=1):
        fill(slot, number)
    tensors.load(slots[0], slots[1])
    tensors.load(slots[2])  # another one
    assert shown(tensors) == {3}
    fill(slots[1], 5)
    tensors.load(slots[1])
    assert shown(tensors) == {5}
    tensors.load(slots[0], slots[1])
    fill(slots[1], 6)
    tensors.forget()  # a checkpoint was loaded
    tensors.load(slots[1])
    assert shown(tensors) == {6}


def test_without_a_graph_a_step_is_the_eager_one() -> None:
    def eager() -> None:
        raise AssertionError

    assert make_step(eager, torch.Generator(), None) is eager


class CountingGenerator:
    """Stands for a generator that a failed capture makes useless."""

    def __init__(self, drawn: int = 0) -> None:
        self.drawn = drawn

    def clone_state(self) -> CountingGenerator:
        return CountingGenerator(self.drawn)

    def graphsafe_set_state(self, state: CountingGenerator) -> None:
        self.drawn = state.drawn


class FakeGraph:
    def register_generator_state(self, generator: CountingGenerator) -> None:
        self.generator = generator

    def replay(self) -> None:
        self.generator.drawn += 100


@pytest.mark.parametrize("works", [True, False])
def test_a_step_is_recorded_after_a_few_or_goes_on_as_it_was(
    works: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def record(graph: FakeGraph, stream: str) -> Iterator[None]:
        assert stream == "a stream"
        before = graph.generator.drawn
        yield
        graph.generator.drawn = before if works else -(10**9)
        if not works:
            raise RuntimeError("operation not permitted when stream is capturing\nCompile with more options.")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    generator: Any = CountingGenerator()

    def eager() -> None:
        generator.drawn += 1

    stream: Any = "a stream"
    step = make_step(eager, generator, stream)
    with caplog.at_level(logging.WARNING):
        for _ in range(8):
            step()
    assert generator.drawn == (503 if works else 8)
    told = [record.getMessage() for record in caplog.records]
    reason = "operation not permitted when stream is capturing"
    assert told == ([] if works else [f"The update could not be made a CUDA graph and runs step by step ({reason})."])


def test_without_a_gpu_nothing_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not pin(Batch.empty(2, 1, 16, 16))


def tiny(resident: Literal["on", "off"], **changes: Any) -> RunConfig:
    """Four episodes of ten cycles, learning from the second one on; the replay wraps."""
    config = make_config("async-base", "cpu")
    values: dict[str, Any] = {
        "minutes": 4 * 0.4 / 60,
        "warmup_s": 0.5,
        "replay_s": 0.8,
        "checkpoint_episodes": 2,
        "profile": "constant:act=3,store=0,sample=7,update=31",
        "env": replace(config.env, episode_s=0.4, fast_reset=True, reset_s=0.1),
        "sac": replace(config.sac, batch_size=4, filters=4, hidden=(16, 16)),
        "compute": ComputeConfig(device="cpu", precision="float32", compile="off", resident_frames=resident),
    }
    return replace(config, **(values | changes))


def stop_after(episode: int) -> Callable[[EpisodeRecord], None]:
    def interrupt(record: EpisodeRecord) -> None:
        if record.episode == episode:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.usefixtures("in_place")
def test_a_run_with_resident_frames_is_the_one_without_stopped_and_resumed_or_not(tmp_path: Path) -> None:
    assert train(tiny("off"), tmp_path / "off")["updates"] > 20
    with pytest.raises(KeyboardInterrupt):
        train(tiny("on"), tmp_path / "on", stop_after(2))
    resume(tmp_path / "on")
    for name in ("cycles.bin", "stages.bin", "episodes.csv"):
        assert (tmp_path / "off" / name).read_bytes() == (tmp_path / "on" / name).read_bytes()
    learners = [read_checkpoint(tmp_path / name / "checkpoint.pt")["parts"]["learner"] for name in ("off", "on")]
    assert same(*learners)


def learn(directory: Path, resident: Literal["on", "off"], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Twelve updates by the jobs of these worker processes, all in this one; returns the learner's tensors."""
    config = tiny(resident, clock="wall", wall=WallConfig(processes="auto"), warmup_s=0.2)
    writer, rng = build_replay(config, memory_map(directory / REPLAY)), np.random.default_rng(0)
    channels = build_channels(config, build_policy(config), len(names))
    clock, start = WallClock(0.0), Start(config.seed)
    jobs = [build_job(name, config, directory, channels, start, clock) for name in names]
    workers = [worker for job in jobs for worker in job.workers]
    while channels.weights.state_dict()["version"] < 12:
        play(writer, rng, 4, config.env)
        for _ in range(2):  # a batch more than is used, so that the next is known
            for worker in workers[: 1 + (writer.added > 12)]:
                if worker.ready():
                    worker.start()
                    worker.finish()
    save = jobs[-1].save
    assert save is not None
    save()
    return read_checkpoint(directory / "checkpoint.pt")["parts"]["learner"]


@pytest.mark.parametrize("names", [("sampling", "updating"), ("learning",)], ids=["separate", "joined"])
def test_worker_processes_with_resident_frames_learn_the_same(names: tuple[str, ...], tmp_path: Path) -> None:
    off, on = learn(tmp_path / "off", "off", names), learn(tmp_path / "on", "on", names)
    assert off["updates"] == 12
    assert same(off, on)
