"""Paired statistics, against SciPy and cases small enough for a hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from models.evaluation import statistics

FIRST = [56.1, 48.2, 61.0, 44.3, 52.7, 58.8]
SECOND = [60.5, 47.9, 68.1, 50.2, 55.0, 66.4]


def test_a_summary_has_the_sample_sd_and_an_interval_about_the_mean() -> None:
    found = statistics.summary([1.0, 2.0, 3.0, float("nan")], 0)
    assert (found.n, found.mean, found.sd) == (3, 2.0, 1.0)
    assert 1.0 <= found.low < 2.0 < found.high <= 3.0


def test_nothing_is_said_of_nothing() -> None:
    found = statistics.summary([float("nan")], 0)
    assert found.n == 0
    assert np.isnan([found.mean, found.sd, found.low, found.high]).all()


def test_the_bootstrap_says_the_same_with_the_same_seed_and_about_what_scipy_says() -> None:
    values = np.array(FIRST)
    found = statistics.bootstrap_interval(values, 7)
    assert found == statistics.bootstrap_interval(values, 7) != statistics.bootstrap_interval(values, 8)
    expected = stats.bootstrap((values,), np.mean, method="percentile", random_state=1).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.2)


def test_the_tests_are_those_of_scipy() -> None:
    found = statistics.compare(FIRST, SECOND, 0)
    assert found.t_p == pytest.approx(stats.ttest_rel(FIRST, SECOND).pvalue)
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(FIRST, SECOND).pvalue)
    assert found.difference == pytest.approx(np.mean(FIRST) - np.mean(SECOND))
    assert found.low < found.difference < found.high < 0


def test_only_patients_that_both_have_are_compared() -> None:
    found = statistics.compare([1.0, float("nan"), 3.0, 5.0], [2.0, 1.0, 4.5, float("nan")], 0)
    assert (found.n, found.difference) == (2, -1.25)


def test_equal_methods_do_not_differ() -> None:
    found = statistics.compare(FIRST, FIRST, 0)
    assert (found.difference, found.t_p, found.wilcoxon_p) == (0.0, 1.0, 1.0)


def test_one_patient_gives_a_difference_and_no_p() -> None:
    found = statistics.compare([1.0], [3.0], 0)
    assert found.difference == -2.0
    assert np.isnan([found.t_p, found.wilcoxon_p, found.low]).all()


def test_holm_steps_down_as_by_hand() -> None:
    adjusted = statistics.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": float("nan")})
    assert adjusted["a"] == pytest.approx(0.03)
    assert adjusted["c"] == pytest.approx(0.06)
    assert adjusted["b"] == pytest.approx(0.06)
    assert np.isnan(adjusted["d"])


def test_stars_are_those_of_the_usual_limits() -> None:
    assert [statistics.stars(p) for p in (0.0009, 0.001, 0.01, 0.05, float("nan"))] == ["***", "**", "*", "", ""]
