"""Ramps: within acceleration and jerk whatever the targets, exact, and as fast as the limits let them be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offbeat.robots.ramp import Ramp

LIMITS = [6.0, 7.0], [600.0, 1000.0]


def ride(ramp: Ramp, target: list[float], steps: int) -> np.ndarray:
    return np.array([ramp.step(target) for _ in range(steps)])


@given(
    targets=st.lists(st.lists(st.floats(-2.0, 2.0), min_size=2, max_size=2), min_size=1, max_size=4),
    steps=st.integers(1, 60),
)
def test_a_ramp_keeps_acceleration_and_jerk(targets: list[list[float]], steps: int) -> None:
    ramp = Ramp(*LIMITS)
    path = np.concatenate([np.zeros((2, 2)), *(ride(ramp, target, steps) for target in targets)])
    acceleration = np.diff(path, axis=0) / 1e-3
    jerk = np.diff(acceleration, axis=0) / 1e-3
    assert (np.abs(acceleration) <= np.array(LIMITS[0]) + 1e-6).all()
    assert (np.abs(jerk) <= np.array(LIMITS[1]) + 1e-3).all()


@given(start=st.floats(-2.0, 2.0), target=st.floats(-2.0, 2.0))
def test_a_ramp_from_rest_arrives_without_overshoot(start: float, target: float) -> None:
    ramp = Ramp([6.0], [600.0])
    ride(ramp, [start], 1000)
    path = ride(ramp, [target], 1000)[:, 0]
    np.testing.assert_allclose(path[-1], target, rtol=0, atol=1e-12)
    assert path.min() >= min(start, target) - 1e-9
    assert path.max() <= max(start, target) + 1e-9


def test_a_ramp_takes_the_time_that_its_limits_do() -> None:
    # 0.6 rad/s at 6 rad/s2 that build up and down at 600 rad/s3: 0.1 s and 0.01 s, and one step to begin.
    path = ride(Ramp([6.0], [600.0]), [0.6], 200)[:, 0]
    arrived = int(np.argmax(path >= 0.6 - 1e-12)) + 1
    assert arrived == pytest.approx(110, abs=1)


def test_a_ramp_at_rest_stands() -> None:
    ramp = Ramp(*LIMITS)
    ride(ramp, [1.0, -1.0], 50)
    ramp.rest()
    assert ride(ramp, [0.0, 0.0], 3).tolist() == [[0.0, 0.0]] * 3
