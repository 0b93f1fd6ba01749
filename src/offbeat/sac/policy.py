"""What acts: the encoder and the actor on the centre crop of one observation, numpy in and numpy out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offbeat.config import EnvConfig, SACConfig
from offbeat.errors import ConfigError, RunError
from offbeat.sac.augment import centre_crop
from offbeat.sac.networks import (
    Layout,
    act_distribution,
    count,
    encode,
    initial_weights,
    make_generator,
    proprioception_scale,
    unpack,
)
from offbeat.types import JOINTS, FloatArray, Observation


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
        self._generator = make_generator(seed, "policy")
        tau_s = config.exploration_time_s
        self._memory = math.exp(-env.cycle_s / tau_s) if tau_s > 0 else 0.0
        self._noise = torch.randn((1, JOINTS), generator=self._generator)

    def act(self, observation: Observation, deterministic: bool = False) -> NDArray[np.float32]:
        """An action (7,) float32 in [-1, 1]: drawn from the policy, or its mode before the tanh when deterministic."""
        config = self._layout.config
        image = centre_crop(observation["image"], self._layout.crop)
        state = ((observation["proprioception"] - self._offset) * self._factor).astype(np.float32)
        with torch.inference_mode():
            # The stack lies channel by channel here, (h, w, 3 S), and image by image in a batch, (S, h, w, 3).
            images = torch.from_numpy(image).unflatten(-1, (-1, 3)).permute(2, 0, 1, 3)[None].contiguous()
            features = encode(self._encoder, images, config.strides)
            inputs = torch.cat((features, torch.from_numpy(state)[None]), -1)
            mean, log_std = act_distribution(self._actor, inputs, config.log_std_min, config.log_std_max)
            if not deterministic:
                mean = mean + log_std.exp() * self._next_noise()
            action: NDArray[np.float32] = mean.tanh()[0].numpy()
        return action

    def _next_noise(self) -> Tensor:
        """Standard normal at every step, and correlated with the last by exp(-cycle / exploration_time_s)."""
        fresh = torch.randn((1, JOINTS), generator=self._generator)
        self._noise = self._memory * self._noise + math.sqrt(1 - self._memory**2) * fresh
        return self._noise

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
            raise RunError(f"The saved policy does not fit this configuration or is damaged ({error}).") from error
