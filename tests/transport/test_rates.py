"""Mean log1p of negative-binomial counts, up to genes that are nearly all of a cell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import nbinom

import transpert as tp
from transpert.transport import log_fold_of_means, mean_log_of_rate, shift_mean_log


@pytest.mark.parametrize("dispersion", [0.01, 0.3])
@pytest.mark.parametrize("rate", [0.3, 40.0, 4_999.0, 5_500.0, 9_900.0])
def test_a_mean_is_that_of_all_counts(rate, dispersion) -> None:
    scale = 2.5
    size, counts = 1 / dispersion, np.arange(200_000)
    expected = nbinom.pmf(counts, size, size / (size + rate / scale)) @ np.log1p(scale * counts)
    found = mean_log_of_rate(np.array([rate]), np.array([dispersion]), scale)
    np.testing.assert_allclose(found, expected, rtol=0.01)


@pytest.mark.parametrize("before", [3_000.0, 4_900.0, 6_637.0, 9_000.0])
@pytest.mark.parametrize("fold", [-0.2, 0.1])
def test_a_fold_change_of_most_counts_of_a_cell_is_kept(before, fold) -> None:
    mean_log = np.log1p([before])
    shared = {"pseudo_rate": 0.05, "dispersion": np.array([0.01]), "scale": 2.0}
    after = shift_mean_log(mean_log, np.array([before]), np.array([fold]), **shared)
    assert log_fold_of_means(after, mean_log) == pytest.approx(fold, rel=0.05)


def test_a_gene_has_at_most_all_counts_of_a_cell() -> None:
    largest, beyond = (mean_log_of_rate(np.array([rate]), np.array([0.01]), 2.0) for rate in (1e4, 3e4))
    np.testing.assert_array_equal(beyond, largest)


@pytest.mark.parametrize("fold", [-0.2, 0.2])
def test_models_predict_the_fold_change_of_a_gene_that_is_most_of_a_cell(fold) -> None:
    rng = np.random.default_rng(0)
    rates = np.r_[6_600.0, np.full(20, 100.0)]
    moved = rates * np.r_[np.exp(fold), np.ones(20)]
    counts = np.concatenate([rng.poisson(level / 2, size=(200, 21)) for _ in range(3) for level in (rates, moved)])
    labels = [(context, name) for context in "ABC" for name in ("control", "X") for _ in range(200)]
    obs = pd.DataFrame(labels, columns=["context", "perturbation"]).assign(library_size=5_500.0)
    adata = AnnData(counts.astype(np.float32), obs=obs.set_index(obs.index.astype(str)))
    tp.MeanFoldChange.setup_anndata(adata, perturbation_key="perturbation", context_keys="context")
    model = tp.MeanFoldChange(adata)
    model.train()
    found = model.get_effects({"context": "A"}, "X")
    assert found.iloc[0, 0] == pytest.approx(fold, abs=0.02)
