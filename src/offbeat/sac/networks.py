"""The networks as plain functions of weights, and the layout of all weights in one flat vector.

    | critics | encoder | actor |
     \\_________________/              learned by Eq. 1; the target network is a copy of this part
               \\________________/     what a policy acts with

One vector makes the optimizer step, the target's Polyak step and the copy of a policy one operation each. The actor's
convolutions are the critics' (tied), so the encoder stands once, and only Eq. 1 trains it.

Letters in shapes: B batch, C filters, F = 2 C features, N joints, h and w the height and width of a map.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import init

from offbeat.config import EnvConfig, SACConfig
from offbeat.errors import ConfigError
from offbeat.sac.augment import Crop, make_crop
from offbeat.sac.convolution import convolve

Shape = tuple[int, ...]
LayerShapes = tuple[tuple[Shape, Shape], ...]
Layers = tuple[tuple[Tensor, Tensor], ...]

KERNEL = 3
"""Height and width of every convolution (pixels)."""

TWINS = 2
"""Critics, evaluated in one batched pass."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """Sizes of all networks, from the configuration alone.

    Raises: ConfigError when the images are too small for the strides.
    """

    config: SACConfig
    env: EnvConfig

    def __post_init__(self) -> None:
        height, width = self.map_size
        if min(height, width) < 1:
            raise ConfigError(
                f"Images of {self.env.width}x{self.env.height} vanish in convolutions of strides "
                f"{self.config.strides}: use larger images or fewer or smaller strides."
            )
        if min(height, width) < 2:
            _LOG.warning(
                "Images of %dx%d end in maps of %dx%d after strides %s, too small to tell places apart on both axes.",
                *(self.env.width, self.env.height, width, height, self.config.strides),
            )

    @cached_property
    def crop(self) -> Crop:
        """How images are cut before they are encoded."""
        return make_crop(self.config.crop_share, self.env.height, self.env.width)

    @cached_property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the last convolution's maps (pixels)."""
        height, width = self.crop.cropped_height, self.crop.cropped_width
        for stride in self.config.strides:
            height, width = (height - KERNEL) // stride + 1, (width - KERNEL) // stride + 1
        return height, width

    @property
    def features(self) -> int:
        """Features of an encoded image: an x and a y for each filter."""
        return 2 * self.config.filters

    @cached_property
    def encoder(self) -> LayerShapes:
        """Convolutions, weights stored channels last: (out, row, column, in), first (out, image, row, column, 3)."""
        filters = self.config.filters
        first: Shape = (filters, self.env.stack, KERNEL, KERNEL, 3)
        later: Shape = (filters, KERNEL, KERNEL, filters)
        return tuple((shape, (filters,)) for shape in (first, *[later] * (len(self.config.strides) - 1)))

    @cached_property
    def actor(self) -> LayerShapes:
        """Linear layers, weights stored (in, out); the last one gives means and log standard deviations."""
        widths = (self.features + self.env.proprioception, *self.config.hidden, 2 * self.env.joints)
        return tuple(((a, b), (b,)) for a, b in pairwise(widths))

    @cached_property
    def critics(self) -> LayerShapes:
        """Linear layers of both twins, weights stored (2, in, out) and biases (2, 1, out)."""
        widths = (self.features + self.env.proprioception + self.env.joints, *self.config.hidden, 1)
        return tuple(((TWINS, a, b), (TWINS, 1, b)) for a, b in pairwise(widths))


def count(*parts: LayerShapes) -> int:
    """Numbers that the layers hold."""
    return sum(math.prod(shape) for part in parts for layer in part for shape in layer)


def unpack(flat: Tensor, *parts: LayerShapes) -> tuple[Layers, ...]:
    """Weights and biases of each part as views of one flat vector, in order; gradients flow back into the vector."""
    shapes = [shape for part in parts for layer in part for shape in layer]
    pieces = iter(flat.split([math.prod(shape) for shape in shapes]))
    return tuple(tuple((next(pieces).view(weight), next(pieces).view(bias)) for weight, bias in part) for part in parts)


def initial_weights(layout: Layout, seed: int) -> Tensor:
    """The flat vector (critics, encoder, actor) that a run of this seed starts from: orthogonal, with zero biases."""
    generator = make_generator(seed, "weights")
    flat = torch.zeros(count(layout.critics, layout.encoder, layout.actor))
    critics, encoder, actor = unpack(flat, layout.critics, layout.encoder, layout.actor)
    relu = math.sqrt(2)
    for weight, _ in encoder:
        init.orthogonal_(weight.view(weight.shape[0], -1), relu, generator)
    # Plain orthogonal maps are so flat that their softmax is nearly uniform and every feature nearly constant.
    encoder[-1][0].mul_(4.0)
    for weight, _ in critics:
        last = weight is critics[-1][0]
        for twin in weight:
            init.orthogonal_(twin, 1.0 if last else relu, generator)
    for weight, _ in actor[:-1]:
        init.orthogonal_(weight, relu, generator)
    # An untrained policy must explore alike from every observation, so its last layer starts small: mean 0, std 1.
    init.orthogonal_(actor[-1][0], 0.01, generator)
    actor[-1][1][layout.env.joints :] = _unit_std_bias(layout.config.log_std_min, layout.config.log_std_max)
    return flat


def _unit_std_bias(low: float, high: float) -> float:
    """What the last layer must say for a log standard deviation of 0, or the nearest that the bounds allow."""
    share = 2 * (0.0 - low) / (high - low) - 1
    return math.atanh(min(max(share, -0.95), 0.95))


def make_generator(seed: int, stream: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A random stream of its own for each seed and name, drawn on `device`."""
    words = np.random.SeedSequence([seed, *stream.encode()]).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def lower(encoder: Layers, precision: torch.dtype) -> Layers:
    """The convolutions of an encoder in a lower precision, all but two, where eight bits would be seen.

    The last one's maps are exponents of a softmax, and the first one `encode` scales before converting it.
    """
    first, between, last = encoder[:1], encoder[1:-1], encoder[1:][-1:]
    return *first, *((weight.to(precision), bias.to(precision)) for weight, bias in between), *last


def detach(layers: Layers) -> Layers:
    """The same weights, through which no gradient flows."""
    return tuple((weight.detach(), bias.detach()) for weight, bias in layers)


def encode(layers: Layers, images: Tensor, strides: Sequence[int]) -> Tensor:
    """Convolutions, ReLU between, then spatial softmax: images (B, S, H, W, 3) to float32 features (B, F).

    Images hold 0 to 255 in the precision to compute in, which bfloat16 does exactly; the networks see x / 255 - 0.5.
    Without padding the first convolution can take that scaling into its weights and bias, which spares two passes over
    every image. Sums are float32 in any precision.

    The first convolution spans the whole stack, which is one over 3 S channels; written in three dimensions it reads
    the images as they lie, where stacking the channels would cost more than the convolution itself.
    """
    (weight, bias), *rest = layers
    weight = (weight / 255).to(images.dtype)
    # Of the weights as they were rounded, so that a grey image is still a zero to the network.
    bias = (bias - 127.5 * weight.sum((1, 2, 3, 4), dtype=torch.float32)).to(images.dtype)
    stride = (1, strides[0], strides[0])
    images, weight = images.permute(0, 4, 1, 2, 3), weight.permute(0, 4, 1, 2, 3)
    maps = convolve(images, weight, bias, stride, relu=bool(rest)).squeeze(2)
    for index, ((weight, bias), step) in enumerate(zip(rest, strides[1:], strict=True), start=1):
        maps = convolve(maps.to(weight.dtype), weight.permute(0, 3, 1, 2), bias, (step, step), relu=index < len(rest))
    return spatial_softmax(maps.to(torch.float32))


def spatial_softmax(maps: Tensor) -> Tensor:
    """Where each filter looks (Levine et al. 2016): maps (B, C, h, w) to the mean x, then the mean y, (B, 2 C).

    A map's softmax is a distribution over its places; its mean lies in [-1, 1], left to right and top to bottom.
    """
    height, width = maps.shape[-2:]
    share = maps.permute(0, 2, 3, 1).flatten(1, 2).softmax(1)
    return torch.matmul(place_grid(height, width, maps.device), share).flatten(1)


@cache
def place_grid(height: int, width: int, device: torch.device) -> Tensor:
    """x and y of every place of a map, (2, h w), in [-1, 1]; an axis of one place is at 0."""
    y = torch.linspace(-1, 1, height, device=device) if height > 1 else torch.zeros(1, device=device)
    x = torch.linspace(-1, 1, width, device=device) if width > 1 else torch.zeros(1, device=device)
    return torch.stack((x.repeat(height), y.repeat_interleave(width)))


def proprioception_scale(env: EnvConfig) -> tuple[Tensor, Tensor]:
    """Offset and factor, (3 N,) each, that bring positions, velocities and last action to about [-1, 1].

    Positions enter the networks as shares of the task's joint bounds, because a joint that lives in [1.7, 2.96] would
    otherwise drown what the images say. The paper feeds radians.
    """
    low, high = torch.tensor(env.arm.joint_lower_rad), torch.tensor(env.arm.joint_upper_rad)
    offset = torch.cat(((low + high) / 2, torch.zeros(2 * env.joints)))
    speed = torch.full((env.joints,), 1 / env.action_limit_rad_s)
    return offset, torch.cat((2 / (high - low), speed, torch.ones(env.joints)))


def act_distribution(layers: Layers, inputs: Tensor, log_std_min: float, log_std_max: float) -> tuple[Tensor, Tensor]:
    """The policy's Gaussian before the tanh: inputs (B, F + 3 N) to mean and log standard deviation, (B, N) each.

    The bounds are soft: log_std = min + (max - min) (tanh(x) + 1) / 2.
    """
    hidden = inputs
    for weight, bias in layers[:-1]:
        hidden = torch.addmm(bias, hidden, weight).relu_()
    weight, bias = layers[-1]
    mean, raw = torch.addmm(bias, hidden, weight).chunk(2, -1)
    return mean, log_std_min + 0.5 * (log_std_max - log_std_min) * (raw.tanh() + 1)


def action_values(layers: Layers, inputs: Tensor, action: Tensor) -> Tensor:
    """Both critics in one batched pass: inputs (B, F + 3 N) and actions (B, N) to values (2, B)."""
    hidden = torch.cat((inputs, action), -1).expand(TWINS, -1, -1)
    for weight, bias in layers[:-1]:
        hidden = torch.baddbmm(bias, hidden, weight).relu_()
    weight, bias = layers[-1]
    # One number out: a product with a matrix of one column is several times slower.
    return (hidden * weight.mT).sum(-1) + bias.squeeze(-1)
