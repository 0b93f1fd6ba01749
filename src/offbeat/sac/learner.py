"""The gradient update of Figure 3: Soft Actor-Critic with random crops, one `update` a minibatch.

Three encoder passes an update, where separate losses would take five:

    online, observation       with gradient; the critic's features, reused without gradient by the actor
    online, next observation  the features that the next action is drawn from
    target, next observation  the features that the target critics judge it by

The three losses touch disjoint parts of the weights (Eq. 1 critics and encoder, Eq. 2 the actor, and the temperature),
so their sum is differentiated in one backward pass, and the actor sees the critics as they were before this step.

The convolutions may be computed in bfloat16; all else is float32.

On a GPU an update is one recorded graph; what the CPU wants of it, metrics and acting weights, is waited for once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from offbeat.config import ComputeConfig, EnvConfig, SACConfig
from offbeat.errors import RunError
from offbeat.sac.adam import Adam
from offbeat.sac.augment import crop_stacks, draw_offsets
from offbeat.sac.compute import resolve
from offbeat.sac.device import BatchTensors, following, host_copy, make_step, make_stream
from offbeat.sac.frames import DeviceFrames
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
    detach,
    encode,
    initial_weights,
    lower,
    make_generator,
    proprioception_scale,
    unpack,
)
from offbeat.sac.policy import Policy
from offbeat.types import Batch, ImageArray

METRICS = ("critic_loss", "actor_loss", "temperature", "entropy", "q_mean")
"""What an update reports: Eqs. 1 and 2, the temperature, the policy's entropy (nats), the critics' mean value."""


class Learner:
    """Learns from minibatches; owns all weights, the optimizer's state and a random stream: runs repeat bit by bit."""

    def __init__(
        self,
        config: SACConfig,
        env: EnvConfig,
        seed: int,
        threads: int | None = None,
        compute: ComputeConfig | None = None,
        frames: ImageArray | None = None,
    ) -> None:
        """threads: cores that torch may use in this process; None leaves its choice. compute: by default float32 on
        the CPU. frames: (R, H W 3), the ring of a replay whose batches name their frames; a GPU keeps a copy of it.

        Raises: ConfigError when the images are too small for the strides, or this machine cannot compute like that.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        compute = resolve(compute or ComputeConfig(device="cpu", precision="float32"))
        self._config, self._layout = config, Layout(config, env)
        self._stack = env.stack
        self._target_entropy = config.entropy_target(env.joints)
        self._device = torch.device(compute.device)
        self._precision = torch.bfloat16 if compute.precision == "bfloat16" else torch.float32
        self._generator = make_generator(seed, "learner", self._device)
        self._offset, self._factor = (part.to(self._device) for part in proprioception_scale(env))
        layout, on_gpu = self._layout, self._device.type == "cuda"
        if on_gpu:
            torch.backends.cudnn.allow_tf32 = False  # ten bits of a float32 are not float32
        self._online = initial_weights(layout, seed).to(self._device).requires_grad_()
        self._target = self._online.detach()[: count(layout.critics, layout.encoder)].clone()
        self._log_temperature = torch.tensor(config.initial_temperature, device=self._device).log().requires_grad_()
        self._adam = Adam(self._online, config.learning_rate, config.betas)
        self._adam_of_temperature = Adam(self._log_temperature, config.learning_rate, config.temperature_betas)
        # A view that stays valid, because every step writes in place.
        self._acting = self._online.detach()[count(layout.critics) :]
        self._updates = 0
        self._metrics = torch.full((len(METRICS),), float("nan"), device=self._device)
        # What the CPU reads after an update; on a CPU the policy acts from the learner's own memory.
        self._read_acting, self._read_metrics = host_copy(self._acting), host_copy(self._metrics)
        self.policy = Policy(config, env, seed, self._read_acting)
        self._losses = torch.compile(self._eager_losses) if compute.compile == "on" else self._eager_losses
        resident = None if frames is None else DeviceFrames(frames, env.height, env.width, self._device)
        self._inputs = BatchTensors(self._device, resident)
        self._stream = make_stream(self._device)
        self._graph_stream = self._stream if compute.cuda_graph else None
        self._step = make_step(self._eager_step, self._generator, self._graph_stream)

    def update(self, batch: Batch, upcoming: Batch | None = None) -> dict[str, float]:
        """One step of critics, encoder, actor, temperature and target. Returns METRICS.

        upcoming: the batch of the next update if it is known; a GPU fetches it meanwhile. Neither it nor its memory may
        change before that update.
        """
        with following(self._stream):
            self._inputs.load(batch, upcoming)
            self._step()
            if self._stream is not None:
                self._read_acting.copy_(self._acting, non_blocking=True)
                self._read_metrics.copy_(self._metrics, non_blocking=True)
                self._stream.synchronize()  # the only wait for the GPU
        self._updates += 1
        return dict(zip(METRICS, self._read_metrics.tolist(), strict=True))

    def _eager_step(self) -> None:
        """One update of what `_inputs` holds; always the same work on the same memory, so that it can be recorded."""
        inputs, crop = self._inputs, self._layout.crop
        size = len(inputs.reward)
        offsets = [draw_offsets(crop, size, self._generator) for _ in range(2)]
        noise = torch.randn((2, *inputs.action.shape), generator=self._generator, device=self._device)
        loss, metrics = self._losses(*inputs.images(), *offsets, *noise)
        gradient, of_temperature = torch.autograd.grad(loss, (self._online, self._log_temperature))
        self._adam.step(gradient)
        self._adam_of_temperature.step(of_temperature)
        self._target.lerp_(self._online.detach()[: self._target.numel()], self._config.polyak)
        self._metrics.copy_(metrics)

    def _eager_losses(
        self, images: Tensor, rows: Tensor, corners: Tensor, next_corners: Tensor, noise: Tensor, next_noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sum of Eq. 1, Eq. 2 and the temperature's loss, and the METRICS as one tensor.

        images, rows: as `BatchTensors.images` has them. corners, next_corners: (2, B) of the crops. noise, next_noise:
        (B, N) standard normal, of the two actions.
        """
        config, layout, given, strides = self._config, self._layout, self._inputs, self._config.strides
        critics, encoder, actor = unpack(self._online, layout.critics, layout.encoder, layout.actor)
        target_critics, target_encoder = unpack(self._target, layout.critics, layout.encoder)
        encoder, target_encoder = lower(encoder, self._precision), lower(target_encoder, self._precision)
        state = (given.proprioception - self._offset) * self._factor
        next_state = (given.next_proprioception - self._offset) * self._factor
        temperature = self._log_temperature.detach().exp()
        bounds = config.log_std_min, config.log_std_max

        with torch.no_grad():
            crops = self._crops(images, rows[:, -self._stack :], next_corners)
            inputs = torch.cat((encode(encoder, crops, strides), next_state), -1)
            next_action, next_log_prob = squashed_gaussian(*act_distribution(actor, inputs, *bounds), next_noise)
            inputs = torch.cat((encode(target_encoder, crops, strides), next_state), -1)
            target = soft_target(
                given.reward,
                bootstrap_mask(given.terminated, given.truncated, config.bootstrap_timeouts),
                given.discount,
                action_values(target_critics, inputs, next_action),
                next_log_prob,
                temperature,
            )

        crops = self._crops(images, rows[:, : self._stack], corners)
        inputs = torch.cat((encode(encoder, crops, strides), state), -1)
        q = action_values(critics, inputs, given.action)
        of_critics = critic_loss(q, target)

        inputs = inputs.detach()
        action, log_prob = squashed_gaussian(*act_distribution(actor, inputs, *bounds), noise)
        of_actor = actor_loss(log_prob, action_values(detach(critics), inputs, action), temperature)
        of_temperature = temperature_loss(self._log_temperature, log_prob.detach(), self._target_entropy)

        metrics = torch.stack((of_critics, of_actor, temperature, -log_prob.mean(), q.mean())).detach()
        return of_critics + of_actor + of_temperature, metrics

    def _crops(self, images: Tensor, rows: Tensor, corners: Tensor) -> Tensor:
        """Stacks (B, S) of images, each cut at its own corner: (B, S, h, w, 3) in the precision to compute in."""
        return crop_stacks(images, rows, corners, self._layout.crop).to(self._precision)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next update depends on, as copies on the CPU: tensors and plain numbers."""
        return {
            "online": self._online.detach().cpu().clone(),
            "target": self._target.cpu().clone(),
            "log_temperature": self._log_temperature.detach().cpu().clone(),
            "adam": self._adam.state_dict(),
            "adam_of_temperature": self._adam_of_temperature.state_dict(),
            "generator": self._generator.get_state(),
            "policy": self.policy.state_dict(),
            "updates": self._updates,
            "metrics": self._metrics.cpu().clone(),
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
            self._adam.load_state_dict(state["adam"])
            self._adam_of_temperature.load_state_dict(state["adam_of_temperature"])
            self._generator.set_state(state["generator"])
            self.policy.load_state_dict(state["policy"])
            self._updates = int(state["updates"])
            self._metrics.copy_(state["metrics"])
            self._inputs.forget()
            # A recording need not know what was loaded under it.
            self._step = make_step(self._eager_step, self._generator, self._graph_stream)
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(
                f"The saved learner is damaged or incomplete or of another version of offbeat ({error!r}): "
                "train anew, into another --out."
            ) from error
