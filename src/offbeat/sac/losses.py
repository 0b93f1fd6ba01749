"""The objectives of Soft Actor-Critic, an equation a function (Eqs. 1 and 2 of the paper).

B is the batch size and 2 the twin critics. All functions are pure and differentiable; what must not receive a
gradient is said per argument and is the caller's to detach.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def squashed_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Sample tanh(u), u ~ N(mean, std), and its log-density (Haarnoja et al. 2018, appendix C, Eq. 21).

    mean, log_std, noise: (B, N), noise standard normal. Returns actions (B, N) in [-1, 1] and log pi (B,) in nats.

    The correction log(1 - tanh(u)^2) is computed as 2 (log 2 - u - softplus(-2u)), which is exact in real numbers and
    stays finite where tanh(u) rounds to 1.
    """
    raw = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    correction = 2 * (math.log(2) - raw - functional.softplus(-2 * raw))
    return raw.tanh(), (gaussian - correction).sum(-1)


def soft_target(
    reward: Tensor, bootstrap: Tensor, discount: Tensor, next_q: Tensor, next_log_prob: Tensor, temperature: Tensor
) -> Tensor:
    """The regression target of Eq. 1, R + gamma V(s'), over one step or several (Sutton 1988).

    V(s') = min_i Q_i(s', a') - temperature log pi(a'|s'). reward, bootstrap, discount, next_log_prob: (B,); reward is
    the discounted sum over the steps, discount that of all of them; bootstrap is 1 where the next state has a value
    and 0 where it has none. next_q: (2, B) of the target networks at an action of the policy. Returns (B,).
    """
    value = next_q.amin(0) - temperature * next_log_prob
    return reward + discount * bootstrap * value


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Eq. 1: the mean of (Q - target)^2 / 2 over the batch, summed over the twins.

    q: (2, B). target: (B,), without gradient.
    """
    return 0.5 * (q - target).square().mean(-1).sum()


def actor_loss(log_prob: Tensor, q: Tensor, temperature: Tensor) -> Tensor:
    """Eq. 2: the mean of temperature log pi(a|s) - min_i Q_i(s, a), a drawn from the policy by reparametrisation.

    log_prob: (B,). q: (2, B), differentiable in the action alone. temperature: without gradient.
    """
    return (temperature * log_prob - q.amin(0)).mean()


def temperature_loss(log_temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Haarnoja et al. 2018b, Eq. 18: temperature x (entropy - target entropy), falling as a lack of entropy heats up.

    log_temperature: (). log_prob: (B,), without gradient. target_entropy in nats.
    """
    return -(log_temperature.exp() * (log_prob + target_entropy).mean())


def bootstrap_mask(terminated: Tensor, truncated: Tensor, bootstrap_timeouts: bool) -> Tensor:
    """1.0 where the next state has a value: not terminated and, unless time-outs bootstrap, not truncated; (B,)."""
    ended = terminated if bootstrap_timeouts else terminated | truncated
    return torch.logical_not(ended).to(torch.float32)
