"""A convolution and its ReLU as one operation of oneDNN, forwards and backwards, where torch has oneDNN.

Torch joins the two only in compiled graphs. Apart, the ReLU reads and writes every map once more, which costs nothing
where they fit into the caches.

A CPU without instructions for bfloat16 multiplies its numbers in float32 and rounds the sums, as those instructions do:
the same results but for the order of sums, several times as fast as torch, which then has no fast ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_JOINED = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
_TAKES_BFLOAT16 = _JOINED and torch.ops.mkldnn._is_mkldnn_bf16_supported()
_DTYPES = (torch.float32, torch.bfloat16)
_LARGE = 1 << 22  # numbers that a cache does not hold


def convolve(maps: Tensor, weight: Tensor, bias: Tensor, stride: Sequence[int], relu: bool) -> Tensor:
    """Convolution without padding, and a ReLU after it when `relu`; shapes as of torch's convolutions."""
    if maps.dtype == torch.bfloat16 and maps.device.type == "cpu" and not _TAKES_BFLOAT16:
        return convolve(maps.float(), weight.float(), bias.float(), stride, relu).to(maps.dtype)
    if _JOINED and relu and maps.device.type == "cpu" and maps.dtype in _DTYPES and maps.numel() >= _LARGE:
        result: Tensor = _ConvolveRelu.apply(maps, weight, bias, tuple(stride))
        return result
    plain = (functional.conv2d if len(stride) == 2 else functional.conv3d)(maps, weight, bias, stride)
    return plain.relu_() if relu else plain


class _ConvolveRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, ...]) -> Tensor:
        none, ones = [0] * len(stride), [1] * len(stride)
        result = torch.ops.mkldnn._convolution_pointwise(maps, weight, bias, none, stride, ones, 1, "relu", [], "")
        ctx.save_for_backward(maps, weight, result)
        ctx.stride = stride
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        maps, weight, result = ctx.saved_tensors
        stride, (gradient,) = ctx.stride, gradients
        passed = torch.ops.aten.threshold_backward(gradient, result, 0)
        none, ones = [0] * len(stride), [1] * len(stride)
        wanted = [ctx.needs_input_grad[0], True, True]
        of_maps, of_weight, of_bias = torch.ops.aten.convolution_backward(
            passed, maps, weight, [len(weight)], stride, none, ones, False, none, 1, wanted
        )
        return of_maps, of_weight, of_bias, None
