from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from transpert.errors import CountsError, GroupSizeError
from transpert.metrics import differential_expression
from transpert.pp import log1p_per_10k
from transpert.transport import ReadoutOptions, estimate_dispersion, group_statistics, transport_counts


def population(seed=0, n_cells=200, n_genes=30):
    rng = np.random.default_rng(seed)
    library = rng.uniform(2e3, 6e3, n_cells)
    rate = rng.lognormal(0.0, 1.5, n_genes) * library[:, None] / 1e4
    counts = rng.poisson(rate * rng.gamma(4, 0.25, (n_cells, n_genes)))
    return counts.astype(float), library, log1p_per_10k(counts, library).mean(axis=0, dtype=float)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 1.0))
def test_thinning_never_exceeds_the_source(seed, share) -> None:
    counts, library, mean = population(seed, n_cells=40, n_genes=8)
    moved = transport_counts(counts, library, mean * share, seed=seed).toarray()
    assert (moved <= counts).all()
    assert (moved >= 0).all()
    assert (moved == np.rint(moved)).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 2.0))
def test_adding_never_takes_away(seed, more) -> None:
    counts, library, mean = population(seed, n_cells=40, n_genes=8)
    moved = transport_counts(counts, library, mean + more, dispersion=np.full(8, 0.3), seed=seed).toarray()
    assert (moved >= counts).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.lists(st.booleans(), min_size=8, max_size=8))
def test_a_zero_effect_changes_no_cell(seed, moves) -> None:
    counts, library, mean = population(seed, n_cells=40, n_genes=8)
    still = ~np.array(moves)
    moved = transport_counts(counts, library, mean + np.array(moves) * 0.3, seed=seed).toarray()
    np.testing.assert_array_equal(moved[:, still], counts[:, still])


@pytest.mark.parametrize("kind", ["counts", "expected"])
def test_the_predicted_mean_is_met(kind) -> None:
    counts, library, mean = population()
    target = np.maximum(mean + np.linspace(-1, 1.5, 30), 0)
    moved = transport_counts(
        sparse.csr_matrix(counts), library, target, dispersion=np.full(30, 0.2), options=ReadoutOptions(kind=kind)
    )
    reached = np.asarray(log1p_per_10k(moved, library).mean(axis=0)).ravel()
    # one count in one of 200 cells is worth up to log1p(5) / 200
    np.testing.assert_allclose(reached, target, atol=0.01)


def test_moved_cells_keep_the_noise_of_real_ones() -> None:
    counts, library, mean = population(n_cells=2000, n_genes=4)
    rates = counts / library[:, None] * 1e4
    dispersion = estimate_dispersion(group_statistics(counts, library, np.zeros(2000, dtype=int), 1))
    moved = transport_counts(counts, library, mean * 1.3, dispersion=dispersion).toarray() / library[:, None] * 1e4
    # negative-binomial variance of the new mean, against that of the old one
    expected = rates.var(axis=0) * (moved.mean(axis=0) / rates.mean(axis=0)) ** 1.5
    assert np.all((moved.var(axis=0) / expected > 0.5) & (moved.var(axis=0) / expected < 2))


def test_an_added_shift_makes_false_genes_and_the_readout_does_not() -> None:
    counts, library, mean = population(n_cells=300, n_genes=100)
    control = log1p_per_10k(counts, library)
    shift = np.zeros(100)
    shift[:5] = 0.8
    tiny = shift + 0.01
    moved = log1p_per_10k(transport_counts(counts, library, mean + tiny), library).toarray()
    assert differential_expression(control + tiny, control).n_significant > 80
    assert differential_expression(moved, control).n_significant <= 8


def test_the_pattern_over_cells_is_kept() -> None:
    counts, library, mean = population(n_genes=1)
    effects = np.zeros((200, 1))
    effects[:100] = 1.0
    moved = transport_counts(counts, library, mean + 0.3, cell_effects=effects).toarray()
    np.testing.assert_array_equal(moved[100:], counts[100:])
    assert moved[:100].sum() > counts[:100].sum()


def test_the_draw_follows_its_seed() -> None:
    counts, library, mean = population()
    same = [transport_counts(counts, library, mean * 0.5, seed=3).toarray() for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert (transport_counts(counts, library, mean * 0.5, seed=4).toarray() != same[0]).any()


def test_bad_input_is_refused() -> None:
    counts, library, mean = population(n_genes=3)
    with pytest.raises(CountsError, match="not integers"):
        transport_counts(counts + 0.5, library, mean)
    with pytest.raises(CountsError, match="1 values are NaN"):
        transport_counts(counts, library, np.array([np.nan, 0, 0]))
    with pytest.raises(CountsError, match="shape"):
        transport_counts(counts, library, mean[:2])
    with pytest.raises(GroupSizeError):
        transport_counts(counts[:0], library[:0], mean)


def slow_strength(mean_of, goal: float, low: float, high: float, *, falling: bool) -> tuple[float, float]:
    for _ in range(60):
        middle = 0.5 * (low + high)
        if (mean_of(middle) > goal) == falling:
            low = middle
        else:
            high = middle
    return low, high


@settings(max_examples=10, deadline=None)
@example(55, 0.5)  # one gene is not expressed
@given(st.integers(0, 1000), st.floats(0.02, 0.98))
def test_thinning_finds_what_plain_bisection_finds(seed, share) -> None:
    counts, library, mean = population(seed, n_cells=60, n_genes=3)
    effects = np.random.default_rng(seed).normal(-0.2, 0.3, counts.shape)
    moved = transport_counts(counts, library, mean * share, cell_effects=effects, seed=seed).toarray()
    # what is not moved takes no part in the draw
    genes = np.flatnonzero(mean * (1 - share) > ReadoutOptions().tolerance)
    noise = np.zeros(counts.shape)
    noise[:, genes] = np.random.default_rng(seed).random((len(genes), len(counts))).T
    weights = np.clip(-effects, 0, 10) / np.clip(-effects, 0, 10).mean(axis=0)
    for gene in genes:

        def thinned(strength: float, gene=gene) -> np.ndarray:
            kept = np.exp(-strength * weights[:, gene])
            drawn = stats.binom.ppf(noise[:, gene], counts[:, gene].astype(int), kept)
            return np.where(counts[:, gene] > 0, drawn, 0)

        def mean_of(strength: float, gene=gene) -> float:
            return np.log1p(thinned(strength, gene) * 1e4 / library).mean()

        _, strength = slow_strength(mean_of, share * mean[gene], 0.0, 30.0, falling=True)
        np.testing.assert_array_equal(moved[:, gene], thinned(strength))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(0.02, 1.5))
def test_adding_finds_what_plain_bisection_finds(seed, more) -> None:
    counts, library, mean = population(seed, n_cells=60, n_genes=3)
    moved = transport_counts(counts, library, mean + more, seed=seed).toarray()
    noise = np.random.default_rng(seed).random(counts.shape[::-1]).T
    for gene in range(3):

        def added(log_rate: float, gene=gene) -> np.ndarray:
            return counts[:, gene] + stats.poisson.ppf(noise[:, gene], np.exp(log_rate) * library / 1e4)

        def mean_of(log_rate: float, gene=gene) -> float:
            return np.log1p(added(log_rate, gene) * 1e4 / library).mean()

        log_rate, _ = slow_strength(mean_of, mean[gene] + more, np.log(1e-6), np.log(1e4), falling=False)
        np.testing.assert_array_equal(moved[:, gene], np.minimum(added(log_rate), np.floor(library)))


@pytest.mark.parametrize("target", [0.0, 9.0])
def test_targets_out_of_reach_are_approached(target) -> None:
    counts, library, _ = population(n_cells=50, n_genes=2)
    moved = transport_counts(counts, library, np.full(2, target))
    reached = log1p_per_10k(moved, library).mean(axis=0)
    assert (reached <= 1e-12).all() if target == 0 else (reached > 8).all()


def test_the_expected_mean_is_met_exactly() -> None:
    counts, library, mean = population()
    target = np.maximum(mean + np.linspace(-0.5, 1.5, 30), 0.001)
    moved = transport_counts(counts, library, target, options=ReadoutOptions(kind="expected"))
    np.testing.assert_allclose(np.log1p(moved.toarray() * 1e4 / library[:, None]).mean(axis=0), target, atol=1e-5)


@pytest.mark.parametrize(
    ("library", "message"),
    [
        ([5.0], r"the library sizes have shape \(1,\), and there are 3 cells"),
        (5.0, r"shape \(\), and there are 3 cells"),
        ([[5.0, 5.0, 5.0]], r"shape \(1, 3\)"),
        ([5.0, 0.0, 5.0], "1 cells have a library size that is not above 0.*Drop empty cells"),
        ([5.0, np.nan, np.inf], "2 cells have a library size"),
    ],
)
def test_library_sizes_are_checked_before_anything_is_moved(library, message) -> None:
    counts = np.array([[3, 2], [0, 0], [4, 1]])
    with pytest.raises(CountsError, match=message):
        transport_counts(counts, np.array(library), np.array([1.0, 7.0]))
    with pytest.raises(CountsError, match=message):
        group_statistics(counts, np.array(library), np.zeros(3, dtype=int), 1)


def test_cells_in_no_group_may_be_empty() -> None:
    counts = np.array([[3, 2], [0, 0], [4, 1]])
    with np.errstate(all="raise"):
        found = group_statistics(counts, np.array([5.0, 0.0, 5.0]), np.array([0, -1, 0]), 1)
    assert found.n_cells.tolist() == [2] and found.mean_inverse_library.tolist() == [2e3]
