"""What an update is computed on and in: from the choices of a configuration to those that this machine can keep."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace

import torch

from offbeat.config import ComputeConfig
from offbeat.errors import ConfigError
from offbeat.machine import probe_json

_SPARE_BYTES = 3 << 30  # of a GPU's memory, for the networks, their gradients and the libraries
_FREE_PROBE = "import json, torch; print(json.dumps({'free': torch.cuda.mem_get_info()[0]}))"


def resolve(
    compute: ComputeConfig, measured: Mapping[str, str] | None = None, frames_bytes: int | None = None
) -> ComputeConfig:
    """Replace every `auto` that makes a difference here.

    measured: the choices of a profile that was measured here, by field, if there is one. frames_bytes: of the replay's
    frames, where it is to be decided whether a GPU keeps a copy of them.
    Raises: ConfigError when a GPU or a compiler is asked for that this machine does not have.
    """
    measured, device = measured or {}, compute.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("compute.device is cuda, but torch finds no GPU here: use --compute.device cpu.")
    precision, compiled = compute.precision, compute.compile
    if precision == "auto":
        default = "bfloat16" if device == "cpu" and multiplies_bfloat16() else "float32"
        precision = measured.get("precision", default)  # type: ignore[assignment]
    if compiled == "auto":
        compiled = measured.get("compile", "off")  # type: ignore[assignment]
    if compiled == "on" and not has_compiler():
        raise ConfigError("compute.compile is on, but there is no C++ compiler here: install g++ or turn it off.")
    resident = compute.resident_frames
    if resident == "auto" and device == "cuda" and frames_bytes is not None:
        resident = "on" if frames_bytes + _SPARE_BYTES <= _free_bytes() else "off"
    return replace(compute, device=device, precision=precision, compile=compiled, resident_frames=resident)


def _free_bytes() -> int:
    """Free memory of the GPU; 0 where it cannot be told.

    Asked in a process of its own: whoever has asked a GPU for anything holds some of its memory until it ends, and the
    process that acts has no use for one.
    """
    return int(probe_json(_FREE_PROBE).get("free", 0))


def has_compiler() -> bool:
    """Whether torch.compile finds a compiler for the CPU."""
    return any(shutil.which(name) for name in ("g++", "c++", "clang++"))


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16; without them it is no faster than float32."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
