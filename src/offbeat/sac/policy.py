"""What acts: the encoder and the actor on the centre crop of one observation, numpy in and numpy out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from offbeat.config import EnvConfig, SACConfig
from offbeat.errors import ConfigError, RunError
from offbeat.sac.augment import centre_crop
from offbeat.sac.networks import (
    Layers,
    Layout,
    act_distribution,
    count,
    initial_weights,
    make_generator,
    proprioception_scale,
    spatial_softmax,
    unpack,
)
from offbeat.types import FloatArray, Observation


class Policy:
    """A squashed Gaussian policy with weights and random numbers of its own, always on the CPU.

    Every action has the policy's own distribution, but its noise is correlated in time (a first-order autoregression;
    see Eberhard et al. 2023, "Pink noise is all you need"), over seconds and not over steps: a policy of 25 commands
    a second then explores as far as one of 12. The paper's noise is independent.

    Two policies of one configuration and seed act alike, and like the learner's before its first update. The learner
    gives its own policy `weights` to act from in place; any other policy is brought up to date by `load_weights`.
    """

    def __init__(self, config: SACConfig, env: EnvConfig, seed: int, weights: Tensor | None = None) -> None:
        """weights: (P,) float32 storage to act from, without a copy; by default the initial ones of this seed.

        Raises: ConfigError when the images are too small for the strides.
        """
        self._layout = Layout(config, env)
        if weights is None:
            weights = initial_weights(self._layout, seed)[count(self._layout.critics) :].clone()
        self._flat = weights.detach()
        self._encoder, self._actor = unpack(self._flat, self._layout.encoder, self._layout.actor)
        self._offset, self._factor = (part.numpy() for part in proprioception_scale(env))
        # What the actor reads, written anew for every action: features, then the scaled proprioception.
        self._inputs = torch.zeros((1, self._layout.features + env.proprioception))
        self._features = self._inputs[:, : self._layout.features]
        self._state = self._inputs[0, self._layout.features :].numpy()
        self._generator = make_generator(seed, "policy")
        tau_s = config.exploration_time_s
        self._memory = math.exp(-env.cycle_s / tau_s) if tau_s > 0 else 0.0
        self._noise = torch.randn((1, env.joints), generator=self._generator)

    def act(self, observation: Observation, deterministic: bool = False) -> NDArray[np.float32]:
        """An action (N,) float32 in [-1, 1]: drawn from the policy, or its mode before the tanh when deterministic."""
        config = self._layout.config
        # Few operations: an action comes after a rest, when each costs several times what it does in a loop.
        np.subtract(observation["proprioception"], self._offset, out=self._state)
        self._state *= self._factor
        image = centre_crop(observation["image"], self._layout.crop)
        self._features.copy_(_encode(self._encoder, image, config.strides))
        parts = act_distribution(self._actor, self._inputs, config.log_std_min, config.log_std_max)
        mean, log_std = (part.numpy()[0] for part in parts)
        if not deterministic:
            mean = mean + np.exp(log_std) * self._next_noise()
        action: NDArray[np.float32] = np.tanh(mean)
        return action

    def _next_noise(self) -> NDArray[np.float32]:
        """Standard normal (N,) at every step, correlated with the last by exp(-cycle / exploration_time_s)."""
        fresh: NDArray[np.float32] = torch.randn(self._noise.shape, generator=self._generator).numpy()
        noise: NDArray[np.float32] = self._noise.numpy()
        noise *= self._memory
        noise += math.sqrt(1 - self._memory**2) * fresh
        return noise[0]

    def weights(self) -> NDArray[np.float32]:
        """Encoder and actor as one flat vector (P,), a copy."""
        flat: NDArray[np.float32] = self._flat.numpy().copy()
        return flat

    def load_weights(self, flat: FloatArray) -> None:
        """Act with these weights from now on. Raises: ConfigError when their number is not this policy's."""
        if flat.shape != tuple(self._flat.shape):
            raise ConfigError(
                f"Weights of shape {flat.shape} do not fit a policy of {self._flat.numel()} numbers: "
                "build both from one configuration."
            )
        np.copyto(self._flat.numpy(), flat)

    def state_dict(self) -> dict[str, Any]:
        """Weights and random state, as copies."""
        return {
            "weights": self._flat.clone(),
            "generator": self._generator.get_state(),
            "noise": self._noise.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. Raises: RunError when it does not fit or is incomplete."""
        try:
            self.load_weights(state["weights"].numpy())
            self._generator.set_state(state["generator"])
            self._noise = state["noise"].clone()
        except (KeyError, AttributeError, TypeError, RuntimeError, ConfigError) as error:
            raise RunError(
                f"The saved policy does not fit this configuration or is damaged ({error}): "
                "train anew, into another --out."
            ) from error


def _encode(layers: Layers, image: NDArray[np.float32], strides: Sequence[int]) -> Tensor:
    """`networks.encode` for one stack as an observation holds it, (h, w, 3 S) in [0, 255], to features (1, F).

    A stack of its own lies pixel by pixel, as one convolution over 3 S channels reads it, so that nothing has to be put
    in order but the few weights of the first layer.
    """
    (weight, bias), *rest = layers
    image -= 127.5
    weight = weight.permute(0, 2, 3, 1, 4).flatten(3) / 255
    maps = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    maps = functional.conv2d(maps, weight.permute(0, 3, 1, 2), bias, strides[0])
    for (weight, bias), stride in zip(rest, strides[1:], strict=True):
        maps = functional.conv2d(maps.relu_(), weight.permute(0, 3, 1, 2), bias, stride)
    return spatial_softmax(maps)
