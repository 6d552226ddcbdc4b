"""Every family of metrics against slow oracles, cases by hand, and properties that must hold on any data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import cdist
from scipy.stats import false_discovery_control, mannwhitneyu
from sklearn.metrics import average_precision_score, roc_auc_score

from transpert import metrics
from transpert.errors import MetricInputError, OptionError
from transpert.metrics import distribution

few = settings(deadline=None, max_examples=12)
seeds = st.integers(0, 10_000)


def effects(seed: int, n: int = 5, genes: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(n, genes))
    return real + rng.normal(size=(n, genes)), real


def cells(seed: int, n: int = 12, genes: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.0, 1.0, (n, genes))


# --- discrimination ----------------------------------------------------------------------------------------------
@given(seeds, st.sampled_from(["l1", "l2", "cosine"]))
@few
def test_discrimination_is_the_rank_of_the_right_effect(seed, metric) -> None:
    predicted, real = effects(seed)
    distances = cdist(predicted, real, {"l1": "cityblock", "l2": "euclidean", "cosine": "cosine"}[metric])
    ranks = [np.flatnonzero(np.argsort(row) == p)[0] for p, row in enumerate(distances)]
    np.testing.assert_allclose(metrics.discrimination_score(predicted, real, metric=metric), 1 - np.array(ranks) / 5)
    order = np.random.default_rng(seed).permutation(5)
    shuffled = metrics.discrimination_score(predicted[order], real[order], metric=metric)
    np.testing.assert_allclose(shuffled, metrics.discrimination_score(predicted, real, metric=metric)[order])
    np.testing.assert_array_equal(metrics.discrimination_score(real, real, metric=metric), 1)


def test_a_knocked_down_target_gives_nothing_away() -> None:
    # the prediction knows only which gene is targeted; the second exploit gets the other targets wrong on purpose
    real = np.random.default_rng(0).normal(size=(6, 40)) - 9 * np.eye(6, 40)
    targets = [(p,) for p in range(6)]
    knows_target, spikes_others = -9 * np.eye(6, 40), 9 * (1 - np.eye(6, 6)) @ np.eye(6, 40)
    options = {"metric": "cosine", "targets": targets, "ties": "middle", "denominator": "n-1"}
    assert metrics.discrimination_score(knows_target, real, metric="cosine").min() == 1
    assert metrics.discrimination_score(spikes_others, real, **options).min() == 1
    for guess in (knows_target, spikes_others):
        np.testing.assert_allclose(metrics.discrimination_score(guess, real, remove="all", **options), 0.5)


def test_a_prediction_without_information_is_in_the_middle() -> None:
    real = effects(0)[1]
    same = np.repeat(real.mean(axis=0, keepdims=True), 5, axis=0)
    assert metrics.discrimination_score(same, real, ties="middle", denominator="n-1").mean() == pytest.approx(0.5)
    np.testing.assert_allclose(metrics.normalised_inverse_rank(same, real), 0.5)
    np.testing.assert_array_equal(metrics.normalised_inverse_rank(real, real), 1)
    assert np.isnan(metrics.normalised_inverse_rank(real[:1], real[:1]))
    assert metrics.discrimination_score(real[:1], real[:1], denominator="n-1") == 1
    with pytest.raises(OptionError, match="'L1' is none of"):
        metrics.discrimination_score(real, real, metric="L1")


# --- distributions -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("self_pairs", [False, True])
def test_energy_distance_of_either_kind_against_a_slow_one(make, squared, self_pairs, monkeypatch) -> None:
    monkeypatch.setattr(distribution, "_BLOCK", 5)  # several blocks
    x, y = cells(0), cells(1, 9) + 1

    def mean(a, b, pairs) -> float:
        return cdist(a, b, "sqeuclidean" if squared else "euclidean").sum() / pairs

    within = [mean(z, z, len(z) * (len(z) - (not self_pairs))) for z in (x, y)]
    slow = 2 * mean(x, y, len(x) * len(y)) - sum(within)
    assert metrics.energy_distance(make(x), make(y), squared=squared, self_pairs=self_pairs) == pytest.approx(slow)


def test_squared_energy_distance_is_unbiased_for_the_distance_of_means() -> None:
    values = [metrics.energy_distance(cells(2 * s, 8), cells(2 * s + 1, 8), squared=True) for s in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_single_precision_does_not_spoil_distances_far_from_the_origin() -> None:
    x, y = cells(0, 60, 50) + 30, cells(1, 60, 50) + 30
    exact = metrics.energy_distance(x, y)
    single = metrics.energy_distance(x.astype(np.float32), y.astype(np.float32))
    assert single == pytest.approx(exact, abs=1e-5)


def test_mmd_against_a_slow_one(monkeypatch) -> None:
    monkeypatch.setattr(distribution, "_BLOCK", 5)
    x, y = cells(0), cells(1, 9) + 0.5
    spread = cdist(y, y, "sqeuclidean").sum() / (9 * 8)
    total = 0.0
    for scale in distribution.MMD_SCALES:
        kxx, kyy, kxy = (np.exp(-cdist(a, b, "sqeuclidean") / (scale * spread)) for a, b in ((x, x), (y, y), (x, y)))
        total += (kxx.sum() - 12) / (12 * 11) + (kyy.sum() - 9) / (9 * 8) - 2 * kxy.mean()
    assert metrics.maximum_mean_discrepancy(x, y) == pytest.approx(total / len(distribution.MMD_SCALES))
    assert np.isnan(metrics.maximum_mean_discrepancy(x, y[:1]))
    assert np.isnan(metrics.maximum_mean_discrepancy(x, np.ones((4, 6))))


# --- differential expression -------------------------------------------------------------------------------------
def test_populations_tested_together_are_as_tested_alone() -> None:
    populations, controls = [cells(s, 20 + s) for s in range(3)], cells(9, 30)
    together = metrics.rank_sums(populations, controls)
    for population, tests in zip(populations, together, strict=True):
        np.testing.assert_allclose(tests.p_value, metrics.rank_sums([population], controls)[0].p_value)
        np.testing.assert_allclose(tests.p_value, mannwhitneyu(population, controls, method="asymptotic").pvalue)
    assert metrics.rank_sums([], controls) == []


def test_conventions_of_fold_changes() -> None:
    x, y = cells(0), cells(1, 30)
    x[:, 0] = y[:, 1] = x[:, 2] = y[:, 2] = 0
    theirs = metrics.differential_expression(x, y, convention=metrics.CONVENTIONS["cell-eval"])
    with np.errstate(divide="ignore", invalid="ignore"):
        fold = np.log2(np.expm1(x.mean(axis=0)) / np.expm1(y.mean(axis=0)))
    fold[2] = 0
    np.testing.assert_allclose(theirs.log2_fold_change, fold, rtol=1e-6)
    assert fold[0] == -np.inf and fold[1] == np.inf
    ours = metrics.differential_expression(x, y)
    expected = np.log2((np.expm1(x).mean(axis=0) + 1e-3) / (np.expm1(y).mean(axis=0) + 1e-3))
    np.testing.assert_allclose(ours.log2_fold_change, expected)


def test_genes_that_controls_lack_are_not_tested_and_do_not_cost_discoveries() -> None:
    x, y = cells(0, 30), cells(1, 30)
    y[:, 3] = 0
    table = metrics.differential_expression(x, y, convention=metrics.Convention(min_control_rate=0.05))
    tested = np.arange(6) != 3
    p_value = mannwhitneyu(x, y, method="asymptotic").pvalue
    np.testing.assert_allclose(table.adjusted[tested], false_discovery_control(p_value[tested]))
    assert table.p_value[3] == table.adjusted[3] == 1 and not table.significant[3]


# --- calibrated --------------------------------------------------------------------------------------------------
@given(seeds)
@few
def test_calibrated_metrics_between_the_weighted_mean_and_the_truth(seed) -> None:
    predicted, real = effects(seed)
    weights = metrics.effect_weights(real)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights.min(axis=1) == 0).all()
    np.testing.assert_allclose(metrics.weighted_r2(real, real, weights), 1)
    mean = np.repeat((weights * real).sum(axis=1, keepdims=True), real.shape[1], axis=1)
    np.testing.assert_allclose(metrics.weighted_r2(mean, real, weights), 0, atol=1e-9)
    by_hand = [np.average((p - r) ** 2, weights=w) for p, r, w in zip(predicted, real, weights, strict=True)]
    np.testing.assert_allclose(metrics.weighted_mse(predicted, real, weights), by_hand)
    assert np.isnan(metrics.weighted_mse(predicted, real, metrics.effect_weights(np.ones_like(real)))).all()


def test_dynamic_range_of_a_metric() -> None:
    np.testing.assert_allclose(metrics.dynamic_range_fraction([0.9, 0.2], 0.5, 1.0), [0.8, -0.6])
    assert np.isnan(metrics.dynamic_range_fraction(0.9, 1.0, 1.0))


# --- Systema -----------------------------------------------------------------------------------------------------
def test_what_all_perturbations_share_earns_nothing() -> None:
    rng = np.random.default_rng(0)
    shared, own = 3 * rng.normal(size=40), rng.normal(size=(6, 40))
    real, guess = 5 + shared + own, 5 + shared + rng.normal(size=(6, 40))
    assert metrics.pearson_delta(guess - 5, real - 5).min() > 0.7
    assert abs(metrics.pearson_delta_perturbed(guess, real).mean()) < 0.3
    np.testing.assert_allclose(metrics.pearson_delta_perturbed(real, real), 1)
    given_reference = metrics.pearson_delta_perturbed(guess, real, reference=np.full(40, 5.0))
    np.testing.assert_allclose(given_reference, metrics.pearson_delta(guess - 5, real - 5))


@given(seeds)
@few
def test_centroid_accuracy_counts_centroids_that_are_farther(seed) -> None:
    predicted, real = effects(seed)
    distances = cdist(predicted, real)
    by_hand = [np.mean(np.delete(row, p) > row[p]) for p, row in enumerate(distances)]
    np.testing.assert_allclose(metrics.centroid_accuracy(predicted, real), by_hand)


# --- rare tails --------------------------------------------------------------------------------------------------
@given(seeds, st.sampled_from([0.02, 0.1, 0.3]))
@few
def test_tails_against_sets_and_sklearn(seed, share) -> None:
    predicted, real = effects(seed)
    k = max(1, round(share * 30))
    for row in range(5):
        top = set(np.argsort(-np.abs(real[row]))[:k])
        found = set(np.argsort(-np.abs(predicted[row]))[:k])
        assert metrics.top_recall(predicted, real, share=share)[row] == pytest.approx(len(top & found) / k)
        labels = np.isin(np.arange(30), list(top))
        precision = average_precision_score(labels, np.abs(predicted[row]))
        assert metrics.top_average_precision(predicted, real, share=share)[row] == pytest.approx(precision)


def test_a_constant_prediction_finds_tails_by_chance_only() -> None:
    real = effects(0)[1]
    np.testing.assert_allclose(metrics.top_recall(np.zeros_like(real), real, share=0.1), 0.1)
    np.testing.assert_allclose(metrics.top_average_precision(np.zeros_like(real), real, share=0.1), 0.1)
    assert np.isnan(metrics.top_recall(real, np.zeros_like(real))).all()
    assert np.isnan(metrics.top_average_precision(real, np.zeros_like(real))).all()
    with pytest.raises(OptionError, match="share is 1.5"):
        metrics.top_recall(real, real, share=1.5)


def test_genes_that_only_one_perturbation_moves() -> None:
    real = np.array([[2.0, 3.0, 0.0], [2.0, 0.0, 0.0]])
    predicted = np.array([[0.0, 1.5, 9.0], [2.0, 1.0, 1.0]])
    moved = real > 0
    np.testing.assert_allclose(metrics.unique_gene_error(predicted, real, moved), [0.5, np.nan])
    np.testing.assert_allclose(metrics.unique_gene_error(predicted, real, moved, max_others=1), [3.5 / 5, 0])
    assert np.isnan(metrics.unique_gene_error(predicted[:1], real[:1], moved[:1]))


# --- residuals ---------------------------------------------------------------------------------------------------
@given(seeds)
@few
def test_interaction_of_a_complete_table_is_the_two_way_formula(seed) -> None:
    table = np.random.default_rng(seed).normal(size=(3, 4, 7))
    by_hand = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean(axis=(0, 1))
    contexts, perturbations = np.repeat(list("abc"), 4), np.tile(list("wxyz"), 3)
    found = metrics.interaction(table.reshape(12, 7), contexts, perturbations)
    np.testing.assert_allclose(found, by_hand.reshape(12, 7), atol=1e-9)


def test_an_additive_prediction_knows_nothing_beyond_main_effects() -> None:
    rng = np.random.default_rng(0)
    contexts, perturbations = np.repeat(list("abc"), 4)[1:], np.tile(list("wxyz"), 3)[1:]  # one is missing
    real = rng.normal(size=(11, 20))
    additive = real - metrics.interaction(real, contexts, perturbations)
    labels = (contexts, perturbations)
    assert np.isnan(metrics.residual_pearson(additive, real, *labels)).all()
    np.testing.assert_allclose(metrics.residual_r2(additive, real, *labels), 0, atol=1e-9)
    np.testing.assert_allclose(metrics.residual_r2(real + additive, real, *labels), 1)
    np.testing.assert_allclose(metrics.residual_pearson(real + additive, real, *labels), 1)
    assert np.isnan(metrics.residual_r2(real[:4], real[:4], contexts[:4], list("wxyz"))).all()  # each seen once


# --- pseudobulk and the challenge --------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_noise_is_that_of_leaving_out_one_cell_at_a_time(make) -> None:
    counts = np.random.default_rng(0).poisson(2.0, (7, 9))
    left_out = np.array([metrics.bulk_profile(np.delete(counts, cell, axis=0)) for cell in range(7)])
    expected = 6 / 7 * ((left_out - left_out.mean(axis=0)) ** 2).sum()
    assert metrics.bulk_noise(make(counts)) == pytest.approx(expected)
    assert metrics.bulk_noise(make(counts[:1])) == metrics.bulk_noise(make(np.zeros((3, 9)))) == 0


def test_normalised_error_is_one_for_controls_and_nothing_for_the_truth() -> None:
    rng = np.random.default_rng(0)
    rates = rng.lognormal(1, 1, 60)
    shifted = [rates * np.exp(rng.normal(0, 0.5, 60)) for _ in range(8)]

    def panel(means) -> list[np.ndarray]:
        drawn = [rng.poisson(mean, (60, 60)) for mean in means]
        return [np.array([f(counts) for counts in drawn]) for f in (metrics.bulk_profile, metrics.bulk_noise)]

    (real, noise_real), (controls, noise_controls) = panel(shifted), panel([rates] * 8)
    for means, expected in (([rates] * 8, 1.0), (shifted, 0.0)):
        guess, noise = panel(means)
        errors, sizes = metrics.noise_corrected_errors(guess, real, controls, noise, noise_real, noise_controls)
        assert errors.sum() / sizes.sum() == pytest.approx(expected, abs=0.05)


def table(fold, adjusted) -> metrics.DifferentialExpression:
    fold, adjusted = np.asarray(fold, float), np.asarray(adjusted, float)
    return metrics.DifferentialExpression(fold, adjusted, adjusted, np.sign(fold))


def test_challenge_metrics_by_hand() -> None:
    real = table([1, 1, -1, 2, 0, 3], [0.01, 0.01, 0.01, 0.01, 0.01, 0.9])
    predicted = table([1, 1, 1, 0, 5, 3], [0.001, 0.002, 0.003, 0.5, 0.01, 0.01])
    # called with a real direction: 0 1 2 5, right: 0 1 5; really significant: 0 1 2 3 4
    assert metrics.direction_fidelity(predicted, real) == 3 / 5
    # ranked 0 1 2 3, without 4: right right wrong wrong
    assert metrics.direction_reach(predicted, real) == 2 / 5
    assert metrics.direction_reach(predicted, real, purity=0.6) == 3 / 5
    assert metrics.significant_jaccard(predicted, real) == 4 / 6
    assert metrics.significant_jaccard(predicted, real, targets=(0,)) == 3 / 5
    assert metrics.fold_change_error(predicted, real, min_genes=5) == pytest.approx((0 + 0 + 2 + 2 + 5) / 5)
    assert np.isnan(metrics.fold_change_error(predicted, real))  # too few genes
    none = table([1, 1, 1, 1, 1, 1], np.ones(6))
    assert metrics.significant_jaccard(none, none) == 1
    assert np.isnan(metrics.direction_reach(predicted, none)) and np.isnan(metrics.direction_fidelity(none, none))


def test_the_challenge_has_no_score_without_a_scale() -> None:
    names = list(metrics.PANELS["vcc2026"])
    flat = dict.fromkeys(names, 0.5)
    with pytest.raises(MetricInputError, match="there is no scale between them"):
        metrics.challenge_score(flat, flat, flat)
    with pytest.raises(MetricInputError, match="metrics are missing: 'nmse'"):
        metrics.challenge_score({name: 0.5 for name in names if name != "nmse"}, flat, flat)


@pytest.mark.parametrize("seed", range(5))
def test_areas_under_curves_are_those_of_scikit_learn_with_ties(seed) -> None:
    rng = np.random.default_rng(seed)
    adjusted = np.round(rng.random(60), 1)
    real = np.where(rng.random(60) < 0.3, 0.01, 0.9)
    tables = [metrics.DifferentialExpression(np.ones(60), p, p, np.ones(60)) for p in (adjusted, real)]
    scores = -np.log10(np.clip(adjusted, 1e-10, 1))
    assert metrics.area_under_curve(*tables, curve="pr") == pytest.approx(average_precision_score(real < 0.05, scores))
    assert metrics.area_under_curve(*tables, curve="roc") == pytest.approx(roc_auc_score(real < 0.05, scores))


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
@pytest.mark.parametrize("kind", ["any", "same predictions", "same truth", "nothing but targets"])
def test_own_targets_are_left_out_as_if_they_were_not_there(metric, kind) -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(12, 30))
    predicted = real + 2 * rng.normal(size=(12, 30))
    if kind == "same predictions":
        predicted[:] = predicted[0]
    if kind == "same truth":
        real[1::2] = real[::2]
        predicted = real.copy()
    targets = [[row, row + 12] if row % 4 else [] for row in range(12)]
    if kind == "nothing but targets":
        for row, genes in enumerate(targets):
            predicted[row, np.setdiff1d(np.arange(30), genes)] = 0
    for row, genes in enumerate(targets):
        real[row, genes] -= 3
    found = metrics.discrimination_score(predicted, real, metric=metric, targets=targets)
    for row, genes in enumerate(targets):
        kept = np.setdiff1d(np.arange(30), genes)
        alone = metrics.discrimination_score(np.tile(predicted[row, kept], (12, 1)), real[:, kept], metric=metric)
        assert found[row] == alone[row]


def test_distances_of_many_blocks_are_those_of_all_pairs(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    cells, other = rng.random((23, 5)), rng.random((30, 5))

    def within(values: np.ndarray) -> float:
        return cdist(values, values).sum() / (len(values) * (len(values) - 1))

    whole = metrics.maximum_mean_discrepancy(cells, other)
    monkeypatch.setattr(distribution, "_BLOCK", 7)  # and half of the products of a population with itself
    expected = 2 * cdist(cells, other).mean() - within(cells) - within(other)
    assert metrics.energy_distance(cells, other) == pytest.approx(expected, abs=1e-12)
    assert metrics.maximum_mean_discrepancy(cells, other) == pytest.approx(whole, abs=1e-12)
