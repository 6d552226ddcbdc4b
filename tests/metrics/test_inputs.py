"""Every function says which of its arrays it cannot use, and how many entries are wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from transpert import metrics
from transpert.errors import MetricInputError, OptionError

ON_EFFECTS = {
    "pearson_delta": metrics.pearson_delta,
    "mse_delta": metrics.mse_delta,
    "mae_delta": metrics.mae_delta,
    "mse": metrics.mse,
    "mae": metrics.mae,
    "discrimination_score": metrics.discrimination_score,
    "normalised_inverse_rank": metrics.normalised_inverse_rank,
    "weighted_mse": lambda p, r: metrics.weighted_mse(p, r, np.full((4, 9), 1 / 9)),
    "weighted_r2": lambda p, r: metrics.weighted_r2(p, r, np.full((4, 9), 1 / 9)),
    "pearson_delta_perturbed": metrics.pearson_delta_perturbed,
    "centroid_accuracy": metrics.centroid_accuracy,
    "top_recall": metrics.top_recall,
    "top_average_precision": metrics.top_average_precision,
    "unique_gene_error": lambda p, r: metrics.unique_gene_error(p, r, np.ones((4, 9), bool)),
    "residual_pearson": lambda p, r: metrics.residual_pearson(p, r, list("aabb"), list("xyxy")),
    "residual_r2": lambda p, r: metrics.residual_r2(p, r, list("aabb"), list("xyxy")),
    "noise_corrected_errors": lambda p, r: metrics.noise_corrected_errors(p, r, np.ones((4, 9)), *np.ones((3, 4))),
}
SPOILT_EFFECTS = {
    "nan": (lambda x: np.where(np.arange(9) == 3, np.nan, x), "4 of 36 entries are NaN or infinite .in the predicted"),
    "infinite": (lambda x: np.where(np.arange(9) == 3, np.inf, x), "4 of 36 entries are NaN or infinite"),
    "transposed": (lambda x: x.T, r"shape \(9, 4\), the real ones \(4, 9\) .*transposed"),
    "empty": (lambda x: x[:0], r"shape \(0, 9\)"),
    "mismatched": (lambda x: x[:, :7], r"shape \(4, 7\), the real ones \(4, 9\)"),
}


@pytest.mark.parametrize("name", ON_EFFECTS)
@pytest.mark.parametrize("kind", SPOILT_EFFECTS)
def test_spoilt_effects_are_refused(name, kind) -> None:
    good = np.random.default_rng(0).normal(size=(4, 9))
    spoil, message = SPOILT_EFFECTS[kind]
    with pytest.raises(MetricInputError, match=message):
        ON_EFFECTS[name](spoil(good), good)


ON_CELLS = {
    "energy_distance": metrics.energy_distance,
    "maximum_mean_discrepancy": metrics.maximum_mean_discrepancy,
    "differential_expression": metrics.differential_expression,
    "rank_sums": lambda x, y: metrics.rank_sums([x], y),
    "variance_ratio": metrics.variance_ratio,
    "zero_fraction_gap": metrics.zero_fraction_gap,
    "Comparison": lambda x, y: metrics.Comparison(x, y, y),
    "predicted controls": lambda x, y: metrics.Comparison(y, y, y, x),
    "counts": lambda x, y: metrics.Population(y, x),
}
SPOILT_CELLS = {
    "nan": (lambda x: np.where(np.arange(6) == 3, np.nan, x), "20 of 120 entries are NaN or infinite"),
    "infinite": (lambda x: np.where(np.arange(6) == 3, np.inf, x), "20 of 120 entries are NaN or infinite"),
    "negative": (lambda x: np.where(np.arange(6) == 3, -1.0, x), "20 of 120 entries are negative"),
    "empty": (lambda x: x[:0], r"shape \(0, 6\)"),
    "transposed": (lambda x: x.T, "20 genes, not 6.*may be transposed"),
    "mismatched": (lambda x: x[:, :5], "5 genes, not 6.*Align the genes"),
}


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", ON_CELLS)
@pytest.mark.parametrize("kind", SPOILT_CELLS)
def test_spoilt_cells_are_refused(name, kind, make) -> None:
    good = np.random.default_rng(0).gamma(1.0, 1.0, (20, 6))
    spoil, message = SPOILT_CELLS[kind]
    with pytest.raises(MetricInputError, match=message):
        ON_CELLS[name](make(spoil(good)), make(good))


LIKE_ARRAYS = [pd.DataFrame, lambda x: x.tolist(), lambda x: tuple(map(tuple, x))]


@pytest.mark.parametrize("make", LIKE_ARRAYS, ids=["frame", "lists", "tuples"])
@pytest.mark.parametrize("name", [name for name in ON_CELLS if name not in ("Comparison", "predicted controls")])
def test_cells_may_stand_in_whatever_numpy_reads(name, make) -> None:
    cells, other = np.random.default_rng(0).poisson(1.0, (2, 20, 6)).astype(float)
    found, expected = ON_CELLS[name](make(cells), make(other)), ON_CELLS[name](cells, other)
    if name == "counts":
        found, expected = found.bulk, expected.bulk
    elif name == "rank_sums":
        found, expected = found[0].z_score, expected[0].z_score
    elif name == "differential_expression":
        found, expected = found.log2_fold_change, expected.log2_fold_change
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("function", [metrics.bulk_profile, metrics.bulk_noise])
def test_counts_may_stand_in_whatever_numpy_reads(function) -> None:
    counts = np.random.default_rng(0).poisson(1.0, (20, 6))
    for make in LIKE_ARRAYS:
        np.testing.assert_array_equal(function(make(counts)), function(counts))


@pytest.mark.parametrize("name", ON_CELLS)
@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([[0.0, 1.0], [1.0]], "the values make no matrix"),
        ([["a", "b"]], "of type <U1, not numbers"),
        (None, "of type NoneType, not numbers"),
        ([0.0, 1.0], r"shape \(2,\).*Cells x genes"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(name, cells, message) -> None:
    if name == "counts" or (name == "predicted controls" and cells is None):
        return  # nothing is an answer there
    with pytest.raises(MetricInputError, match=message):
        ON_CELLS[name](cells, np.ones((3, 2)))


@pytest.mark.parametrize("function", [metrics.overlap_at_n, metrics.precision_at_n])
@pytest.mark.parametrize("n", [-1, 0, 2.5, "3", np.nan])
def test_numbers_of_genes_are_whole_and_above_0(function, n) -> None:
    sure = np.full(5, 0.01)
    table = metrics.DifferentialExpression(np.arange(5.0, 0, -1), sure, sure, sure)
    none = metrics.DifferentialExpression(np.arange(5.0, 0, -1), sure, np.ones(5), sure)
    for real in (table, none):
        with pytest.raises(OptionError, match=f"n is {n!r}.*at least 1"):
            function(table, real, n=n)
    assert function(table, table, n=np.int64(2)) == 1.0


@pytest.mark.parametrize("level", [95, 0, 1, -0.1, np.nan, "x", None])
def test_the_level_of_an_interval_is_a_share(level) -> None:
    for values in ([1.0, 2.0, 3.0], [1.0]):
        with pytest.raises(OptionError, match=f"level is {level!r}.*between 0 and 1"):
            metrics.bootstrap_interval(values, level=level)


@pytest.mark.parametrize("function", [metrics.bulk_profile, metrics.bulk_noise])
@pytest.mark.parametrize("kind", ["nan", "infinite", "negative", "empty"])
def test_spoilt_counts_are_refused(function, kind) -> None:
    spoil, message = SPOILT_CELLS[kind]
    with pytest.raises(MetricInputError, match=message):
        function(spoil(np.ones((20, 6))))


def test_other_arguments_that_do_not_fit_are_named() -> None:
    good = np.random.default_rng(0).normal(size=(4, 9))
    ones = np.ones(4)
    with pytest.raises(MetricInputError, match=r"the weights have shape \(4, 8\)"):
        metrics.weighted_mse(good, good, np.ones((4, 8)))
    with pytest.raises(MetricInputError, match="1 of 36 entries are negative .in weights"):
        metrics.weighted_mse(good, good, np.where(np.arange(36).reshape(4, 9) == 3, -1, 1))
    with pytest.raises(MetricInputError, match="36 of 36 entries are NaN"):
        metrics.effect_weights(good * np.nan)
    with pytest.raises(MetricInputError, match="4 real lists of targets|lists of targets"):
        metrics.discrimination_score(good, good, targets=[(1,)])
    with pytest.raises(MetricInputError, match="significant genes"):
        metrics.unique_gene_error(good, good, np.ones((4, 8), bool))
    with pytest.raises(MetricInputError, match="counting perturbations"):
        metrics.residual_r2(good, good, list("aabb"), list("xy"))
    with pytest.raises(MetricInputError, match="reference"):
        metrics.pearson_delta_perturbed(good, good, reference=np.ones(3))
    with pytest.raises(MetricInputError, match="a variance is negative"):
        metrics.noise_corrected_errors(good, good, good, -ones, ones, ones)
    with pytest.raises(MetricInputError, match="3 cells have counts, 4 have log1p values"):
        metrics.Population(np.ones((4, 9)), np.ones((3, 9)))
    table = metrics.differential_expression(np.eye(4), np.ones((3, 4)))
    other = metrics.differential_expression(np.eye(5), np.ones((3, 5)))
    for function in (
        metrics.overlap_at_n,
        metrics.precision_at_n,
        metrics.direction_match,
        metrics.fold_change_spearman,
        metrics.significant_recall,
        metrics.area_under_curve,
        metrics.n_significant_ratio,
        metrics.direction_fidelity,
        metrics.direction_reach,
        metrics.significant_jaccard,
        metrics.fold_change_error,
    ):
        with pytest.raises(MetricInputError, match="4 predicted and 5 real genes"):
            function(table, other)
    with pytest.raises(MetricInputError, match="1 predicted and 2 real numbers"):
        metrics.n_significant_spearman(np.ones(1), np.ones(2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_of_sparse_cells_are_those_of_dense_ones(dtype) -> None:
    rng = np.random.default_rng(0)
    share = rng.random(60) ** 3  # genes that most cells have, and genes that hardly any has
    few, many = (np.where(rng.random((n, 60)) < share, rng.gamma(2, 1, (n, 60)), 0) for n in (30, 1_100))
    for measure in (metrics.energy_distance, metrics.maximum_mean_discrepancy):
        for x, y in ((few, many), (many, few)):
            found = measure(*(sparse.csr_matrix(cells.astype(dtype)) for cells in (x, y)))
            assert found == pytest.approx(measure(x, y), rel=1e-5, abs=1e-5)


def test_a_population_knows_its_own_cells() -> None:
    cells = np.random.default_rng(0).poisson(1, (5, 4)).astype(np.float32)
    one, same, other = (metrics.Population(sparse.csr_matrix(m)) for m in (cells, cells, cells[::-1]))
    assert one.same_as(same) and not one.same_as(other)
    assert not one.same_as(metrics.Population(cells))
    assert not one.same_as(metrics.Population(sparse.csr_matrix(cells), counts=sparse.csr_matrix(cells)))
