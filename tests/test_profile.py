"""Timing profiles: hand-computed quantiles, the paper's means, and what wrong files are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offbeat.errors import ProfileError
from offbeat.timing.profile import Distribution, Stage, TimingProfile, load_profile

# Mean of every timed step of the paper's records (ms), and how far the area under 24 percentiles may be from it.
PAPER_MEANS_MS = {
    "paper-base": {Stage.ACT: 3.3288, Stage.STORE: 0.0, Stage.SAMPLE: 4.4, Stage.UPDATE: 49.9344},
    "paper-highres": {Stage.ACT: 4.677, Stage.STORE: 0.0, Stage.SAMPLE: 13.6662, Stage.UPDATE: 46.503},
}
MEAN_TOLERANCE = 0.005


class FixedUniform(np.random.Generator):
    """A generator whose uniform numbers are given."""

    def __init__(self, values: list[float]) -> None:
        super().__init__(np.random.PCG64(0))
        self.values = values

    def random(self, size: int) -> np.ndarray:  # type: ignore[override]
        return np.array(self.values[:size])


def test_draw_interpolates_the_quantile_function() -> None:
    table = Distribution((0.0, 0.5, 1.0), (0.010, 0.020, 0.060))
    # 0.25 is half way from 10 to 20 ms, 0.75 half way from 20 to 60 ms.
    drawn = table.draw(FixedUniform([0.0, 0.25, 0.5, 0.75]), 4)
    np.testing.assert_allclose(drawn, [0.010, 0.015, 0.020, 0.040])


def test_mean_is_the_area_under_the_quantile_function() -> None:
    # 0.5 * 15 ms + 0.5 * 40 ms
    assert Distribution((0.0, 0.5, 1.0), (0.010, 0.020, 0.060)).mean_s == pytest.approx(0.0275)


def test_shift_moves_every_quantile_by_the_same_time() -> None:
    moved = Distribution((0.0, 1.0), (0.010, 0.030)).shifted_to(0.050)
    assert moved.seconds == pytest.approx((0.040, 0.060))


def test_shift_below_zero_is_refused() -> None:
    with pytest.raises(ProfileError, match=r"takes -0\.0"):
        Distribution((0.0, 1.0), (0.010, 0.030)).shifted_to(0.005)


@given(st.lists(st.floats(0.0, 10.0), min_size=2, max_size=8), st.integers(0, 2**32 - 1))
def test_draws_stay_between_least_and_greatest(seconds: list[float], seed: int) -> None:
    seconds = sorted(seconds)
    table = Distribution(tuple(np.linspace(0.0, 1.0, len(seconds)).tolist()), tuple(seconds))
    drawn = table.draw(np.random.default_rng(seed), 64)
    assert drawn.min() >= seconds[0] and drawn.max() <= seconds[-1]


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=50))
def test_a_measured_table_spans_the_measurements(durations: list[float]) -> None:
    table = Distribution.measured(np.array(durations))
    assert (table.seconds[0], table.seconds[-1]) == (min(durations), max(durations))


@pytest.mark.parametrize("name", PAPER_MEANS_MS)
def test_the_papers_profiles_have_the_papers_means(name: str) -> None:
    for stage, mean_ms in PAPER_MEANS_MS[name].items():
        assert load_profile(name).stages[stage].mean_s * 1e3 == pytest.approx(mean_ms, rel=MEAN_TOLERANCE)


@pytest.mark.parametrize(("name", "mean_s"), [("paper-highres", 0.158), ("paper-base", 0.064)])
def test_the_queue_profiles_change_the_update_alone(name: str, mean_s: float) -> None:
    plain, queue = load_profile(name), load_profile(f"{name}-queue")
    assert queue.stages[Stage.UPDATE].mean_s == pytest.approx(mean_s)
    assert all(queue.stages[stage] == plain.stages[stage] for stage in (Stage.ACT, Stage.STORE, Stage.SAMPLE))
    assert queue.name == f"{name}-queue"


@pytest.mark.parametrize(
    ("setting", "schedule", "name"),
    [
        ("async-base", "asynchronous", "paper-base"),
        ("sync-base", "sequential", "paper-base"),
        ("sync-highres", "reactive", "paper-highres"),
        ("sync-highres", "asynchronous", "paper-highres"),
        ("async-highres", "asynchronous", "paper-highres-queue"),
        ("async-highres", "sequential", "paper-highres"),  # nothing crosses a queue in one process
    ],
)
def test_paper_chooses_by_setting_and_schedule(setting: str, schedule: str, name: str) -> None:
    assert load_profile("paper", setting, schedule).name == name


def test_constants_are_milliseconds() -> None:
    profile = load_profile("constant:act=3,store=0,sample=4,update=50.5")
    assert [profile.stages[stage].mean_s for stage in Stage] == pytest.approx([0.003, 0.0, 0.004, 0.0505])


def test_zero_costs_nothing() -> None:
    assert all(stage.mean_s == 0.0 for stage in load_profile("zero").stages.values())


def test_a_saved_profile_comes_back_equal(tmp_path: Path) -> None:
    profile = load_profile("paper-highres")
    profile.save(tmp_path / "mine.json")
    assert load_profile(str(tmp_path / "mine.json")) == profile


def _file(tmp_path: Path, data: object) -> str:
    path = tmp_path / "profile.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


STAGES = {stage.value: {"constant_s": 0.001} for stage in Stage}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "is not JSON"),
        ([1], "holds no JSON object"),
        ({}, "has no stages"),
        ({"stages": {key: STAGES[key] for key in ("act", "store", "sample")}}, "lacks update: give all of act"),
        ({"stages": {**STAGES, "think": {"constant_s": 1}}}, "Unknown stage 'think'"),
        ({"stages": {**STAGES, "act": {"constant_s": -0.5}}}, r"'act'.*takes -0.5 s: give a finite duration of 0 s"),
        ({"stages": {**STAGES, "act": {"constant_s": float("nan")}}}, "takes nan s"),
        ({"stages": {**STAGES, "act": {"constant_s": "fast"}}}, "'act'.*has no durations"),
        ({"stages": {**STAGES, "act": 3}}, "'act'.*has no durations"),
        ({"stages": {**STAGES, "act": {"shares": [0, 1], "seconds": [0.1]}}}, "2 shares and 1 seconds"),
        ({"stages": {**STAGES, "act": {"shares": [0, 0.9], "seconds": [0.1, 0.2]}}}, "rise from 0 to 1"),
        ({"stages": {**STAGES, "act": {"shares": [0, 1], "seconds": [0.2, 0.1]}}}, "rising order"),
    ],
)
def test_a_wrong_file_gets_one_clear_sentence(tmp_path: Path, data: object, message: str) -> None:
    with pytest.raises(ProfileError, match=message) as error:
        load_profile(_file(tmp_path, data))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fast", "Unknown timing profile 'fast': use paper, paper-base"),
        ("nowhere/profile.json", "cannot be read"),
        ("constant:act=3,store=0,sample=4", "lacks update"),
        ("constant:act=3,store=0,sample=4,update", "'update'.*is no duration"),
        ("constant:act=-3,store=0,sample=4,update=5", "takes -0.003 s"),
        ("constant:walk=3", "Unknown stage 'walk'"),
    ],
)
def test_a_wrong_name_gets_one_clear_sentence(name: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        load_profile(name)


def test_a_profile_needs_every_stage() -> None:
    with pytest.raises(ProfileError, match="lacks store, sample, update"):
        TimingProfile("half", {Stage.ACT: Distribution.constant(0.001)})
