"""The update on a GPU: recorded or not, frames resident or not, stopped and resumed or not, it learns the same.

Tolerances. With torch's deterministic algorithms, two ways that compute the same on the same data agree bit by bit. A
recording may have chosen other kernels than its eager steps; its sums then differ in the last bits, which ten updates
of Adam carry to at most REL_LOSS of a loss and ABS_WEIGHT of a weight, whose steps are 1e-3.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_run import tiny
from test_sac_device import ENV, SAC, play
from test_sac_learner import same

from offbeat.checkpoint import read_checkpoint
from offbeat.config import ComputeConfig
from offbeat.replay import FrameReplay
from offbeat.run import _make_torch_deterministic, train
from offbeat.sac.device import make_step, make_stream, pin, pinned
from offbeat.sac.learner import Learner
from offbeat.schedules.shared import SharedSlots
from offbeat.types import Batch

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
REL_LOSS, ABS_WEIGHT = 1e-3, 1e-4
UPDATES = 10


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    _make_torch_deterministic()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(autouse=True)
def no_fallback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A capture that fails is a warning, and here a failure."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [record.getMessage() for record in caplog.records if "CUDA graph" in record.getMessage()] == []


def compute(**changes: Any) -> ComputeConfig:
    return ComputeConfig(**({"device": DEVICE, "precision": "float32", "compile": "off"} | changes))


def make_learner(frames: np.ndarray | None = None, **changes: Any) -> Learner:
    return Learner(SAC, ENV, 0, compute=compute(**changes), frames=frames)


def filled() -> FrameReplay:
    replay = FrameReplay(20, ENV.stack, ENV.height, ENV.width)
    play(replay, np.random.default_rng(0), 12)
    return replay


def draw(replay: FrameReplay, seed: int, named: bool = False) -> Batch:
    batch = pinned(Batch.empty(SAC.batch_size, ENV.stack, ENV.height, ENV.width, named=named))
    replay.sample(np.random.default_rng(seed), batch)
    return batch


def assert_close(one: Learner, other: Learner) -> None:
    first, second = one.state_dict(), other.state_dict()
    for name in ("online", "target", "log_temperature"):
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=ABS_WEIGHT)
    assert torch.equal(first["generator"], second["generator"])
    np.testing.assert_allclose(one.policy.weights(), other.policy.weights(), rtol=0, atol=ABS_WEIGHT)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_recorded_update_learns_like_an_eager_one(precision: str) -> None:
    replay = filled()
    eager, graphed = (make_learner(cuda_graph=graph, precision=precision) for graph in (False, True))
    for update in range(UPDATES):
        batch = draw(replay, update)
        one, other = eager.update(batch), graphed.update(batch)
        assert one == pytest.approx(other, rel=REL_LOSS if precision == "float32" else 0.05)
    if precision == "float32":
        assert_close(eager, graphed)
    online = graphed.state_dict()["online"][-len(graphed.policy.weights()) :]
    assert np.array_equal(graphed.policy.weights(), online.numpy())


def test_the_critics_loss_is_that_of_a_cpu() -> None:
    """Where all transitions end, it depends on no random number but the crops, which are of no size here."""
    batch = draw(filled(), 0)
    batch.terminated[:] = True
    losses = [
        Learner(replace(SAC, crop_share=0.0), ENV, 0, compute=way).update(batch)["critic_loss"]
        for way in (compute(), compute(device="cpu"))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("graph", [False, True])
def test_resident_frames_and_slots_learn_the_same(graph: bool) -> None:
    replay, rng = filled(), np.random.default_rng(1)
    slots, resident = make_learner(cuda_graph=graph), make_learner(replay.frames, cuda_graph=graph)
    for update in range(UPDATES):
        play(replay, rng, 5)  # the ring wraps
        one, other = slots.update(draw(replay, update)), resident.update(draw(replay, update, named=True))
        assert one == other
    assert same(slots.state_dict(), resident.state_dict())


def test_batches_fetched_ahead_and_not_learn_the_same() -> None:
    """Three slots, each overwritten as soon as its update returned."""
    replay = filled()
    plain, ahead = make_learner(), make_learner()
    slots = [draw(replay, number) for number in range(3)]
    for update in range(UPDATES):
        batch, upcoming = slots[update % 3], slots[(update + 1) % 3]
        assert plain.update(draw(replay, update)) == ahead.update(batch, upcoming)
        batch.frames[:] = 0
        replay.sample(np.random.default_rng(update + 3), batch)
    assert same(plain.state_dict(), ahead.state_dict())


@pytest.mark.parametrize("recorded", [False, True])
def test_a_resumed_learner_goes_on(recorded: bool) -> None:
    """In a new learner, and in one that has a recording of its own."""
    replay = filled()
    learner, resumed = make_learner(), make_learner()
    for update in range(UPDATES):
        learner.update(draw(replay, update))
        if recorded:
            resumed.update(draw(replay, update + 50))
    state = learner.state_dict()
    assert all(value.device.type == "cpu" for value in state["adam"].values())
    resumed.load_state_dict(state)
    assert same(resumed.state_dict(), state)
    for update in range(UPDATES, 2 * UPDATES):
        one, other = learner.update(draw(replay, update)), resumed.update(draw(replay, update))
        assert one == pytest.approx(other, rel=REL_LOSS)
    assert_close(learner, resumed)


def test_a_virtual_run_repeats_bit_by_bit(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert train(tiny(compute=compute()), tmp_path / name)["updates"] > 20
    learners = [read_checkpoint(tmp_path / name / "checkpoint.pt")["parts"]["learner"] for name in ("one", "two")]
    assert same(*learners)


def count_and_draw(graphed: bool, stumbles: bool = False) -> float:
    """Eight steps that each add a random number. stumbles: a step that cannot be recorded."""
    device = torch.device(DEVICE)
    generator, total = torch.Generator(device).manual_seed(0), torch.zeros((), device=device)
    stream = make_stream(device)
    assert stream is not None

    def eager() -> None:
        total.add_(torch.rand((), device=device, generator=generator))
        if stumbles:
            total.item()

    step = make_step(eager, generator, stream if graphed else None)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(8):
            step()
        return total.item()


def test_a_recording_counts_and_draws_like_eager_steps() -> None:
    assert count_and_draw(False) == count_and_draw(True)


def test_slots_are_pinned_once() -> None:
    """What cannot be pinned, here because it is, is told and disturbs nothing later."""
    batch = SharedSlots(4, 3, 2, 5).batches[0]
    assert pin(batch)
    assert torch.from_numpy(batch.frames).is_pinned()
    batch.frames[:] = 7
    assert bool((torch.from_numpy(batch.frames).to(DEVICE, non_blocking=True) == 7).all())
    assert not pin(batch)
    assert torch.ones(3, device=DEVICE).sum().item() == 3.0


def test_what_cannot_be_recorded_goes_on_eagerly_and_draws_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """The last test here: a failed capture is never quite forgotten by the process."""
    assert count_and_draw(False) == count_and_draw(True, stumbles=True)
    assert "could not be made a CUDA graph" in caplog.text
    caplog.clear()
