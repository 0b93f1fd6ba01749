from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offbeat.sac.losses import (
    actor_loss,
    bootstrap_mask,
    critic_loss,
    soft_target,
    squashed_gaussian,
    temperature_loss,
)


def test_soft_target_by_hand() -> None:
    target = soft_target(
        reward=torch.tensor([1.0, 2.0]),
        bootstrap=torch.tensor([1.0, 0.0]),
        discount=torch.tensor([0.9, 0.8]),
        next_q=torch.tensor([[10.0, 4.0], [8.0, 6.0]]),
        next_log_prob=torch.tensor([-5.0, 3.0]),
        temperature=torch.tensor(0.2),
    )
    # 1 + 0.9 (min(10, 8) + 0.2 x 5) = 9.1; the second state is terminal, so its reward alone.
    torch.testing.assert_close(target, torch.tensor([9.1, 2.0]))


def test_critic_loss_by_hand() -> None:
    q = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    # Twin 1: (4 + 1) / 4; twin 2: (0 + 9) / 4.
    assert critic_loss(q, torch.tensor([3.0, 3.0])).item() == pytest.approx(3.5)


def test_actor_loss_by_hand() -> None:
    q = torch.tensor([[1.0, 5.0], [2.0, 4.0]])
    # (0.5 x 2 - 1 + 0.5 x (-4) - 4) / 2
    assert actor_loss(torch.tensor([2.0, -4.0]), q, torch.tensor(0.5)).item() == pytest.approx(-3.0)


def test_temperature_loss_by_hand_and_its_direction() -> None:
    log_temperature = torch.tensor(math.log(0.1), requires_grad=True)
    loss = temperature_loss(log_temperature, torch.tensor([5.0, 11.0]), target_entropy=-7.0)
    # Entropy -8 is below the target of -7, so the loss falls as the temperature rises: -0.1 x (8 - 7).
    assert loss.item() == pytest.approx(-0.1)
    loss.backward()
    assert log_temperature.grad is not None and log_temperature.grad.item() == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("bootstrap_timeouts", "expected"), [(True, [1.0, 1.0, 0.0, 0.0]), (False, [1.0, 0.0, 0.0, 0.0])]
)
def test_what_a_time_out_means_is_a_switch(bootstrap_timeouts: bool, expected: list[float]) -> None:
    terminated = torch.tensor([False, False, True, True])
    truncated = torch.tensor([False, True, False, True])
    assert bootstrap_mask(terminated, truncated, bootstrap_timeouts).tolist() == expected


def test_log_density_of_a_squashed_gaussian_by_hand() -> None:
    action, log_prob = squashed_gaussian(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    assert action[0].tolist() == pytest.approx([0.0, math.tanh(1.0)])
    # Two standard normals at 0 and 1, less log(1 - 0) and log(1 - tanh(1)^2).
    expected = 2 * -0.5 * math.log(2 * math.pi) - 0.5 - math.log(1 - math.tanh(1.0) ** 2)
    assert log_prob.item() == pytest.approx(expected, abs=1e-5)


@given(mean=st.floats(-2, 2), log_std=st.floats(-3, 1), noise=st.floats(-2, 2))
def test_log_density_matches_the_change_of_variables(mean: float, log_std: float, noise: float) -> None:
    values = (torch.tensor([[value]], dtype=torch.float64) for value in (mean, log_std, noise))
    action, log_prob = squashed_gaussian(*values)
    raw = mean + math.exp(log_std) * noise
    density = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi) - math.log(1 / math.cosh(raw) ** 2)
    assert action.item() == pytest.approx(math.tanh(raw), abs=1e-9)
    assert log_prob.item() == pytest.approx(density, abs=1e-6)


@pytest.mark.parametrize("mean", [-80.0, 80.0])
def test_saturated_actions_keep_finite_densities_and_gradients(mean: float) -> None:
    raw = torch.tensor([[mean]], requires_grad=True)
    action, log_prob = squashed_gaussian(raw, torch.zeros(1, 1), torch.zeros(1, 1))
    log_prob.sum().backward()
    assert abs(action.item()) == 1.0
    assert math.isfinite(log_prob.item())
    assert raw.grad is not None and abs(raw.grad.item()) == pytest.approx(2.0)
