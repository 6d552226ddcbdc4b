from __future__ import annotations

import numpy as np
import pytest
from benchmarks.scaling.laws import LAWS, SIZES, drawn, judge

from transpert.errors import MetricInputError
from transpert.scaling import fit_curve, published_saturation


@pytest.mark.parametrize("name", ["power", "steep", "unreached"])
def test_the_exponent_of_a_known_law_is_in_its_interval_and_the_saturation_within_a_step(name) -> None:
    found = judge(name, n_runs=20)
    assert found["exponent"] >= 0.8
    assert found["saturation"] >= 0.9
    assert found["not_reached"] == (name == "unreached")


def test_a_flat_truth_is_flat() -> None:
    assert judge("flat", n_runs=20)["constant"] >= 0.9


def test_the_published_point_is_reached_where_the_law_does_not_reach_it() -> None:
    scores = drawn(LAWS["unreached"], 0)
    assert np.isinf(fit_curve(SIZES, scores, n_bootstrap=20).saturation()[0])
    assert np.isfinite(published_saturation(SIZES, scores.mean(axis=2)))


def test_an_exponential_is_told_from_a_power_law() -> None:
    sizes = np.geomspace(10, 1_000, 8)
    curve = 0.8 - 0.6 * np.exp(-(sizes - 10) / 100)
    scores = curve[:, None, None] + np.random.default_rng(0).normal(scale=0.005, size=(8, 4, 3))
    found = fit_curve(sizes, scores, n_bootstrap=20)
    assert found.kind == "exponential"
    assert found.rate[0] == pytest.approx(100, rel=0.15)
    assert found.best[0] == pytest.approx(0.8, abs=0.01)


def test_the_gain_of_more_is_what_the_law_says() -> None:
    sizes = np.geomspace(10, 1_000, 8)
    curve = fit_curve(sizes, (0.9 - 0.5 * (sizes / 10) ** -0.5)[:, None, None], n_bootstrap=5)
    assert curve.gain(1_000, 3_000)[0] == pytest.approx(0.5 * (100**-0.5 - 400**-0.5), abs=2e-3)


def test_too_few_sizes_and_missing_scores_are_refused() -> None:
    with pytest.raises(MetricInputError, match="3 sizes"):
        fit_curve(np.arange(1, 4), np.zeros((3, 2, 2)))
    with pytest.raises(MetricInputError, match="missing"):
        fit_curve(np.arange(1, 6), np.full((5, 2, 2), np.nan))
