"""Rank-sum tests against controls that are sorted once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import mannwhitneyu

from transpert.metrics import Population, rank_sums
from transpert.metrics.rank_tests import SortedCells


def cells(seed: int, n_cells: int, *, ties: bool, n_genes: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.poisson(rng.gamma(1, 1, n_genes), (n_cells, n_genes)).astype(float)
    values[:, 3] = 0
    values[:, 4] = 2
    return values if ties else np.log1p(values * rng.uniform(0.5, 2, (n_cells, 1)))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("n_cells", [1, 9, 300])
def test_p_values_are_those_of_scipy(ties: bool, form, n_cells: int) -> None:
    population, controls = cells(0, n_cells, ties=ties), cells(1, 700, ties=ties)
    found = rank_sums([form(population)], form(controls))[0]
    with np.errstate(invalid="ignore"):
        expected = mannwhitneyu(population, controls, axis=0, method="asymptotic")
    varies = np.ptp(np.concatenate([population, controls]), axis=0) > 0
    np.testing.assert_allclose(found.p_value[varies], expected.pvalue[varies], rtol=1e-9)
    assert (found.p_value[~varies] == 1).all()
    assert (found.z_score[~varies] == 0).all()
    middle = population.shape[0] * 700 / 2
    away = np.abs(expected.statistic - middle) > 0.5
    np.testing.assert_array_equal(np.sign(found.z_score[away]), np.sign(expected.statistic - middle)[away])


def test_zeros_that_are_stored_are_zeros() -> None:
    stored = sparse.csr_matrix(np.arange(12.0).reshape(4, 3))
    stored.data[stored.data > 7] = 0
    other = np.array([[1.0, 2, 3], [4, 0, 0], [0, 0, 5]])
    one, two = rank_sums([stored], other)[0], rank_sums([stored.toarray()], sparse.csr_matrix(other))[0]
    np.testing.assert_array_equal(one.z_score, two.z_score)
    assert stored.nnz == 11  # of the caller


def test_the_cells_of_a_caller_stay_as_they_are() -> None:
    population, controls = (sparse.csc_matrix(cells(seed, 50, ties=False)) for seed in (0, 1))
    before = [population.data.copy(), controls.data.copy()]
    rank_sums([population], controls)
    np.testing.assert_array_equal(population.data, before[0])
    np.testing.assert_array_equal(controls.data, before[1])


def test_controls_are_sorted_once_however_many_populations_are_tested(monkeypatch) -> None:
    calls = []
    original = SortedCells.of
    monkeypatch.setattr(SortedCells, "of", lambda values: calls.append(1) or original(values))
    controls = Population(cells(0, 100, ties=False))
    for seed in range(1, 6):
        Population(cells(seed, 20, ties=False)).differential_expression(controls)
    assert len(calls) == 1
