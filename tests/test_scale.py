from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from transpert._scale import check_same_scale, evenly_spread_rows, form_of, mismatch, sizes_behind, unlike_counts
from transpert.errors import CountsError


@pytest.fixture
def counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(3.0, (40, 30)).astype(np.float32)


def values(counts: np.ndarray, sizes: np.ndarray, target: float = 1e4) -> np.ndarray:
    return np.log1p(counts / sizes[:, None] * target).astype(np.float32)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_array])
@pytest.mark.parametrize("precision", [np.float16, np.float32, np.float64])
def test_library_sizes_are_read_off_the_values(counts, kind, precision) -> None:
    sizes = np.linspace(200, 4_000, len(counts))
    found = sizes_behind(kind(values(counts, sizes).astype(precision).astype(np.float32)), kind(counts))
    np.testing.assert_allclose(found, sizes, rtol=5e-3)


def test_values_that_are_no_log1p_of_the_counts_have_no_library_size(counts) -> None:
    sizes = counts.sum(axis=1)
    assert np.isnan(sizes_behind(values(counts, sizes) / np.log(2), counts)).all()  # log2
    assert np.isnan(sizes_behind(values(counts, sizes), counts[:, ::-1])).all()
    assert np.isnan(sizes_behind(np.zeros((2, 3)), np.zeros((2, 3)))).all()


def test_the_remedy_names_the_column_that_fits(counts) -> None:
    sizes = counts.sum(axis=1) * np.linspace(2, 3, len(counts))
    obs = pd.DataFrame({"cell_type": "B", "pct": 0.5, "n_umis": sizes})
    cells = values(counts, sizes)
    check_same_scale(cells, counts, sizes, obs, where="X", counts_in="layers['counts']")
    with pytest.raises(CountsError, match="library_size_key='n_umis'") as caught:
        check_same_scale(cells, counts, counts.sum(axis=1), obs, where="X", counts_in="layers['counts']")
    assert "in X" in str(caught.value) and "40 of 40 cells" in str(caught.value)


def test_another_target_sum_is_named(counts) -> None:
    sizes = counts.sum(axis=1)
    with pytest.raises(CountsError, match="normalised to 1e.06 per cell, not to 10,000"):
        check_same_scale(values(counts, sizes, 1e6), counts, sizes, pd.DataFrame(), where="X", counts_in="layer")


def test_one_batch_of_another_scale_is_noticed(counts) -> None:
    sizes = counts.sum(axis=1)
    behind = np.where(np.arange(len(sizes)) < 4, sizes * 2, sizes)
    assert mismatch(behind, sizes).n_cells == 4
    assert mismatch(sizes.astype(float), sizes) is None
    assert evenly_spread_rows(10_000)[[0, -1]].tolist() == [0, 9_999] and len(evenly_spread_rows(10_000)) == 128


def test_counts_and_scaled_values_are_passed_over(counts) -> None:
    sizes = counts.sum(axis=1)
    ones = (counts > 2).astype(np.float32)
    for other in (ones, counts, values(counts, sizes) - 1):
        check_same_scale(other, ones, sizes, pd.DataFrame(), where="X", counts_in="layer")


def test_the_form_of_values_is_found_by_what_they_are_multiples_of() -> None:
    rng = np.random.default_rng(0)
    for mean in (2.0, 30.0, 150.0):
        counts = rng.poisson(mean, (20, 400)) * rng.integers(1, 3, 400)
        rates = counts / counts.sum(axis=1, keepdims=True) * 1e4
        assert form_of(np.log1p(rates)) == form_of(np.log1p(rates).astype(np.float32)) == "log1p"
        assert form_of(np.log2(1 + rates)) == "log2(1 + x)"
        assert form_of(np.log10(1 + rates)) == "log10(1 + x)"
        assert form_of(np.sqrt(rates)) == "square roots"
        assert form_of(rates) == form_of(counts) == "no logarithms"
        assert form_of(0.5 * np.log1p(rates) + 0.5 * np.log1p(rates).mean(axis=0)) == "continuous"
    assert form_of(np.ones((5, 400))) is None


def test_the_share_of_cells_whose_values_were_made_of_their_counts_is_told() -> None:
    rng = np.random.default_rng(0)
    counts, sizes = rng.poisson(3.0, (60, 40)), np.full(60, 200.0)
    values = np.log1p(counts / sizes[:, None] * 1e4)
    later = counts.copy()
    later[20:] = rng.binomial(later[20:], 0.3)  # thinned after the values were made
    found = {
        name: check_same_scale(values, given, sizes, pd.DataFrame(index=range(60)), where="X", counts_in="the layer")
        for name, given in {"same": counts, "some": later, "none": later[::-1]}.items()
    }
    assert found == {"same": 1.0, "some": pytest.approx(1 / 3), "none": 0.0}
    assert unlike_counts(values, found["same"]) is None
    assert unlike_counts(values, found["some"]) == "in 67% of the cells log1p values of other counts than those"
    assert unlike_counts(values, found["none"]) == "log1p values of other counts than those"
