"""What the anchor says about training groups that it has not seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import transpert as tp
from transpert.groups import Design, make_groups, match_controls
from transpert.model.scale import held_out_anchor as left_out
from transpert.model.scale.folds import Folds
from transpert.model.scale.held_out_anchor import choose_groups, leave_folds_out
from transpert.transport import Anchor, AnchorOptions, GroupEffects, estimate_dispersion, fit_anchor, group_effects


def effects_of(n_contexts: int, n_perturbations: int = 3) -> GroupEffects:
    adata = tp.datasets.simulate(
        n_contexts=n_contexts, n_perturbations=n_perturbations, n_genes=40, n_cells=25, context_dependence="linear"
    )
    groups = make_groups(adata.obs, Design("perturbation", "control", ("context",)))
    matching = match_controls(groups, warn=False)
    return group_effects(adata.layers["counts"], adata.obs["library_size"].to_numpy(), groups, matching)


def fit(effects: GroupEffects) -> Anchor:
    return fit_anchor(effects, AnchorOptions(), estimate_dispersion(effects.statistics))


def fold_of(effects: GroupEffects, n_folds: int) -> np.ndarray:
    names = sorted(set(effects.contexts))
    return np.array([names.index(context) % n_folds for context in effects.contexts])


def every(effects: GroupEffects) -> np.ndarray:
    return np.arange(len(effects))


def doubled(effects: GroupEffects, rows: np.ndarray) -> GroupEffects:
    """The same groups, some of which answer twice as much."""
    treated = effects.treated
    factor = np.where(rows, 2.0, 1.0)[:, None]
    return dataclasses.replace(
        effects,
        treated=dataclasses.replace(treated, mean_log=treated.mean_log * factor, mean_rate=treated.mean_rate * factor),
    )


def test_nothing_of_a_fold_reaches_its_own_prediction() -> None:
    effects = effects_of(9)
    fold = fold_of(effects, 3)
    changed = doubled(effects, fold == 1)
    before, after = (leave_folds_out(fit(e), e, Folds.of(fold), fit, every(e)).shifts for e in (effects, changed))
    np.testing.assert_array_equal(before[fold == 1], after[fold == 1])
    assert np.abs(before[fold == 0] - after[fold == 0]).max() > 1e-2
    # to leave the effects out of an anchor that was chosen with them is not enough
    leaky = [fit(e).predict_left_out(e, lambda row: fold == fold[row])[fold == 1] for e in (effects, changed)]
    assert np.abs(leaky[0] - leaky[1]).max() > 1e-4


def test_an_anchor_that_lost_its_dependence_on_the_context_is_not_compared() -> None:
    effects = effects_of(6)
    assert all(fit(effects).dependence.values())
    uneven = np.where(fold_of(effects, 6) < 1, 0, 1)  # five contexts remain for the first fold, one for the other
    found = leave_folds_out(fit(effects), effects, Folds.of(uneven), fit, every(effects))
    np.testing.assert_array_equal(found.comparable, uneven == 0)


@pytest.mark.parametrize("fold", [-1, 0])
def test_without_folds_every_group_is_left_out_and_with_one_there_is_nothing_to_learn_from(fold) -> None:
    effects = effects_of(4, 2)
    found = leave_folds_out(fit(effects), effects, Folds.of(np.full(len(effects), fold)), fit, every(effects))
    assert found.comparable.all()
    moved = np.abs(found.shifts).max(axis=1) > 0
    assert moved.all() if fold < 0 else not moved.any()


@pytest.mark.parametrize("fold_count", [1, 3])
def test_some_groups_are_predicted_as_they_are_among_all(fold_count) -> None:
    effects, some = effects_of(9), np.array([1, 5, 20])
    fold = fold_of(effects, 3) if fold_count == 3 else np.full(len(effects), -1)
    anchor = fit(effects)
    all_of_them, few = (leave_folds_out(anchor, effects, Folds.of(fold), fit, rows) for rows in (every(effects), some))
    np.testing.assert_allclose(few.shifts, all_of_them.shifts[some], rtol=1e-10)


def test_a_model_with_many_groups_is_judged_by_some_of_them(monkeypatch) -> None:
    monkeypatch.setattr(left_out, "_MOST_GROUPS", 7)
    alike = np.ones(50, dtype=bool)
    assert choose_groups(alike, seed=1).tolist() == sorted(set(choose_groups(alike, seed=1).tolist()))
    assert choose_groups(alike, seed=1).tolist() != choose_groups(alike, seed=2).tolist()
    assert choose_groups(alike[:5], seed=1).tolist() == [0, 1, 2, 3, 4]
    few = np.isin(np.arange(50), [3, 30, 49])
    assert {3, 30, 49} < set(choose_groups(few, seed=1).tolist())
    adata = tp.datasets.simulate(n_contexts=6, n_perturbations=2, n_genes=30, n_cells=20)
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    training = tp.model.TrainingOptions(steps=6, steps_per_epoch=3, set_size=8, sets_per_batch=4)
    model = tp.SCALE(adata, preset="tiny", joining="always", training=training)
    model.train(enable_progress_bar=False)
    assert len(model.gate_table) == 7
    assert 0 <= model.gate <= 1
    found = model.get_uncertainty({"context": "context_0"}, ["P0"])
    assert (found.upper > found.lower).to_numpy().all()
    assert (found.conditions["n_left_out"] <= 7).all()
