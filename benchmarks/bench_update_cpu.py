"""Updates a second of the learner on one CPU core, against the same update done the plain way.

    python benchmarks/bench_update_cpu.py [--seconds 5] [--json FILE]

The plain way is how most public code writes this algorithm: five encoder passes (actor and critics encode for
themselves), critics one after the other, three losses with a backward pass and an optimizer each, contiguous images,
crops cut in a loop. Both do the same mathematics; the ratio comes first. One act is timed too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from offbeat.config import EnvConfig, SACConfig, make_config
from offbeat.sac.augment import draw_offsets
from offbeat.sac.learner import Learner
from offbeat.sac.losses import actor_loss, critic_loss, soft_target, squashed_gaussian, temperature_loss
from offbeat.sac.networks import Layout, act_distribution, initial_weights, spatial_softmax, unpack
from offbeat.types import Batch, Observation


class PlainLearner:
    """The same update, written loss by loss with torch.nn's usual layouts."""

    def __init__(self, config: SACConfig, env: EnvConfig) -> None:
        self.config, self.layout = config, Layout(config, env)
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
        images, next_images = self.crop(frames[:, :-1]), self.crop(frames[:, 1:])
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
        self.step(2, temperature_loss(self.log_temperature, log_prob.detach(), self.config.target_entropy))
        for own, new in zip(self.target, self.trained, strict=True):
            own.lerp_(new.detach(), self.config.polyak)


def random_batch(size: int, env: EnvConfig) -> Batch:
    """A batch of noise."""
    rng = np.random.default_rng(0)
    batch = Batch.empty(size, env.stack, env.height, env.width)
    batch.frames[:] = rng.integers(0, 256, batch.frames.shape, dtype=np.uint8)
    batch.action[:] = rng.uniform(-1, 1, batch.action.shape)
    batch.reward[:] = rng.uniform(0, 6, size)
    batch.discount[:] = 0.99
    return batch


def alternate(calls: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Milliseconds of each call, taken in turns so that a busy machine disturbs all alike; at least 5 each."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for call, own in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            own.append(1000 * (time.perf_counter() - start))
    return times


def measure(name: str, config: SACConfig, env: EnvConfig, seconds: float) -> dict[str, object]:
    """One row of the table: updates a second of both learners (median, and the spread as quartiles), and one act."""
    learner, plain = Learner(config, env, 0, threads=1), PlainLearner(config, env)
    batch = random_batch(config.batch_size, env)
    image = np.zeros((env.height, env.width, 3 * env.stack), np.uint8)
    seen: Observation = {"image": image, "proprioception": np.zeros(21, np.float32)}
    calls = (lambda: learner.update(batch), lambda: plain.update(batch), lambda: learner.policy.act(seen))
    ours, theirs, act = alternate(calls, seconds)
    low, median, high = statistics.quantiles(ours, n=4)
    return {
        "scale": name,
        "ratio": round(statistics.median(theirs) / median, 2),
        "updates_per_s": round(1000 / median, 1),
        "update_ms_quartiles": [round(value, 2) for value in (low, median, high)],
        "plain_updates_per_s": round(1000 / statistics.median(theirs), 1),
        "act_ms": round(statistics.median(act), 3),
    }


def main() -> None:
    """Measure both scales and print them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="time to spend on each scale (s)")
    parser.add_argument("--json", type=Path, help="also write the result here")
    arguments = parser.parse_args()
    cpu, paper = make_config(scale="cpu"), make_config(scale="paper")
    # The paper's four convolutions and minibatch on one core, with small linear layers: the images are what costs.
    rows = [
        measure("cpu: 64x36, batch 64", cpu.sac, cpu.env, arguments.seconds),
        measure("160x90, batch 128", replace(paper.sac, hidden=(256, 256)), paper.env, arguments.seconds),
    ]
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    text = json.dumps({"machine": machine, "threads": 1, "rows": rows}, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
