from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from offbeat.config import make_config
from offbeat.errors import ConfigError
from offbeat.sac.networks import (
    Layout,
    act_distribution,
    action_values,
    count,
    encode,
    initial_weights,
    proprioception_scale,
    spatial_softmax,
    unpack,
)

CPU = make_config(scale="cpu")


def small_layout() -> Layout:
    return Layout(replace(CPU.sac, filters=4, hidden=(8, 8), strides=(2, 1)), replace(CPU.env, height=18, width=24))


def test_the_papers_networks_have_the_papers_sizes() -> None:
    paper = make_config("async-base")
    layout = Layout(paper.sac, paper.env)
    assert layout.map_size == (8, 16)
    assert layout.features == 64
    assert [shape for shape, _ in layout.encoder] == [(32, 3, 3, 3, 3), *[(32, 3, 3, 32)] * 3]
    assert [shape for shape, _ in layout.actor] == [(85, 1024), (1024, 1024), (1024, 14)]
    assert [shape for shape, _ in layout.critics] == [(2, 92, 1024), (2, 1024, 1024), (2, 1024, 1)]
    assert count(layout.encoder) == 32 * 81 + 3 * 32 * 288 + 4 * 32


def test_images_that_vanish_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"24x16 vanish in convolutions of strides \(2, 2, 2\): use larger images"):
        Layout(replace(CPU.sac, strides=(2, 2, 2)), replace(CPU.env, height=16, width=24))


def test_spatial_softmax_gives_the_place_of_a_peak() -> None:
    maps = torch.zeros(1, 2, 3, 5)
    maps[0, 0, 2, 1] = 100.0
    # x of column 1 of 5 is -0.5, y of row 2 of 3 is 1; the flat second map is centred. All x come first.
    torch.testing.assert_close(spatial_softmax(maps), torch.tensor([[-0.5, 0.0, 1.0, 0.0]]))


def test_spatial_softmax_of_one_row_by_hand() -> None:
    features = spatial_softmax(torch.tensor([[[[math.log(3.0), 0.0]]]]))
    # Shares 3/4 and 1/4 of x = -1 and 1; a single row is at 0.
    torch.testing.assert_close(features, torch.tensor([[-0.5, 0.0]]))


def test_encoder_equals_convolutions_over_stacked_channels() -> None:
    layout = small_layout()
    flat = torch.randn(count(layout.encoder), generator=torch.Generator().manual_seed(0)) * 0.3
    (layers,) = unpack(flat, layout.encoder)
    images = 255 * torch.rand(3, 3, 16, 22, 3, generator=torch.Generator().manual_seed(1))
    maps = (images / 255 - 0.5).permute(0, 1, 4, 2, 3).reshape(3, 9, 16, 22).contiguous()
    (w0, b0), (w1, b1) = layers
    maps = functional.conv2d(maps, w0.permute(0, 1, 4, 2, 3).reshape(4, 9, 3, 3).contiguous(), b0, 2)
    maps = functional.conv2d(maps.relu(), w1.permute(0, 3, 1, 2).contiguous(), b1, 1)
    torch.testing.assert_close(encode(layers, images, (2, 1)), spatial_softmax(maps), atol=1e-5, rtol=1e-4)


def test_twins_in_one_pass_equal_each_alone() -> None:
    layout = small_layout()
    flat = torch.randn(count(layout.critics), generator=torch.Generator().manual_seed(0)) * 0.2
    (layers,) = unpack(flat, layout.critics)
    inputs, action = torch.randn(5, layout.features + 21), torch.rand(5, 7)
    together = action_values(layers, inputs, action)
    for twin in range(2):
        (w0, b0), (w1, b1), (w2, b2) = [(weight[twin], bias[twin, 0]) for weight, bias in layers]
        hidden = (torch.cat((inputs, action), 1) @ w0 + b0).relu()
        alone = ((hidden @ w1 + b1).relu() @ w2 + b2)[:, 0]
        torch.testing.assert_close(together[twin], alone)
    assert not torch.allclose(together[0], together[1])


def test_unpacked_weights_are_views_and_pass_gradients_back() -> None:
    layout = small_layout()
    flat = torch.zeros(count(layout.critics, layout.actor), requires_grad=True)
    critics, actor = unpack(flat, layout.critics, layout.actor)
    (critics[0][0].sum() + 2 * actor[-1][1].sum()).backward()
    assert flat.grad is not None
    assert torch.count_nonzero(flat.grad[: critics[0][0].numel()] - 1) == 0
    assert flat.grad[-14:].tolist() == [2.0] * 14
    assert flat.grad.sum() == critics[0][0].numel() + 28


def test_an_untrained_policy_is_broad_everywhere() -> None:
    layout = Layout(replace(CPU.sac, strides=(2, 2, 1, 1)), CPU.env)
    flat = initial_weights(layout, seed=3)[count(layout.critics) :]
    encoder, actor = unpack(flat, layout.encoder, layout.actor)
    images = 255 * torch.rand(32, 3, 34, 62, 3)
    inputs = torch.cat((encode(encoder, images, (2, 2, 1, 1)), torch.randn(32, 21)), 1)
    mean, log_std = act_distribution(actor, inputs, -10.0, 10.0)
    assert mean.abs().max() < 0.2
    assert log_std.abs().max() < 0.5


@pytest.mark.parametrize(("low", "high"), [(-10.0, 10.0), (-5.0, 2.0)])
def test_untrained_standard_deviation_is_one_whatever_the_bounds(low: float, high: float) -> None:
    layout = Layout(replace(small_layout().config, log_std_min=low, log_std_max=high), small_layout().env)
    (actor,) = unpack(initial_weights(layout, 0)[-count(layout.actor) :], layout.actor)
    _, log_std = act_distribution(actor, torch.zeros(1, layout.features + 21), low, high)
    torch.testing.assert_close(log_std, torch.zeros(1, 7), atol=1e-5, rtol=0)


def test_log_standard_deviation_stays_in_its_bounds() -> None:
    layout = small_layout()
    (actor,) = unpack(torch.ones(count(layout.actor)) * 5, layout.actor)
    inputs = torch.full((1, layout.features + 21), 10.0)
    assert act_distribution(actor, inputs, -10.0, 10.0)[1].max() == 10.0
    actor[-1][0].neg_()
    assert act_distribution(actor, inputs, -10.0, 10.0)[1].min() == -10.0


def test_initial_weights_follow_the_seed() -> None:
    layout = small_layout()
    assert torch.equal(initial_weights(layout, 1), initial_weights(layout, 1))
    assert not torch.equal(initial_weights(layout, 1), initial_weights(layout, 2))


def test_proprioception_is_scaled_to_the_joints_bounds_and_the_speed_limit() -> None:
    offset, factor = proprioception_scale(CPU.env)
    at_upper_bounds = torch.tensor([0.5, 1.2, 0.5, -0.2, 0.4, 2.96, 0.9, *[0.2] * 7, *[-1.0] * 7])
    torch.testing.assert_close((at_upper_bounds - offset) * factor, torch.tensor([1.0] * 14 + [-1.0] * 7))
