"""Measured profiles: every stage of the real parts, in a file that a run can be given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offbeat import measure
from offbeat.build import resolve_compute
from offbeat.config import ComputeConfig, make_config
from offbeat.measure import choose_compute, measure_profile
from offbeat.replay import FrameReplay
from offbeat.timing.profile import Stage, load_profile


def test_a_measured_profile_can_be_loaded(tmp_path: Path) -> None:
    config = make_config(scale="cpu")
    config = replace(config, sac=replace(config.sac, batch_size=2, hidden=(8,), filters=2))
    config = replace(config, compute=ComputeConfig(device="cpu", compile="off"))
    profile = measure_profile(config, tmp_path / "mine.json", repeats=3)
    assert profile.name == "mine"
    assert all(profile.stages[stage].seconds[0] > 0.0 for stage in Stage)
    assert load_profile(str(tmp_path / "mine.json")) == profile
    assert set(profile.compute) == {"precision"}  # what the user chose is not tried
    assert resolve_compute(config, profile).compute.precision == profile.compute["precision"]


def test_bfloat16_is_tried_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(scale="cpu", compute=ComputeConfig(device="cpu", compile="off"))
    tried: list[str] = []
    monkeypatch.setattr(measure, "_time_updates", lambda run: float(tried.append(run.compute.precision) or len(tried)))
    for has, precisions in ((True, ["float32", "bfloat16"]), (False, ["float32"])):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has}, raising=False)
        assert choose_compute(config)[1] == {"precision": "float32"}
        assert tried == precisions
        tried.clear()


def test_a_sample_is_measured_as_it_is_gathered_on_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(scale="cpu", compute=ComputeConfig(device="cpu", precision="float32", compile="off"))
    held: list[int] = []
    original = FrameReplay.sample
    monkeypatch.setattr(
        FrameReplay, "sample", lambda self, rng, out: (held.append(out.frames.size), original(self, rng, out))
    )
    measure_profile(replace(config, sac=replace(config.sac, batch_size=2, hidden=(8,), filters=2)), repeats=1)
    assert held and all(held)


def test_what_is_chosen_by_hand_is_not_measured() -> None:
    config = make_config(scale="cpu", compute=ComputeConfig(device="cpu", precision="float32", compile="off"))
    assert choose_compute(config) == (config, {})
