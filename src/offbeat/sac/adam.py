"""Adam (Kingma and Ba 2015) for one tensor.

torch's own fused step, called as a function: `torch.optim.Adam` computes the same, and loads torch's compiler to do
so, which takes every process that learns some seconds to begin.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

_EPSILON = 1e-8


class Adam:
    """Moves a tensor against its gradients, and keeps what it remembers of them beside it, on the same device."""

    def __init__(self, weights: Tensor, rate: float, betas: tuple[float, float]) -> None:
        """weights: float32, changed in place. betas: shares that the means of gradient and square keep in a step."""
        self._weights, self._rate, self._betas = weights.detach(), rate, betas
        self._mean, self._square = torch.zeros_like(self._weights), torch.zeros_like(self._weights)
        self._steps = torch.zeros((), device=weights.device)

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """One step; gradient: the shape of the weights."""
        adam(
            [self._weights],
            [gradient],
            [self._mean],
            [self._square],
            [],
            [self._steps],
            fused=True,
            capturable=self._steps.is_cuda,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=self._rate,
            weight_decay=0.0,
            eps=_EPSILON,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Tensor]:
        """What the next step depends on beside the weights, as copies on the CPU."""
        return {name: tensor.cpu().clone() for name, tensor in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken. Raises: KeyError or RuntimeError when it does not fit."""
        for name, tensor in self._state().items():
            tensor.copy_(state[name])

    def _state(self) -> dict[str, Tensor]:
        return {"mean": self._mean, "square": self._square, "steps": self._steps}
