from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from offbeat.config import ComputeConfig, EnvConfig, SACConfig
from offbeat.errors import RunError
from offbeat.sac.learner import METRICS, Learner
from offbeat.sac.networks import Layout, initial_weights, make_generator, proprioception_scale, spatial_softmax, unpack
from offbeat.types import Batch, Observation

ENV = EnvConfig(height=20, width=28, stack=2)
SAC = SACConfig(batch_size=6, filters=4, hidden=(16, 16), strides=(2, 1), learning_rate=1e-3)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def random_batch(seed: int = 0, size: int = 6, env: EnvConfig = ENV) -> Batch:
    rng = np.random.default_rng(seed)
    batch = Batch.empty(size, env.stack, env.height, env.width)
    batch.frames[:] = rng.integers(0, 256, batch.frames.shape)
    batch.proprioception[:] = rng.normal(size=(size, 21))
    batch.next_proprioception[:] = rng.normal(size=(size, 21))
    batch.action[:] = rng.uniform(-1, 1, (size, 7))
    batch.reward[:] = rng.uniform(0, 6, size)
    batch.discount[:] = 0.99
    batch.terminated[:] = rng.random(size) < 0.3
    batch.truncated[:] = rng.random(size) < 0.3
    return batch


def same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


def test_an_update_reports_finite_metrics_and_changes_the_policy() -> None:
    learner = Learner(SAC, ENV, seed=0)
    before = learner.policy.weights()
    metrics = learner.update(random_batch())
    assert tuple(metrics) == METRICS
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["temperature"] == pytest.approx(0.1)
    assert not np.array_equal(before, learner.policy.weights())


def test_runs_of_one_seed_are_equal_bit_by_bit() -> None:
    one, two, other = (Learner(SAC, ENV, seed) for seed in (0, 0, 1))
    for step in range(4):
        assert one.update(random_batch(step)) == two.update(random_batch(step))
        other.update(random_batch(step))
    assert same(one.state_dict(), two.state_dict())
    assert not same(one.state_dict(), other.state_dict())


def test_a_resumed_run_equals_one_that_was_never_stopped() -> None:
    learner = Learner(SAC, ENV, seed=0)
    seen: Observation = {"image": np.tile(random_batch().frames[0, 0], 2), "proprioception": np.zeros(21, np.float32)}
    for step in range(3):
        learner.update(random_batch(step))
        learner.policy.act(seen)
    file = io.BytesIO()
    torch.save(learner.state_dict(), file)
    file.seek(0)
    resumed = Learner(SAC, ENV, seed=7)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for step in range(3, 6):
        assert learner.update(random_batch(step)) == resumed.update(random_batch(step))
        assert np.array_equal(learner.policy.act(seen), resumed.policy.act(seen))
    assert same(learner.state_dict(), resumed.state_dict())


def test_a_saved_state_is_a_copy() -> None:
    learner = Learner(SAC, ENV, seed=0)
    learner.update(random_batch())
    state = learner.state_dict()
    twin = Learner(SAC, ENV, seed=0)
    twin.update(random_batch())
    learner.update(random_batch(1))
    assert same(state, twin.state_dict())


def test_states_that_do_not_fit_are_refused() -> None:
    learner = Learner(SAC, ENV, seed=0)
    larger = Learner(replace(SAC, filters=8), ENV, seed=0)
    with pytest.raises(RunError, match=r"holds \d+ numbers in 'online', this one \d+: resume with the configuration"):
        learner.load_state_dict(larger.state_dict())
    state = learner.state_dict()
    del state["generator"]
    with pytest.raises(
        RunError, match=r"damaged or incomplete or of another version .*: train anew, into another --out"
    ):
        learner.load_state_dict(state)


def test_the_target_follows_critics_and_encoder_by_polyak() -> None:
    learner = Learner(replace(SAC, polyak=0.25), ENV, seed=0)
    start = learner.state_dict()["target"]
    learner.update(random_batch())
    state = learner.state_dict()
    online = state["online"][: len(start)]
    assert not torch.equal(online, start)
    torch.testing.assert_close(state["target"], 0.75 * start + 0.25 * online)


def test_gradients_equal_those_of_separate_plain_losses() -> None:
    """One update against a reference that shares nothing: stacked channels, single critics, a loss at a time."""
    sac = replace(SAC, crop_share=0.0, bootstrap_timeouts=False)
    learner, batch = Learner(sac, ENV, seed=3), random_batch(5)
    metrics = learner.update(batch)
    gradient = learner.state_dict()["adam"]["mean"] / (1 - sac.betas[0])
    reference, critic, actor = reference_gradient(sac, batch, seed=3)
    assert metrics["critic_loss"] == pytest.approx(critic, rel=1e-4)
    assert metrics["actor_loss"] == pytest.approx(actor, rel=1e-4)
    torch.testing.assert_close(gradient, reference, atol=2e-5 * float(reference.abs().max()), rtol=1e-3)


def reference_gradient(sac: SACConfig, batch: Batch, seed: int) -> tuple[torch.Tensor, float, float]:
    layout = Layout(sac, ENV)
    flat = initial_weights(layout, seed).requires_grad_()
    critics, encoder, actor = unpack(flat, layout.critics, layout.encoder, layout.actor)
    generator = make_generator(seed, "learner")
    for _ in range(4):  # the rows and columns of two crops
        torch.randint(1, (6,), generator=generator)
    noise, next_noise = torch.randn(2, 6, 7, generator=generator)
    offset, factor = proprioception_scale(ENV)

    def features(frames: np.ndarray, state: np.ndarray) -> torch.Tensor:
        maps = torch.tensor(frames).permute(0, 1, 4, 2, 3).flatten(1, 2).float() / 255 - 0.5
        (w0, b0), (w1, b1) = encoder
        maps = functional.conv2d(maps, w0.permute(0, 1, 4, 2, 3).flatten(1, 2), b0, 2).relu()
        maps = functional.conv2d(maps, w1.permute(0, 3, 1, 2), b1, 1)
        return torch.cat((spatial_softmax(maps), (torch.tensor(state) - offset) * factor), 1)

    def mlp(layers: Any, x: torch.Tensor) -> torch.Tensor:
        for weight, bias in layers[:-1]:
            x = (x @ weight + bias).relu()
        return x @ layers[-1][0] + layers[-1][1]

    def act(x: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, raw = mlp(actor, x).split(7, 1)
        normal = torch.distributions.Normal(mean, (10 * raw.tanh()).exp())
        u = mean + normal.stddev * drawn
        return u.tanh(), (normal.log_prob(u) - (1 - u.tanh() ** 2).log()).sum(1)

    def values(x: torch.Tensor, action: torch.Tensor) -> list[torch.Tensor]:
        pair = torch.cat((x, action), 1)
        return [mlp([(weight[i], bias[i, 0]) for weight, bias in critics], pair)[:, 0] for i in range(2)]

    with torch.no_grad():  # at the first update the target network equals the online one
        x = features(batch.frames[:, 1:], batch.next_proprioception)
        next_action, log_prob = act(x, next_noise)
        value = torch.minimum(*values(x, next_action)) - 0.1 * log_prob
        y = torch.tensor(batch.reward) + 0.99 * torch.tensor(~(batch.terminated | batch.truncated)).float() * value
    x = features(batch.frames[:, :-1], batch.proprioception)
    of_critics = torch.stack([0.5 * ((q - y) ** 2).mean() for q in values(x, torch.tensor(batch.action))]).sum()
    action, log_prob = act(x.detach(), noise)
    of_actor = (0.1 * log_prob - torch.minimum(*values(x.detach(), action))).mean()
    gradient = torch.autograd.grad(of_critics, flat, retain_graph=True)[0]
    split = flat.numel() - sum(weight.numel() + bias.numel() for weight, bias in actor)
    gradient[split:] = torch.autograd.grad(of_actor, flat)[0][split:]
    return gradient, of_critics.item(), of_actor.item()


def test_bfloat16_stays_close_to_float32_over_a_hundred_updates() -> None:
    """The same state, batches and random numbers; the bounds are about four times what was seen."""
    plain, fast = (
        Learner(SAC, ENV, seed=0, compute=ComputeConfig(device="cpu", precision=precision))
        for precision in ("float32", "bfloat16")
    )
    start = plain.state_dict()["online"]
    losses = np.array([[list(x.update(random_batch(step)).values()) for x in (plain, fast)] for step in range(100)])
    one, two = (x.state_dict()["online"] for x in (plain, fast))
    error, scale = np.abs(losses[:, 0] - losses[:, 1]), np.abs(losses[:, 0])
    assert np.median(error / scale, axis=0).max() < 8e-4
    assert float((one - two).norm() / (one - start).norm()) < 0.1
    assert not torch.equal(one, two)


def test_a_timeout_is_discounted_like_any_state_or_ends_everything() -> None:
    batch = random_batch()
    batch.terminated[:] = False
    batch.truncated[:] = True

    def loss(discount: float, **changes: Any) -> float:
        batch.discount[:] = discount
        return Learner(replace(SAC, **changes), ENV, seed=0).update(batch)["critic_loss"]

    assert loss(0.99) != loss(0.5)
    assert loss(0.99, bootstrap_timeouts=False) != loss(0.99)
    assert loss(0.99, bootstrap_timeouts=False) == loss(0.5, bootstrap_timeouts=False)


def test_learns_to_point_at_a_blob() -> None:
    """A contextual bandit: the best first two actions are the place of a red blob in the image."""
    env = EnvConfig(height=24, width=32, stack=2)
    sac = SACConfig(batch_size=32, filters=8, hidden=(64, 64), strides=(2, 2, 1), learning_rate=2e-3)
    learner, rng = Learner(sac, env, seed=0), np.random.default_rng(0)

    def scenes(number: int) -> tuple[np.ndarray, np.ndarray]:
        place = rng.uniform(-0.7, 0.7, (number, 2)).astype(np.float32)
        y, x = np.mgrid[-1:1:24j, -1:1:32j]
        blob = (np.abs(x - place[:, 0, None, None]) < 0.2) & (np.abs(y - place[:, 1, None, None]) < 0.25)
        wood = rng.integers(120, 160, (number, 24, 32, 3))
        return np.where(blob[..., None], [150, 30, 40], wood).astype(np.uint8), place

    def error() -> float:
        observations: list[Observation] = [
            {"image": np.tile(image, 2), "proprioception": np.zeros(21, np.float32)} for image in images
        ]
        actions = np.array([learner.policy.act(seen, deterministic=True)[:2] for seen in observations])
        return float(np.abs(actions - places).mean())

    images, places = scenes(50)
    before, batch = error(), Batch.empty(32, 2, 24, 32)
    batch.terminated[:] = True
    for _ in range(300):
        frames, place = scenes(32)
        batch.frames[:] = frames[:, None]
        batch.action[:] = np.tanh(rng.normal(size=(32, 7)))
        batch.reward[:] = 3 * (1 - np.square(batch.action[:, :2] - place).mean(1))
        learner.update(batch)
    assert before > 0.3
    assert error() < 0.12
