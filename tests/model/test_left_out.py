"""What the anchor says about training groups that it has not seen."""

from __future__ import annotations

import numpy as np
import pytest

import transpert as tp
from transpert.groups import Design, make_groups, match_controls
from transpert.model.scale import held_out_anchor as left_out
from transpert.model.scale.held_out_anchor import choose_groups, leave_rows_out
from transpert.transport import Anchor, AnchorOptions, GroupEffects, estimate_dispersion, fit_anchor, group_effects
from transpert.transport.anchor import as_statistics


def effects_of(n_contexts: int, n_perturbations: int = 3) -> GroupEffects:
    adata = tp.datasets.simulate(
        n_contexts=n_contexts, n_perturbations=n_perturbations, n_genes=40, n_cells=25, context_dependence="linear"
    )
    groups = make_groups(adata.obs, Design("perturbation", "control", ("context",)))
    matching = match_controls(groups, warn=False)
    return group_effects(adata.layers["counts"], adata.obs["library_size"].to_numpy(), groups, matching)


def fit(effects: GroupEffects) -> Anchor:
    return fit_anchor(effects, AnchorOptions(), estimate_dispersion(effects.statistics))


def every(effects: GroupEffects) -> np.ndarray:
    return np.arange(len(effects))


@pytest.mark.parametrize("level", ["context", "pair", "perturbation"])
def test_a_row_is_predicted_without_what_would_be_unknown(level) -> None:
    effects = effects_of(6)
    anchor = fit(effects)
    found = leave_rows_out(anchor, effects, every(effects), level, None)
    for row in (0, 7):
        known = ~anchor.leave_out(row, level)
        assert not known[row]
        np.testing.assert_array_equal(found.shifts[row], anchor.shift_of_group(effects, row, known))


def test_the_parts_of_a_combination_stay_known_where_combinations_are_asked_for() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=4, n_combinations=3, n_genes=40, n_cells=25, seed=1)
    groups = make_groups(adata.obs, Design("perturbation", "control", ("context",)))
    library = adata.obs["library_size"].to_numpy()
    effects = group_effects(adata.layers["counts"], library, groups, match_controls(groups, warn=False))
    anchor = fit(effects)
    rows = np.array([row for row, condition in enumerate(effects.conditions) if condition.is_combination])
    found = leave_rows_out(anchor, effects, rows, "perturbation", "combination")
    for shift, row in zip(found.shifts, rows, strict=True):
        context = effects.contexts[row]
        control = as_statistics(effects, row)
        parts = anchor.predict(
            effects.conditions[row], context, control, allowed=~anchor.table.of_action(effects.conditions[row])
        )
        np.testing.assert_allclose(shift, parts.mean_log - control.mean_log[0])


def test_an_anchor_that_loses_its_dependence_on_the_context_is_not_compared() -> None:
    effects = effects_of(6)
    in_four = effects[~((effects.contexts == "context_4") | (effects.contexts == "context_5")) | every(effects) % 3 > 0]
    anchor = fit(in_four)
    assert any(anchor.dependence.values())
    found = leave_rows_out(anchor, in_four, every(in_four), "context", None)
    rare = np.array([int(anchor.table.of_condition(condition).sum()) == 4 for condition in in_four.conditions])
    np.testing.assert_array_equal(found.comparable, ~rare)


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
