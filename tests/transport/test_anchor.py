from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, concat
from scipy import sparse

import transpert as tp
from transpert.conditions import Condition
from transpert.groups import Design, make_groups, match_controls
from transpert.transport import (
    AnchorOptions,
    estimate_dispersion,
    fit_anchor,
    fit_stack,
    group_effects,
    group_statistics,
    mean_log_of_rate,
    shrink_effects,
)
from transpert.transport.anchor_state import anchor_from_state, anchor_to_state


def fitted(adata, mask=None, options=None, **design):
    design = Design("perturbation", "control", ("context",), **design)
    groups = make_groups(adata.obs, design, mask=mask)
    matching = match_controls(groups, warn=False)
    library = adata.obs["library_size"].to_numpy()
    effects = group_effects(adata.layers["counts"], library, groups, matching)
    dispersion = estimate_dispersion(effects.statistics)
    return fit_anchor(effects, options or AnchorOptions(), dispersion), effects


def controls(adata, context):
    rows = ((adata.obs["context"] == context) & (adata.obs["perturbation"] == "control")).to_numpy()
    return group_statistics(
        adata.layers["counts"][rows], adata.obs["library_size"].to_numpy()[rows], np.zeros(rows.sum(), dtype=int), 1
    )


def truth(adata, context, label) -> np.ndarray:
    logs = np.asarray(adata.X.todense())
    here = (adata.obs["context"] == context).to_numpy()
    one, zero = (logs[here & (adata.obs["perturbation"] == p).to_numpy()].mean(axis=0) for p in (label, "control"))
    return one - zero


def test_statistics_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    counts, library = rng.poisson(3.0, (50, 4)), rng.uniform(1e3, 1e4, 50)
    codes = rng.integers(-1, 3, 50)
    statistics = group_statistics(counts, library, codes, 3)
    log = np.log1p(counts / library[:, None] * 1e4)
    for group in range(3):
        np.testing.assert_allclose(statistics.mean_log[group], log[codes == group].mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(statistics.var_log[group], log[codes == group].var(axis=0), rtol=1e-5)


def test_effects_are_recovered_at_200_cells_a_group() -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=3, n_genes=300, n_cells=200, library_size=10_000)
    anchor, effects = fitted(adata)
    for context, condition in zip(effects.contexts, effects.conditions, strict=True):
        known = adata.varm["true_effects"][f"{context}: {condition.label}"].to_numpy()
        row = [i for i in range(len(effects)) if (effects.contexts[i], effects.conditions[i]) == (context, condition)][
            0
        ]
        assert np.corrcoef(anchor.effects["log_fold"][row], known)[0, 1] >= 0.95


def test_an_unseen_context_is_predicted_from_its_controls() -> None:
    adata = tp.datasets.simulate(n_contexts=14, n_perturbations=2, n_genes=200, n_cells=150, dependence=1.0, seed=1)
    held = ((adata.obs["context"] == "context_0") & (adata.obs["perturbation"] != "control")).to_numpy()
    ridge, mean = (
        fitted(adata, ~held, AnchorOptions(kind=kind))[0].predict(
            Condition(("P0",)), "context_0", controls(adata, "context_0")
        )
        for kind in ("ridge", "mean")
    )
    before = controls(adata, "context_0").mean_log[0]
    real = truth(adata, "context_0", "P0")
    scores = [np.corrcoef(prediction.mean_log - before, real)[0, 1] for prediction in (ridge, mean)]
    assert scores[0] > scores[1] + 0.02


def test_no_effect_is_predicted_where_there_is_none() -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=6, n_genes=100, n_cells=60, null=1.0)
    held = ((adata.obs["context"] == "context_0") & (adata.obs["perturbation"] == "P0")).to_numpy()
    anchor, _ = fitted(adata, ~held)
    before = controls(adata, "context_0")
    shift = anchor.predict(Condition(("P0",)), "context_0", before).mean_log - before.mean_log[0]
    assert np.abs(shift).max() < 0.35


def test_the_control_condition_moves_nothing() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=30, n_cells=30)
    anchor, _ = fitted(adata)
    before = controls(adata, "context_0")
    np.testing.assert_array_equal(anchor.predict(Condition(), "context_0", before).mean_log, before.mean_log[0])


@pytest.mark.parametrize("interaction", [-0.6, 0.0])
def test_the_interaction_of_combinations_has_the_right_sign(interaction) -> None:
    adata = tp.datasets.simulate(
        n_contexts=1, n_perturbations=6, n_genes=200, n_cells=200, n_combinations=8, interaction=interaction
    )
    pairs = sorted({p for p in adata.obs["perturbation"].astype(str) if "+" in p})
    held = (adata.obs["perturbation"] == pairs[0]).to_numpy()
    anchor, _ = fitted(adata, ~held)
    of_sum, _, of_largest = anchor.combination["log_fold"]
    assert of_sum + of_largest < 0.8 if interaction < 0 else 0.8 < of_sum + of_largest < 1.2
    before = controls(adata, "context_0")
    shift = anchor.predict(Condition(tuple(pairs[0].split("+"))), "context_0", before).mean_log - before.mean_log[0]
    assert np.corrcoef(shift, truth(adata, "context_0", pairs[0]))[0, 1] > 0.9


def screen_of_pairs(shared: float, pairs: list[str], seed: int = 0, context: str = "c") -> AnnData:
    """Cells of five perturbations and their pairs: own effects add up, what all have in common comes once."""
    rng = np.random.default_rng(seed)
    names = [f"P{number}" for number in range(5)]
    own = {name: rng.normal(0, 0.5, 120) * (rng.random(120) < 0.3) for name in names}
    common = shared * rng.normal(0, 1, 120) * (rng.random(120) < 0.5)
    effects = {label: sum(own[part] for part in label.split("+")) + common for label in [*names, *pairs]}
    effects["control"] = np.zeros(120)
    rates = rng.uniform(2, 20, 120)
    labels = np.repeat(list(effects), 150)
    counts = np.concatenate([rng.poisson(rates * np.exp(effect), (150, 120)) for effect in effects.values()])
    obs = pd.DataFrame({"perturbation": labels, "context": context, "library_size": 1e4})
    obs.index = context + obs.index.astype(str)
    layers = {"counts": sparse.csr_matrix(counts.astype(np.float32))}
    return AnnData(sparse.csr_matrix(np.log1p(counts)), obs=obs, layers=layers)


@pytest.mark.parametrize("shared", [0.0, 0.6])
def test_what_all_perturbations_share_counts_once_in_a_combination(shared) -> None:
    pairs = [f"P{a}+P{b}" for a in range(5) for b in range(a + 1, 5)]
    adata = screen_of_pairs(shared, pairs)
    anchor, _ = fitted(adata, (adata.obs["perturbation"] != "P0+P1").to_numpy())
    before = controls(adata, "c")
    shift = anchor.predict(Condition(("P0", "P1")), "c", before).mean_log - before.mean_log[0]
    added = truth(adata, "c", "P0") + truth(adata, "c", "P1")
    wrong, wrong_added = (np.square(each - truth(adata, "c", "P0+P1")).mean() for each in (shift, added))
    assert wrong < 0.25 * wrong_added if shared else wrong < wrong_added


def test_what_all_perturbations_share_counts_once_in_a_context_that_was_never_perturbed() -> None:
    pairs = [f"P{a}+P{b}" for a in range(5) for b in range(a + 1, 5)]
    adata = concat([screen_of_pairs(0.6, pairs, context=context) for context in "cde"])
    left_out = (adata.obs["context"] == "e") & (adata.obs["perturbation"] != "control")
    left_out |= adata.obs["perturbation"] == "P0+P1"
    anchor, _ = fitted(adata, ~left_out.to_numpy())
    before = controls(adata, "e")
    shift = anchor.predict(Condition(("P0", "P1")), "e", before).mean_log - before.mean_log[0]
    known = truth(adata, "c", "P0+P1")
    assert np.square(shift - known).mean() < 0.1 * np.square(known).mean()


def test_a_combination_is_the_sum_of_its_parts_where_none_was_seen() -> None:
    adata = screen_of_pairs(0.6, [])
    anchor, _ = fitted(adata, options=AnchorOptions(shrinkage=0.0))
    before = controls(adata, "c")
    one, other, both = (
        anchor.predict(Condition(parts), "c", before).by_space["log1p"] for parts in (["P0"], ["P1"], ["P0", "P1"])
    )
    np.testing.assert_allclose(both, np.maximum(one + other - before.mean_log[0], 0), atol=1e-12)


def test_the_dose_curve_is_monotone_and_starts_at_nothing() -> None:
    adata = tp.datasets.simulate(
        n_contexts=1, n_perturbations=1, n_genes=100, n_cells=200, doses=(0.1, 1.0, 10.0), moved=0.5
    )
    anchor, _ = fitted(adata, dose_key="dose")
    before = controls(adata, "context_0")
    sizes = []
    for dose in (0.0, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0):
        shift = anchor.predict(Condition(("P0",), (dose,)), "context_0", before).mean_log - before.mean_log[0]
        sizes.append(float(np.linalg.norm(shift)))
    assert sizes[0] == 0
    assert np.all(np.diff(sizes) >= -1e-9)
    assert sizes[3] > sizes[2] and sizes[4] > sizes[3]


def test_left_out_predictions_do_not_see_the_group() -> None:
    adata = tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=40, n_cells=40)
    anchor, effects = fitted(adata)
    spoiled = anchor.effects["log1p"].copy()
    rows = effects.contexts == effects.contexts[0]
    spoiled[rows] += 100
    import dataclasses

    other = dataclasses.replace(anchor, effects={**anchor.effects, "log1p": spoiled})
    pick = [
        a.predict_left_out(effects, lambda row: effects.contexts == effects.contexts[row])[0] for a in (anchor, other)
    ]
    np.testing.assert_allclose(*pick)


def test_a_saved_anchor_predicts_the_same() -> None:
    adata = tp.datasets.simulate(n_contexts=4, n_perturbations=2, n_genes=30, n_cells=30)
    anchor, _ = fitted(adata)
    plain, arrays = anchor_to_state(anchor)
    again = anchor_from_state(json.loads(json.dumps(plain)), arrays)
    before = controls(adata, "context_1")
    for condition, context in (
        (Condition(("P0",)), "context_1"),
        (Condition(("P0", "P1")), "context_1"),
        (Condition(("P0",)), "elsewhere"),
    ):
        np.testing.assert_array_equal(
            anchor.predict(condition, context, before).mean_log, again.predict(condition, context, before).mean_log
        )


def test_stack_prefers_what_is_right_and_weighs_alike_otherwise() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(10, 50))
    good, bad = real + 0.1 * rng.normal(size=real.shape), rng.normal(size=real.shape)
    weights = fit_stack({"good": good, "bad": bad}, real, np.ones(10), strength=0.01)
    assert weights["good"] > 0.9 and abs(sum(weights.values()) - 1) < 1e-6
    same = fit_stack({"a": good, "b": good}, real, np.ones(10))
    assert same["a"] == pytest.approx(0.5)


def test_shrinkage_by_hand() -> None:
    np.testing.assert_allclose(
        shrink_effects(np.array([2.0, -2.0, 0.5, 3.0]), np.array([1.0, 1.0, 1.0, 0.0])), [1.5, -1.5, 0.0, 3.0]
    )


def test_mean_log_of_rates_against_a_simulation() -> None:
    rng = np.random.default_rng(0)
    rate, dispersion, scale = 6.0, 0.5, 4.0
    draws = rng.poisson(rate / scale * rng.gamma(1 / dispersion, dispersion, 400_000))
    assert mean_log_of_rate(np.array([rate]), np.array([dispersion]), scale)[0] == pytest.approx(
        np.log1p(scale * draws).mean(), abs=0.01
    )


@pytest.mark.parametrize(("n_contexts", "chosen"), [(4, False), (5, True)])
def test_no_dependence_is_chosen_where_no_context_can_be_left_out(n_contexts, chosen) -> None:
    adata = tp.datasets.simulate(n_contexts=n_contexts, n_perturbations=2, n_genes=30, n_cells=30)
    anchor, _ = fitted(adata)
    assert [dependence is not None for dependence in anchor.dependence.values()] == [chosen, chosen]


def test_parts_are_shrunken_by_their_own_sampling_error_and_the_main_effect_of_a_context_is_not() -> None:
    adata = tp.datasets.simulate(n_contexts=4, n_perturbations=2, n_genes=40, n_cells=60)
    anchor, _ = fitted(adata)
    for space in anchor.effects:
        asked = (Condition(("P0",)), "context_1", anchor.table.profiles[0], np.ones(8, dtype=bool))
        coefficients = anchor.three_parts(space, *asked)
        main, condition, _ = anchor.shrunken_parts(space, *asked)
        np.testing.assert_allclose(main, coefficients[0] @ anchor.effects[space])
        variance = coefficients[1] ** 2 @ anchor.variances[space]
        np.testing.assert_allclose(condition, shrink_effects(coefficients[1] @ anchor.effects[space], variance))


def test_a_handful_of_left_out_groups_does_not_halve_an_effect() -> None:
    rng = np.random.default_rng(0)
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=1, n_genes=200, n_cells=200)
    _, effects = fitted(adata)
    shared = rng.normal(size=200) * (rng.random(200) < 0.2)
    shift = shared + 0.3 * rng.normal(size=(3, 200)) * (shared != 0)
    mean_log = np.maximum(effects.control.mean_log, 2.0)
    treated = dataclasses.replace(effects.treated, mean_log=mean_log + shift)
    effects = dataclasses.replace(
        effects, treated=treated, control=dataclasses.replace(effects.control, mean_log=mean_log)
    )
    anchor = fit_anchor(effects, AnchorOptions(kind="mean", spaces=("log1p",)), np.full(200, 0.1))
    assert anchor.parts["log1p"]["context"][1] == pytest.approx(1.0, abs=0.05)


def test_effects_in_left_out_contexts_are_as_spread_as_the_measured_ones() -> None:
    rng = np.random.default_rng(1)
    adata = tp.datasets.simulate(n_contexts=4, n_perturbations=1, n_genes=300, n_cells=200)
    _, effects = fitted(adata)
    private = 0.8 * rng.normal(size=(4, 300)) * (rng.random(300) < 0.2)
    shift = rng.normal(size=300) * (rng.random(300) < 0.2) + private
    mean_log = np.maximum(effects.control.mean_log, 2.0)
    treated = dataclasses.replace(effects.treated, mean_log=mean_log + shift)
    control = dataclasses.replace(effects.control, mean_log=mean_log)
    effects = dataclasses.replace(effects, treated=treated, control=control)
    anchor = fit_anchor(effects, AnchorOptions(kind="mean", spaces=("log1p",)), np.full(300, 0.1))
    measured, sampling = effects.in_space("log1p", 0.02)
    predicted = anchor.predict_left_out(effects, lambda row: anchor.leave_out(row, "context"))
    spread = np.square(predicted).sum() / (np.square(measured).sum() - sampling.sum())
    assert spread == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("n_contexts", "n_off"), [(1, 1), (4, 1), (5, 0)])
def test_the_anchor_says_what_is_off_with_few_contexts(n_contexts: int, n_off: int) -> None:
    adata = tp.datasets.simulate(n_contexts=n_contexts, n_perturbations=1, n_genes=20, n_cells=20)
    anchor, _ = fitted(adata)
    assert len(anchor.missing()) == n_off
    assert all(f"more than {n_contexts}" in reason for reason in anchor.missing())
