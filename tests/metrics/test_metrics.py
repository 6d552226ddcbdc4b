from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pertpy
import pytest
from scipy import sparse
from scipy.spatial.distance import pdist
from scipy.stats import mannwhitneyu

from transpert import metrics
from transpert.errors import MetricInputError, UnknownNameError
from transpert.metrics.differential_expression import mean_rate


def cells(n=60, shift=0.0, seed=0, n_genes=20) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = np.log1p(rng.poisson(2.0, (n, n_genes)))
    values[:, :5] = np.log1p(rng.poisson(2.0 * np.exp(shift), (n, 5)))
    return values.astype(np.float32)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_rank_tests_are_those_of_scipy(make) -> None:
    x, y = cells(shift=1.0), cells(80, seed=1)
    table = metrics.differential_expression(make(x), make(y))
    for gene in range(20):
        expected = mannwhitneyu(x[:, gene], y[:, gene], method="asymptotic", use_continuity=True).pvalue
        assert table.p_value[gene] == pytest.approx(expected, rel=1e-4)
    assert set(np.flatnonzero(table.significant)) >= {0, 1, 2, 3, 4}


def de(fold, adjusted) -> metrics.DifferentialExpression:
    fold, adjusted = np.asarray(fold, float), np.asarray(adjusted, float)
    return metrics.DifferentialExpression(fold, adjusted, adjusted, np.sign(fold))


def test_overlap_precision_and_direction_by_hand() -> None:
    real = de([3, -2, 1, 0.5, 9], [0.01, 0.01, 0.01, 0.01, 0.9])
    predicted = de([2, 3, -1, 0.1, 5], [0.01, 0.01, 0.5, 0.6, 0.01])
    # really significant 0 1 2 3; predicted 4 1 0
    assert metrics.overlap_at_n(predicted, real) == 2 / 4
    assert metrics.precision_at_n(predicted, real) == 2 / 3
    assert metrics.overlap_at_n(predicted, real, n=1) == 0
    assert metrics.direction_match(predicted, real) == 2 / 4
    assert metrics.n_significant_ratio(predicted, real) == 3 / 4


def test_nothing_significant_is_missing_or_zero() -> None:
    none, some = de([1, 2], [0.9, 0.9]), de([1, 2], [0.01, 0.9])
    assert np.isnan(metrics.overlap_at_n(some, none))
    assert np.isnan(metrics.n_significant_ratio(some, none))
    assert metrics.overlap_at_n(none, some) == 0
    assert metrics.precision_at_n(none, some) == 0


def test_zeros_on_one_side_give_finite_fold_changes() -> None:
    x, y = cells(), cells(seed=1)
    y[:, 3] = 0
    x[:, 4] = 0
    assert np.isfinite(metrics.differential_expression(x, y).log2_fold_change).all()


def test_correlation_is_that_of_numpy_and_missing_for_constants() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 9))
    np.testing.assert_allclose(
        metrics.pearson_delta(a, b), [np.corrcoef(p, r)[0, 1] for p, r in zip(a, b, strict=True)]
    )
    a[1] = 0.1
    assert np.isnan(metrics.pearson_delta(a, b)[1]) and np.isfinite(metrics.pearson_delta(a, b)[[0, 2]]).all()


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_energy_distance_against_a_slow_one(make) -> None:
    x, y = cells(13), cells(9, shift=1, seed=2)

    def mean(a, b, same=False):
        d = [np.linalg.norm(p - q) for i, p in enumerate(a) for j, q in enumerate(b) if not (same and i == j)]
        return np.mean(d)

    slow = 2 * mean(x, y) - mean(x, x, True) - mean(y, y, True)
    assert metrics.energy_distance(make(x), make(y)) == pytest.approx(slow, rel=1e-5)


def test_energy_distance_is_that_of_pertpy_without_self_pairs() -> None:
    x, y = cells(40), cells(50, shift=1, seed=3)
    theirs = pertpy.tl.Distance("edistance", obsm_key="X_pca")(x, y)
    # pertpy counts a cell's distance to itself
    self_pairs = pdist(x).mean() / len(x) + pdist(y).mean() / len(y)
    assert metrics.energy_distance(x, y) + self_pairs == pytest.approx(float(theirs), rel=1e-4)


def test_integrity_sees_collapse_and_lost_zeros() -> None:
    x = cells(200)
    assert metrics.variance_ratio(x, cells(200, seed=5)) == pytest.approx(1, abs=0.25)
    constant = np.repeat(x.mean(axis=0, keepdims=True), 200, axis=0)
    assert metrics.variance_ratio(constant, x) < 1e-6
    assert metrics.zero_fraction_gap(x + 0.1, x) > 0.1 > metrics.zero_fraction_gap(cells(200, seed=5), x)


@pytest.mark.parametrize("function", [metrics.energy_distance, metrics.differential_expression, metrics.variance_ratio])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: np.where(np.arange(20) == 3, np.nan, x), "60 of 1200 entries are NaN"),
        (lambda x: np.where(np.arange(20) == 3, np.inf, x), "60 of 1200 entries are NaN or infinite"),
        (lambda x: x - 10, "entries are negative"),
        (lambda x: x.T[:, :20], "shape|genes|negative"),
        (lambda x: x[:0], "shape"),
        (lambda x: x[:, :7], "7 genes, not 20"),
    ],
    ids=["nan", "inf", "negative", "transposed", "empty", "other genes"],
)
def test_bad_cells_are_refused_by_name(function, spoil, message) -> None:
    good = cells(60)
    bad = spoil(cells(60))
    if bad.shape == (20, 20):
        bad = cells(60, n_genes=60)[:20]
        message = "60 genes, not 20. It may be transposed|60 genes"
    with pytest.raises(MetricInputError, match=message):
        function(bad, good)


def test_normalised_scores_and_intervals() -> None:
    np.testing.assert_allclose(metrics.normalise(np.array([0.5, 1.0]), 0.5, 1.0, direction="higher"), [0, 1])
    np.testing.assert_allclose(metrics.normalise([2.0, 0.5], 2.0, -1.0, direction="lower"), [0, 0.5])
    low, high = metrics.bootstrap_interval(np.r_[np.random.default_rng(0).normal(1, 0.1, 50), np.nan])
    assert low < 1.02 and high > 0.98 and high - low < 0.1
    assert np.isnan(metrics.bootstrap_interval([1.0])).all()


@pytest.mark.parametrize(
    ("floor", "ceiling", "direction"),
    [
        (0.913, 0.752, "higher"),  # one half of the cells is worse than a good baseline
        (0.1, 0.2, "lower"),
        (0.737, 0.738, "higher"),  # a score of .854 would be 117
        (1.0, 1.0, "higher"),
        (np.nan, 1.0, "higher"),
        (0.5, 1.0, "one"),
        (0.5, 1.0, "none"),
    ],
)
def test_there_is_no_scale_where_the_ceiling_is_not_above_the_floor(floor, ceiling, direction) -> None:
    assert np.isnan(metrics.normalise([0.0, 0.854], floor, ceiling, direction=direction)).all()


def comparisons() -> list[metrics.Comparison]:
    controls = metrics.Population(cells(seed=2))
    return [
        metrics.Comparison(
            cells(shift=s / 2, seed=s), cells(shift=s, seed=9 + s), controls, None, f"p{s}", targets=(s,)
        )
        for s in range(4)
    ]


def test_no_metric_depends_on_which_others_run() -> None:
    names = [name for name, metric in metrics.METRICS.items() if not metric.counts]
    together = metrics.score_prediction(comparisons(), names, block=3)
    for name, values in together.items():
        alone = metrics.score_prediction(comparisons(), [name])[name]
        np.testing.assert_allclose(alone, values, err_msg=name)
        assert len(values) == (4 if metrics.METRICS[name].per == "population" else 1)


def test_unknown_metrics_are_named() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'pearson_delta'"):
        metrics.resolve_metrics(["pearson_detla"])


def test_a_panel_of_many_populations_is_gathered_at_once() -> None:
    one = metrics.Summary("", "", (), {"value": 1.0})
    many = [replace(one, perturbation=f"P{number}") for number in range(20_000)]
    start = time.perf_counter()
    summaries = metrics.Summaries.gather(many)
    # comparing each with each takes ten times as long
    assert time.perf_counter() - start < 1.5
    assert len(summaries.perturbation) == 20_000
    with pytest.raises(MetricInputError, match="more than once: ' / P7'"):
        metrics.Summaries.gather([*many, many[7]])


@pytest.mark.filterwarnings("error")
def test_rates_beyond_all_numbers_are_infinite_without_a_warning() -> None:
    values = np.array([[800.0, np.log1p(3)]])
    for cells in (values, sparse.csr_matrix(values)):
        assert mean_rate(cells).tolist() == [np.inf, pytest.approx(3)]
