from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from offbeat.build import _frames_bytes, build_replay, keeps_frames
from offbeat.config import ComputeConfig, RunConfig, make_config
from offbeat.errors import ConfigError
from offbeat.sac import compute, convolution
from offbeat.sac.compute import resolve
from offbeat.sac.convolution import convolve


def test_auto_becomes_what_the_machine_has_and_a_profile_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = ComputeConfig(device="cpu")
    for has, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has}, raising=False)
        assert resolve(auto) == ComputeConfig(device="cpu", precision=precision, compile="off")  # type: ignore[arg-type]
    assert resolve(auto, {"precision": "bfloat16"}).precision == "bfloat16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve(ComputeConfig()).precision == "float32"  # a GPU keeps up in it
    assert resolve(ComputeConfig(device="cpu", precision="float32"), {"precision": "bfloat16"}).precision == "float32"


def test_what_the_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"torch finds no GPU here: use --compute.device cpu"):
        resolve(ComputeConfig(device="cuda"))
    monkeypatch.setattr(compute, "has_compiler", lambda: False)
    with pytest.raises(ConfigError, match="no C\\+\\+ compiler"):
        resolve(ComputeConfig(device="cpu", compile="on"))


def leaf(generator: torch.Generator, precision: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator).to(precision).requires_grad_()


def assert_gradients_close(result: torch.Tensor, reference: torch.Tensor, leaves: tuple[torch.Tensor, ...]) -> None:
    back = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).to(result.dtype)
    gradients = [torch.autograd.grad(y, leaves, back.to(y.dtype)) for y in (result, reference)]
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stride", [(2, 2), (1, 1), (1, 2, 2)])
def test_convolution_and_relu_in_one_equal_the_two_apart(
    precision: torch.dtype, stride: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "_LARGE", 0)
    generator = torch.Generator().manual_seed(0)
    maps = leaf(generator, precision, 4, 5, *(9,) * len(stride))
    weight, bias = leaf(generator, precision, 6, 5, *(3,) * len(stride)), leaf(generator, precision, 6)
    plain = functional.conv2d if len(stride) == 2 else functional.conv3d
    apart = plain(maps, weight, bias, stride).relu()
    joined = convolve(maps, weight, bias, stride, relu=True)
    assert torch.equal(apart, joined) and (joined == 0).any()
    if precision == torch.bfloat16 and not convolution._TAKES_BFLOAT16:
        # Torch's own gradients round every partial sum then.
        apart = plain(maps.float(), weight.float(), bias.float(), stride).relu()
    assert_gradients_close(joined, apart, (maps, weight, bias))


@pytest.mark.parametrize(("free_gb", "resident"), [(7.3, "on"), (7.1, "off"), (0.0, "off")])
def test_a_gpu_keeps_the_frames_that_it_has_room_for(
    free_gb: float, resident: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(compute, "_free_bytes", lambda: int(free_gb * 1e9))
    assert resolve(ComputeConfig(), frames_bytes=4_000_000_000).resident_frames == resident
    assert resolve(ComputeConfig(resident_frames="on"), frames_bytes=10**15).resident_frames == "on"


def test_a_cpu_reads_the_frames_of_the_replay_where_nobody_overtakes_it() -> None:
    assert resolve(ComputeConfig(device="cpu"), frames_bytes=1).resident_frames == "auto"
    virtual = RunConfig(compute=ComputeConfig(device="cpu"))
    assert keeps_frames(virtual)
    assert not keeps_frames(replace(virtual, clock="wall"))
    assert not keeps_frames(replace(virtual, dry=True))
    assert not keeps_frames(replace(virtual, compute=ComputeConfig(device="cpu", resident_frames="off")))


def test_frames_are_as_many_as_the_replay_holds() -> None:
    config = make_config(replay_s=400.0)
    assert _frames_bytes(config) == build_replay(config).frames.nbytes
