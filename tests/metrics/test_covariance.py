"""Whether genes vary together: the numbers are those of cell-eval2 0.20.0, and what they tell apart is right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import sparse

from transpert import metrics
from transpert.metrics import covariance

NAMES = ["cell_cov_corr", "cell_cov_eig_ratio", "cell_cov_ccc"]


def together(rng, n_cells: int, pattern: np.ndarray, noise: float = 1.0) -> np.ndarray:
    """Cells whose genes follow one programme."""
    state = rng.normal(0, 1, (n_cells, 1))
    return np.maximum(3 + state * pattern + rng.normal(0, noise, (n_cells, len(pattern))), 0)


def test_the_right_programme_is_told_from_another_and_from_none() -> None:
    rng = np.random.default_rng(0)
    pattern = rng.normal(0, 1, 40)
    real, same, other = (together(rng, 300, each) for each in (pattern, pattern, rng.permutation(pattern)))
    alone = np.stack([rng.permutation(column) for column in same.T], axis=1)  # each gene as it is, on its own
    assert covariance.correlation_agreement(same, real) > 0.9
    assert abs(covariance.correlation_agreement(other, real)) < 0.4
    assert covariance.leading_eigenvalue_ratio(other, real) == pytest.approx(1, abs=0.2)  # as strong, but another
    assert covariance.leading_eigenvalue_ratio(alone, real) < 0.3
    assert covariance.correlation_concordance(same, real) > 0.9
    weak = together(rng, 300, pattern, noise=3.0)
    # the pattern is right and too weak
    assert covariance.correlation_agreement(weak, real) - covariance.correlation_concordance(weak, real) > 0.03


def test_blocks_of_genes_give_the_concordance_of_all_pairs(monkeypatch) -> None:
    rng = np.random.default_rng(1)
    real, own = (together(rng, 80, np.linspace(-1, 1, 30)) for _ in range(2))
    whole = covariance.correlation_concordance(own, real)
    monkeypatch.setattr(covariance, "_BLOCK", 7)
    assert covariance.correlation_concordance(own, real) == pytest.approx(whole, abs=1e-12)


def test_genes_that_do_not_vary_and_few_cells_have_no_correlation() -> None:
    assert np.isnan(covariance.correlation_agreement(np.ones((60, 4)), np.ones((60, 4))))
    assert np.isnan(covariance.leading_eigenvalue_ratio(np.ones((60, 4)), np.ones((60, 4))))
    assert np.isnan(covariance.correlation_concordance(np.ones((60, 4)), np.ones((60, 4))))
    rng = np.random.default_rng(0)
    few = metrics.Comparison(rng.random((49, 30)), rng.random((60, 30)), rng.random((60, 30)))
    assert all(np.isnan(metrics.METRICS[name].function(few)) for name in NAMES)


def test_the_order_of_cells_that_are_drawn_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    real, own, controls = (together(rng, n, np.linspace(-1, 1, 30)) for n in (700, 60, 100))
    pair = [metrics.Comparison(own, cells, controls) for cells in (real, real[::-1])]
    for name in NAMES:
        first, second = (metrics.METRICS[name].function(each) for each in pair)
        assert np.isfinite(first) and first == pytest.approx(second, abs=1e-9)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_the_numbers_are_those_of_cell_eval2(make) -> None:
    package = pytest.importorskip("cell_eval2")
    from tests.metrics.conftest import simulated_screen

    screen = simulated_screen(3, n_perturbations=3, n_cells=70, n_genes=150)
    config = dataclasses.replace(package.EvalConfig(), metrics="cell", control="control", num_threads=1)
    sides = [screen.adata(counts.astype(np.float64), make) for counts in (screen.predicted, screen.real)]
    theirs = package.compute_metrics(*sides, config=config).to_pandas()
    theirs = theirs.pivot(index="perturbation", columns="metric", values="value").loc[screen.perturbations]
    ours = metrics.score_prediction(screen.comparisons(make, reference="real"), NAMES)
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5, err_msg=name)
