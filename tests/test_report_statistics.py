"""Statistics over runs against numbers worked out by hand, and what their intervals promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from offbeat.report.statistics import (
    COVERAGE,
    DRAWS,
    UNKNOWN,
    Estimate,
    Sample,
    band,
    difference,
    first_tenth,
    interval,
    last_tenth,
    make_sample,
    mean,
    probability_of_improvement,
    ratio,
    share,
    smooth,
    time_to,
    trailing,
)
from offbeat.report.words import interval as ends
from offbeat.report.words import number, with_interval


def sample(*values: float, name: str = "x") -> Sample:
    return make_sample(np.array(values), name)


def test_an_interval_is_read_off_moved_out_quantiles() -> None:
    """25 runs: t(24, 0.025) = -2.0639, times sqrt(25 / 24) is -2.1065, below which lies 0.01758 of the normal."""
    low, high = interval(np.arange(10_000.0), runs=25)
    assert (low, high) == (175.0, 9824.0)
    assert special.ndtr(-2.1065) == pytest.approx(0.01758, abs=1e-5)


def test_nothing_lies_between_a_time_and_never() -> None:
    draws = np.array([60.0] * 500 + [np.inf] * 9_500)
    assert interval(draws, runs=25) == (60.0, np.inf)


def test_of_one_run_no_interval_is_given() -> None:
    estimate = mean(sample(7.0))
    assert estimate.value == 7.0 and math.isnan(estimate.low) and math.isnan(estimate.high)
    assert not estimate.excludes(0.0)
    low, high = band(make_sample(np.ones((1, 3)), "x"))
    assert np.isnan(low).all() and np.isnan(high).all()


def test_intervals_of_a_mean_agree_with_students_t() -> None:
    """25 runs of standard deviation 10: t gives 2 x 2.0639 x 10 / 5 = 8.26; a plain percentile interval 7.7."""
    values = np.random.default_rng(0).normal(0, 10, (25, 300))
    low, high = band(make_sample(values, "x"))
    assert np.mean(high - low) == pytest.approx(8.26, rel=0.03)


@pytest.mark.parametrize("runs", [3, 5])
def test_intervals_of_few_runs_hold_the_truth_as_often_as_is_said(runs: int) -> None:
    rng = np.random.default_rng(1)
    x, y = (make_sample(rng.normal(0, 1, (runs, 1500)), name, draws=3000) for name in ("x", "y"))
    for draws, said in zip((x.means(), x.means() - y.means()), COVERAGE[runs], strict=True):
        low, high = interval(draws, runs)
        assert 100 * np.mean((low <= 0) & (high >= 0)) == pytest.approx(said, abs=3)


def test_a_setting_is_always_drawn_alike_and_others_apart() -> None:
    one, same, other = (make_sample(np.arange(5.0), name) for name in ("a", "a", "b"))
    np.testing.assert_array_equal(one.counts, same.counts)
    assert one.counts.shape == (DRAWS, 5) and (one.counts.sum(axis=1) == 5).all()
    assert (one.counts != other.counts).any()
    assert abs(np.corrcoef(one.means(), other.means())[0, 1]) < 0.05


def test_difference_of_two_small_settings() -> None:
    """Resampled means of 3 and 5 are 3, 4 and 5; less 1 that is 2 to 4, and two runs reach to the ends."""
    assert difference(sample(3, 5), sample(1, 1, name="y")) == Estimate(3.0, 2.0, 4.0, 2)


def test_the_smaller_side_counts_as_the_runs_behind_a_difference() -> None:
    estimate = difference(sample(3, 5, 4), sample(1, name="y"))
    assert estimate.runs == 1 and estimate.value == 3.0 and math.isnan(estimate.low)


def test_ratio_of_two_small_settings() -> None:
    assert ratio(sample(2, 4), sample(2, 2, name="y")) == Estimate(1.5, 1.0, 2.0, 2)
    assert ratio(sample(2, 4), sample(0, 2, name="y")) == UNKNOWN


def test_share_of_a_gap() -> None:
    top, half, bottom = sample(10, 10, name="a"), sample(5, 5, name="b"), sample(0, 0, name="c")
    assert share(half, bottom, top, bottom) == Estimate(0.5, 0.5, 0.5, 2)
    assert share(bottom, half, top, bottom).value == -0.5
    assert math.isnan(share(half, bottom, bottom, bottom).value)


def test_a_gap_is_exactly_one_of_itself() -> None:
    """Both ends are resampled together: what is uncertain about the gap is not uncertain about its share of itself."""
    top, bottom = sample(9, 12, 10, name="a"), sample(1, 3, 2, name="b")
    whole = share(top, bottom, top, bottom)
    assert (whole.value, whole.low, whole.high) == pytest.approx((1.0, 1.0, 1.0))


def test_a_share_of_a_gap_that_may_be_none_is_unknown() -> None:
    wide = sample(-5, 9, 2, name="a")
    assert share(wide, sample(0, 0, 0, name="b"), wide, sample(1, -1, 0, name="c")) == UNKNOWN


def test_probability_of_improvement_counts_ties_half() -> None:
    """Pairs of 1, 2, 3 against 2, 2: none, half and both won: (0 + 1 + 2) / 6."""
    estimate = probability_of_improvement(sample(1, 2, 3), sample(2, 2, name="y"))
    assert estimate.value == 0.5 and (estimate.low, estimate.high) == (0.0, 1.0)
    assert probability_of_improvement(sample(4, 5), sample(1, 2, name="y")) == Estimate(1.0, 1.0, 1.0, 2)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=6), st.lists(st.integers(0, 5), min_size=2, max_size=6))
def test_one_of_two_wins(x: list[int], y: list[int]) -> None:
    one, other = make_sample(np.array(x), "x", draws=50), make_sample(np.array(y), "y", draws=50)
    there, back = probability_of_improvement(one, other), probability_of_improvement(other, one)
    assert there.value + back.value == pytest.approx(1)
    assert there.low + back.high == pytest.approx(1)


def test_time_to_a_return() -> None:
    """The mean curve 0, 1, 4 passes 1.5 at 18 s; the first run alone does at 12 s, the second at 18 s."""
    curves = make_sample(np.array([[0.0, 2.0, 4.0], [0.0, 0.0, 4.0]]), "x")
    end_s = np.array([6.0, 12.0, 18.0])
    assert time_to(curves, end_s, 1.5) == Estimate(18.0, 12.0, 18.0, 2)
    assert time_to(curves, end_s, 10.0) == Estimate(math.inf, math.inf, math.inf, 2)


def test_tenths() -> None:
    returns = np.arange(40.0).reshape(2, 20)
    np.testing.assert_allclose(last_tenth(returns), [18.5, 38.5])
    np.testing.assert_allclose(first_tenth(returns), [0.5, 20.5])
    np.testing.assert_allclose(last_tenth(np.array([[1.0, 2.0, 6.0]])), [6.0])


def test_trailing_mean_begins_when_its_window_is_full() -> None:
    np.testing.assert_allclose(trailing(np.array([[1.0, 2.0, 6.0, 1.0]]), 3), [[3.0, 3.0]])


def test_smooth_averages_what_the_window_still_covers() -> None:
    np.testing.assert_allclose(smooth(np.array([0.0, 3.0, 6.0, 0.0]), 3), [1.5, 3.0, 3.0, 3.0])


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.integers(1, 15))
def test_smooth_stays_between_the_extremes(values: list[float], window: int) -> None:
    smoothed = smooth(np.array(values), window)
    assert smoothed.shape == (len(values),)
    assert smoothed.min() >= min(values) - 1e-6 and smoothed.max() <= max(values) + 1e-6


def test_numbers_are_written_for_a_reader() -> None:
    assert number(102942.2, 0) == "102,942"
    assert number(-0.04) == "0.0" and number(2.5, sign=True) == "+2.5"
    assert number(-2.5) == "−2.5"  # noqa: RUF001
    assert number(math.inf, 0) == "never" and number(math.nan) == "–"  # noqa: RUF001
    assert with_interval(Estimate(103.1, 80.5, 125.6, 25)) == "103.1 (80.5 to 125.6)"
    assert with_interval(Estimate(2274, 1980, math.inf, 25), 0) == "2,274 (1,980 to never)"
    assert ends(Estimate(5.0, 5.0, 5.0, 3)) == "" and ends(UNKNOWN) == ""
