from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from offbeat.config import make_config
from offbeat.errors import ConfigError, RunError
from offbeat.sac.augment import centre_crop
from offbeat.sac.networks import Layout, act_distribution, encode, proprioception_scale, unpack
from offbeat.sac.policy import Policy
from offbeat.types import Observation

CPU = make_config(scale="cpu")
SAC = replace(CPU.sac, filters=4, hidden=(16,), strides=(2, 2, 1))


def observation(seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (36, 64, 9), dtype=np.uint8)
    return {"image": image, "proprioception": rng.uniform(-1, 1, 21).astype(np.float32)}


def test_an_action_is_a_float32_vector_in_the_unit_cube() -> None:
    policy = Policy(SAC, CPU.env, seed=0)
    for _ in range(20):
        action = policy.act(observation())
        assert action.shape == (7,) and action.dtype == np.float32
        assert np.all(np.abs(action) <= 1)


def test_untrained_actions_spread_like_a_squashed_standard_normal() -> None:
    policy = Policy(replace(SAC, exploration_time_s=0.0), CPU.env, seed=0)
    actions = np.array([policy.act(observation(seed)) for seed in range(300)])
    # The standard deviation of tanh(N(0, 1)) is 0.628.
    assert actions.std() == pytest.approx(0.628, abs=0.03)
    assert actions.mean() == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize(("time_s", "correlation"), [(0.0, 0.0), (0.1, 0.670), (0.4, 0.905)])
def test_noise_is_correlated_over_seconds_and_keeps_its_spread(time_s: float, correlation: float) -> None:
    policy = Policy(replace(SAC, exploration_time_s=time_s), replace(CPU.env, cycle_s=0.04), seed=0)
    seen = observation()
    raw = np.arctanh([policy.act(seen).astype(np.float64) * (1 - 1e-9) for _ in range(1500)])
    raw -= np.arctanh(policy.act(seen, deterministic=True))
    # exp(-0.04 / 0.1) and exp(-0.04 / 0.4), whatever the policy's standard deviation of about 1.
    assert (raw[1:] * raw[:-1]).mean() / (raw**2).mean() == pytest.approx(correlation, abs=0.04)
    assert raw.std() == pytest.approx(1.0, abs=0.15)


def test_the_same_seed_acts_alike_and_another_does_not() -> None:
    one, two, other = (Policy(SAC, CPU.env, seed) for seed in (5, 5, 6))
    for _ in range(3):
        action = one.act(observation())
        assert np.array_equal(action, two.act(observation()))
        assert not np.array_equal(action, other.act(observation()))


def test_a_deterministic_action_repeats_and_draws_nothing() -> None:
    policy, twin = Policy(SAC, CPU.env, 0), Policy(SAC, CPU.env, 0)
    first = policy.act(observation(), deterministic=True)
    assert np.array_equal(first, policy.act(observation(), deterministic=True))
    assert np.array_equal(policy.act(observation()), twin.act(observation()))


def test_a_policy_sees_image_and_proprioception_in_their_order() -> None:
    policy, seen = Policy(SAC, CPU.env, 0), observation()
    action = policy.act(seen, deterministic=True)
    swapped: Observation = {**seen, "image": np.roll(seen["image"], 3, axis=-1)}
    moved: Observation = {**seen, "proprioception": seen["proprioception"] + np.float32(0.3)}
    assert not np.array_equal(action, policy.act(swapped, deterministic=True))
    assert not np.array_equal(action, policy.act(moved, deterministic=True))


def test_weights_travel_as_a_copy_of_one_flat_vector() -> None:
    sender, receiver = Policy(SAC, CPU.env, 0), Policy(SAC, CPU.env, 1)
    flat = sender.weights()
    assert flat.ndim == 1 and flat.dtype == np.float32
    receiver.load_weights(flat)
    assert np.array_equal(sender.act(observation(), True), receiver.act(observation(), True))
    flat[:] = 0
    assert not np.array_equal(sender.weights(), flat)
    assert not np.array_equal(receiver.weights(), flat)


def test_weights_of_another_size_are_refused() -> None:
    policy = Policy(SAC, CPU.env, 0)
    with pytest.raises(
        ConfigError, match=r"shape \(3,\) do not fit a policy of \d+ numbers: build both from one configuration"
    ):
        policy.load_weights(np.zeros(3, np.float32))


def test_a_restored_policy_goes_on_where_it_was() -> None:
    policy, restored = Policy(SAC, CPU.env, 0), Policy(SAC, CPU.env, 9)
    policy.act(observation())
    state = policy.state_dict()
    expected = [policy.act(observation()) for _ in range(3)]
    restored.load_state_dict(state)
    assert np.array_equal(expected, [restored.act(observation()) for _ in range(3)])


def test_a_damaged_state_is_refused() -> None:
    with pytest.raises(RunError, match="does not fit this configuration or is damaged"):
        Policy(SAC, CPU.env, 0).load_state_dict({"weights": None})


def test_an_action_is_what_the_learners_networks_say_of_the_stack() -> None:
    policy, seen, layout = Policy(CPU.sac, CPU.env, 0), observation(3), Layout(CPU.sac, CPU.env)
    flat = np.random.default_rng(0).normal(scale=0.1, size=policy.weights().shape).astype(np.float32)
    policy.load_weights(flat)
    encoder, actor = unpack(torch.from_numpy(flat), layout.encoder, layout.actor)
    offset, factor = proprioception_scale(CPU.env)
    stack = torch.from_numpy(centre_crop(seen["image"], layout.crop)).unflatten(-1, (3, 3)).permute(2, 0, 1, 3)
    features = encode(encoder, stack[None].contiguous(), CPU.sac.strides)
    state = (torch.from_numpy(seen["proprioception"]) - offset) * factor
    mean, _ = act_distribution(actor, torch.cat((features, state[None]), -1), -10.0, 10.0)
    np.testing.assert_allclose(policy.act(seen, deterministic=True), mean.tanh()[0].numpy(), atol=2e-5)
    assert np.ptp(mean.tanh().numpy()) > 0.1
