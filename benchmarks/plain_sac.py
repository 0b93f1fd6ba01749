"""The other ways to make the same update: Soft Actor-Critic as most public code writes it, and Stable-Baselines3's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from offbeat.config import EnvConfig, SACConfig
from offbeat.sac.augment import draw_offsets
from offbeat.sac.losses import actor_loss, critic_loss, soft_target, squashed_gaussian, temperature_loss
from offbeat.sac.networks import Layout, act_distribution, initial_weights, spatial_softmax, unpack
from offbeat.types import Batch


class PlainLearner:
    """The same update, written loss by loss with torch.nn's usual layouts."""

    def __init__(self, config: SACConfig, env: EnvConfig) -> None:
        self.config, self.layout, self.stack = config, Layout(config, env), env.stack
        parts = unpack(initial_weights(self.layout, 0), self.layout.critics, self.layout.encoder, self.layout.actor)
        own = [[t.clone().requires_grad_() for layer in part for t in layer] for part in parts]
        self.critics: Any
        self.encoder: Any
        self.actor: Any
        self.critics, self.encoder, self.actor = ([(p[i], p[i + 1]) for i in range(0, len(p), 2)] for p in own)
        self.trained, self.actor_weights = own[0] + own[1], own[2]
        self.target = [t.detach().clone() for t in self.trained]
        pairs = [tuple(self.target[i : i + 2]) for i in range(0, len(self.target), 2)]
        self.target_critics, self.target_encoder = pairs[: len(self.critics)], pairs[len(self.critics) :]
        self.log_temperature = torch.tensor(config.initial_temperature).log().requires_grad_()
        groups = (self.trained, self.actor_weights, [self.log_temperature])
        self.optimizers = [torch.optim.Adam(group, lr=config.learning_rate) for group in groups]
        self.generator = torch.Generator().manual_seed(0)

    def crop(self, frames: Tensor) -> Tensor:
        crop = self.layout.crop
        offsets = draw_offsets(crop, len(frames), self.generator).T.tolist()
        height, width = crop.cropped_height, crop.cropped_width
        cuts = [stack[:, y : y + height, x : x + width] for stack, (y, x) in zip(frames, offsets, strict=True)]
        return torch.stack(cuts).permute(0, 1, 4, 2, 3).flatten(1, 2).float() / 255 - 0.5

    def encode(self, layers: Any, images: Tensor) -> Tensor:
        for index, ((weight, bias), stride) in enumerate(zip(layers, self.config.strides, strict=True)):
            weight = weight.permute(0, 1, 4, 2, 3).flatten(1, 2) if weight.ndim == 5 else weight.permute(0, 3, 1, 2)
            images = functional.conv2d(images.relu() if index else images, weight.contiguous(), bias, stride)
        return spatial_softmax(images)

    def act(self, images: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        inputs = torch.cat((self.encode(self.encoder, images).detach(), state), 1)
        noise = torch.randn((len(state), 7), generator=self.generator)
        bounds = self.config.log_std_min, self.config.log_std_max
        return squashed_gaussian(*act_distribution(self.actor, inputs, *bounds), noise)

    def values(self, layers: tuple[Any, Any], images: Tensor, state: Tensor, action: Tensor) -> Tensor:
        critics, encoder = layers
        inputs = torch.cat((self.encode(encoder, images), state, action), 1)
        values = []
        for twin in range(2):
            hidden = inputs
            for index, (weight, bias) in enumerate(critics):
                hidden = (hidden.relu() if index else hidden) @ weight[twin] + bias[twin]
            values.append(hidden[:, 0])
        return torch.stack(values)

    def step(self, which: int, loss: Tensor) -> None:
        self.optimizers[which].zero_grad()
        loss.backward()
        self.optimizers[which].step()

    def update(self, batch: Batch) -> None:
        frames, reward = torch.from_numpy(batch.frames), torch.from_numpy(batch.reward)
        state, next_state = torch.from_numpy(batch.proprioception), torch.from_numpy(batch.next_proprioception)
        images, next_images = self.crop(frames[:, : self.stack]), self.crop(frames[:, -self.stack :])
        online, target_layers = (self.critics, self.encoder), (self.target_critics, self.target_encoder)
        temperature = self.log_temperature.detach().exp()
        with torch.no_grad():
            next_action, next_log_prob = self.act(next_images, next_state)
            next_q = self.values(target_layers, next_images, next_state, next_action)
            discount = torch.from_numpy(batch.discount)
            target = soft_target(reward, torch.ones_like(reward), discount, next_q, next_log_prob, temperature)
        self.step(0, critic_loss(self.values(online, images, state, torch.from_numpy(batch.action)), target))
        action, log_prob = self.act(images, state)
        self.step(1, actor_loss(log_prob, self.values(online, images, state, action), temperature))
        self.step(2, temperature_loss(self.log_temperature, log_prob.detach(), self.config.entropy_target(7)))
        for own, new in zip(self.target, self.trained, strict=True):
            own.lerp_(new.detach(), self.config.polyak)


def make_sb3_update(config: SACConfig, env: EnvConfig, batch: Batch) -> Callable[[], object]:
    """One gradient step of Stable-Baselines3's SAC from `batch`. Needs the extra "bench"."""
    import gymnasium
    from gymnasium import spaces
    from stable_baselines3 import SAC
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.type_aliases import DictReplayBufferSamples

    channels, features = 3 * env.stack, 2 * config.filters

    class Extractor(BaseFeaturesExtractor):
        """The paper's encoder, joined with the proprioception; images come scaled to [0, 1]."""

        def __init__(self, space: spaces.Dict) -> None:
            super().__init__(space, features + env.proprioception)
            inputs = [channels] + [config.filters] * (len(config.strides) - 1)
            self.layers = torch.nn.ModuleList(
                torch.nn.Conv2d(n, config.filters, 3, stride) for n, stride in zip(inputs, config.strides, strict=True)
            )

        def forward(self, observation: dict[str, Tensor]) -> Tensor:
            maps = observation["image"]
            for index, layer in enumerate(self.layers):
                maps = layer(maps.relu() if index else maps)
            return torch.cat((spatial_softmax(maps), observation["proprioception"]), 1)

    class Env(gymnasium.Env[Any, Any]):
        observation_space = spaces.Dict(
            image=spaces.Box(0, 255, (channels, env.height, env.width), np.uint8),
            proprioception=spaces.Box(-10, 10, (env.proprioception,), np.float32),
        )
        action_space = spaces.Box(-1, 1, (env.joints,), np.float32)

    model = SAC(
        "MultiInputPolicy",
        Env(),
        learning_rate=config.learning_rate,
        batch_size=config.batch_size,
        tau=config.polyak,
        buffer_size=1,
        device="cpu",
        policy_kwargs={
            "net_arch": list(config.hidden),
            "features_extractor_class": Extractor,
            "share_features_extractor": True,
        },
    )
    model.set_logger(_Silent())
    stacked = torch.from_numpy(batch.frames).permute(0, 1, 4, 2, 3)
    images = [part.flatten(1, 2).contiguous() for part in (stacked[:, : env.stack], stacked[:, -env.stack :])]
    states = (torch.from_numpy(batch.proprioception), torch.from_numpy(batch.next_proprioception))
    now, after = ({"image": i, "proprioception": s} for i, s in zip(images, states, strict=True))
    reward = torch.from_numpy(batch.reward)[:, None]
    sample = DictReplayBufferSamples(now, torch.from_numpy(batch.action), after, torch.zeros_like(reward), reward)
    model.replay_buffer.sample = lambda *_, **__: sample
    return lambda: model.train(gradient_steps=1, batch_size=config.batch_size)


class _Silent:
    """A logger that keeps nothing."""

    def record(self, *_: object, **__: object) -> None:
        """Forget."""
