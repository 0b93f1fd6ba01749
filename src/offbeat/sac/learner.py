"""The gradient update of Figure 3: Soft Actor-Critic with random crops, one `update` a minibatch.

Three encoder passes an update, where separate losses would take five:

    online, observation       with gradient; the critic's features, reused without gradient by the actor
    online, next observation  the features that the next action is drawn from
    target, next observation  the features that the target critics judge it by

The three losses touch disjoint parts of the weights (Eq. 1 critics and encoder, Eq. 2 the actor, and the temperature),
so their sum is differentiated in one backward pass, and the actor sees the critics as they were before this step.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from offbeat.config import EnvConfig, SACConfig
from offbeat.errors import RunError
from offbeat.sac.augment import crop_stacks, draw_offsets
from offbeat.sac.losses import (
    actor_loss,
    bootstrap_mask,
    critic_loss,
    soft_target,
    squashed_gaussian,
    temperature_loss,
)
from offbeat.sac.networks import (
    Layout,
    act_distribution,
    action_values,
    count,
    encode,
    initial_weights,
    make_generator,
    proprioception_scale,
    unpack,
)
from offbeat.sac.policy import Policy
from offbeat.types import JOINTS, Batch

METRICS = ("critic_loss", "actor_loss", "temperature", "entropy", "q_mean")
"""What an update reports: Eqs. 1 and 2, the temperature, the policy's entropy (nats), the critics' mean value."""

# Reading numbers back from a GPU makes the CPU wait for it, so there it is done once in so many updates.
_READ_EVERY = 20


class Learner:
    """Learns from minibatches; owns all weights, the optimizer's state and a random stream: runs repeat bit by bit."""

    def __init__(
        self, config: SACConfig, env: EnvConfig, seed: int, threads: int | None = None, device: str = "cpu"
    ) -> None:
        """threads: cores that torch may use in this process; None leaves its choice. device: where updates run.

        Raises: ConfigError when the images are too small for the strides.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._config, self._layout = config, Layout(config, env)
        self._stack = env.stack
        self._device = torch.device(device)
        self._generator = make_generator(seed, "learner")
        self._offset, self._factor = (part.to(self._device) for part in proprioception_scale(env))
        layout = self._layout
        self._online = initial_weights(layout, seed).to(self._device).requires_grad_()
        self._target = self._online.detach()[: count(layout.critics, layout.encoder)].clone()
        self._log_temperature = torch.tensor(config.initial_temperature, device=self._device).log().requires_grad_()
        self._optimizer = torch.optim.Adam(
            [
                {"params": [self._online], "betas": config.betas},
                {"params": [self._log_temperature], "betas": config.temperature_betas},
            ],
            lr=config.learning_rate,
            fused=True,
        )
        # Views that stay valid because every step writes in place.
        self._frozen_critics, self._frozen_encoder = unpack(
            self._online.detach()[: self._target.numel()], layout.critics, layout.encoder
        )
        self._target_critics, self._target_encoder = unpack(self._target, layout.critics, layout.encoder)
        self._acting = self._online.detach()[count(layout.critics) :]
        self.policy = Policy(config, env, seed, self._acting if self._device.type == "cpu" else self._acting.cpu())
        self._updates = 0
        self._metrics = dict.fromkeys(METRICS, float("nan"))

    def update(self, batch: Batch) -> dict[str, float]:
        """One step of critics, encoder, actor, temperature and target. Returns METRICS, on a GPU the last ones read."""
        loss, metrics = self._losses(batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._target.lerp_(self._online.detach()[: self._target.numel()], self._config.polyak)
        if self._device.type == "cpu" or self._updates % _READ_EVERY == 0:
            self._metrics = dict(zip(METRICS, metrics.tolist(), strict=True))
        self._updates += 1
        self._sync_policy()
        return dict(self._metrics)

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sum of Eq. 1, Eq. 2 and the temperature's loss, and the METRICS as one tensor."""
        config, strides = self._config, self._config.strides
        critics, encoder, actor = unpack(self._online, self._layout.critics, self._layout.encoder, self._layout.actor)
        images, next_images = self._crops(batch)
        state = self._scale_state(batch.proprioception)
        next_state = self._scale_state(batch.next_proprioception)
        noise, next_noise = torch.randn((2, len(state), JOINTS), generator=self._generator).to(self._device)
        temperature = self._log_temperature.detach().exp()
        bounds = config.log_std_min, config.log_std_max

        with torch.no_grad():
            inputs = torch.cat((encode(self._frozen_encoder, next_images, strides), next_state), -1)
            next_action, next_log_prob = squashed_gaussian(*act_distribution(actor, inputs, *bounds), next_noise)
            inputs = torch.cat((encode(self._target_encoder, next_images, strides), next_state), -1)
            target = soft_target(
                self._tensor(batch.reward),
                self._bootstrap(batch),
                self._tensor(batch.discount),
                action_values(self._target_critics, inputs, next_action),
                next_log_prob,
                temperature,
            )

        inputs = torch.cat((encode(encoder, images, strides), state), -1)
        q = action_values(critics, inputs, self._tensor(batch.action))
        of_critics = critic_loss(q, target)

        inputs = inputs.detach()
        action, log_prob = squashed_gaussian(*act_distribution(actor, inputs, *bounds), noise)
        of_actor = actor_loss(log_prob, action_values(self._frozen_critics, inputs, action), temperature)
        of_temperature = temperature_loss(self._log_temperature, log_prob.detach(), config.target_entropy)

        metrics = torch.stack((of_critics, of_actor, temperature, -log_prob.mean(), q.mean())).detach()
        return of_critics + of_actor + of_temperature, metrics

    def _crops(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images and next images (B, S, h, w, 3) float32 in [0, 255], each stack cut at its own random offset."""
        frames, crop = self._tensor(batch.frames), self._layout.crop
        offsets = [draw_offsets(crop, len(frames), self._generator).to(self._device) for _ in range(2)]
        images = crop_stacks(frames[:, : self._stack], offsets[0], crop).to(torch.float32)
        return images, crop_stacks(frames[:, -self._stack :], offsets[1], crop).to(torch.float32)

    def _bootstrap(self, batch: Batch) -> Tensor:
        terminated, truncated = self._tensor(batch.terminated), self._tensor(batch.truncated)
        return bootstrap_mask(terminated, truncated, self._config.bootstrap_timeouts)

    def _scale_state(self, proprioception: Any) -> Tensor:
        return (self._tensor(proprioception) - self._offset) * self._factor

    def _tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)

    def _sync_policy(self) -> None:
        """On a CPU the policy acts from the learner's own memory; elsewhere its weights are fetched."""
        if self._device.type != "cpu":
            self.policy.load_weights(self._acting.cpu().numpy())

    def state_dict(self) -> dict[str, Any]:
        """Everything the next update depends on, as copies on the CPU: tensors and plain numbers."""
        return {
            "online": self._online.detach().cpu().clone(),
            "target": self._target.cpu().clone(),
            "log_temperature": self._log_temperature.detach().cpu().clone(),
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
            "generator": self._generator.get_state(),
            "policy": self.policy.state_dict(),
            "updates": self._updates,
            "metrics": dict(self._metrics),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken. Raises: RunError when it does not fit or is incomplete."""
        try:
            with torch.no_grad():
                for name in ("online", "target", "log_temperature"):
                    own: Tensor = getattr(self, f"_{name}")
                    if state[name].shape != own.shape:
                        raise RunError(
                            f"The saved learner holds {state[name].numel()} numbers in {name!r}, "
                            f"this one {own.numel()}: resume with the configuration it was saved with."
                        )
                    own.copy_(state[name])
            self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
            self._generator.set_state(state["generator"])
            self.policy.load_state_dict(state["policy"])
            self._updates, self._metrics = int(state["updates"]), dict(state["metrics"])
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"The saved learner is damaged or incomplete ({error!r}).") from error
