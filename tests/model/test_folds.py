"""What the networks are weighed by."""

from __future__ import annotations

import numpy as np
import pytest

import transpert as tp
from transpert.conditions import parse_condition
from transpert.groups import Design, make_groups
from transpert.model.scale.folds import Folds, assign_folds, rows_of_split_kind
from transpert.model.scale.held_out_anchor import gate_rows


def conditions(*labels: str):
    return [parse_condition(label, control="control") for label in labels]


def test_combinations_count_where_their_parts_are_known_without_them():
    asked = conditions("A", "B", "C", "A+B", "A+C", "B+D")
    # A+B: both parts alone in other folds; A+C: C was left out with it; B+D: D was never measured alone
    folds = np.array([0, 1, 2, 2, 2, 0])
    assert rows_of_split_kind(asked, folds, "combination").tolist() == [False, False, False, True, False, False]


def screen_with_combinations():
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=8, n_combinations=16, n_genes=10, n_cells=5)
    return make_groups(adata.obs, Design("perturbation", "control", ("context",)))


def test_a_perturbation_that_is_left_out_takes_its_combinations_along():
    groups = screen_with_combinations()
    folds = assign_folds(groups, "perturbation", 3)
    seen, judged = folds.seen(4), folds.unseen(4)
    combined = np.array([condition.is_combination for condition in groups.conditions])
    for network in range(3):
        known = {part for group in np.flatnonzero(seen[:, network]) for part in groups.conditions[group].parts}
        for group in np.flatnonzero(judged[:, network]):
            assert not known & set(groups.conditions[group].parts)
    # every single perturbation is judged by one network, a combination where all its parts are gone
    perturbed = np.isin(np.arange(len(groups)), groups.perturbed_groups)
    assert (judged[perturbed & ~combined].sum(axis=1) == 1).all()
    assert 0 < judged[combined].sum() < combined.sum()
    assert seen[:, 3].all() and not judged[:, 3].any()
    rows = gate_rows(groups.conditions, folds, None, seed=0)
    assert rows.tolist() == np.flatnonzero(folds.test_fold >= 0).tolist()


def test_where_combinations_are_asked_for_they_alone_are_left_out():
    groups = screen_with_combinations()
    folds = assign_folds(groups, "perturbation", 3, split_kind="combination")
    combined = np.array([condition.is_combination for condition in groups.conditions])
    np.testing.assert_array_equal(folds.test_fold >= 0, combined)
    assert rows_of_split_kind(groups.conditions, folds.test_fold, "combination").tolist() == combined.tolist()


@pytest.mark.parametrize("level", ["context", "pair"])
def test_elsewhere_a_fold_leaves_out_what_it_judges(level):
    groups = screen_with_combinations()
    folds = assign_folds(groups, level, 3)
    np.testing.assert_array_equal(folds.seen(4)[:, :3], ~folds.unseen(4)[:, :3])
    assert (folds.test_fold[groups.perturbed_groups] >= 0).all()


def test_without_folds_everybody_sees_everything():
    folds = Folds.of(np.full(5, -1))
    assert not folds.any
    assert folds.seen(3).all() and not folds.unseen(3).any()
    # one network alone is judged by what it has seen
    assert Folds.of(np.zeros(5, dtype=int)).unseen(1).all()


def test_the_gate_is_fitted_where_combinations_are_left_out_with_their_parts():
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=6, n_combinations=6, n_genes=25, n_cells=20, seed=3)
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    for kind in ("stack", "residual"):
        joining = tp.model.JoiningOptions(leave_out="perturbation", kind=kind)
        training = tp.model.TrainingOptions(steps=4, steps_per_epoch=2, set_size=8, sets_per_batch=2)
        model = tp.SCALE(adata, preset="tiny", training=training, joining=joining)
        model.train(enable_progress_bar=False)
        labels = model.gate_table["condition"].tolist()
        assert len(labels) < 24 and {"P0", "P5"} <= set(labels)
        assert np.isfinite(model.predict(perturbations=["P0", "P0+P1"], progress=False).to_df().to_numpy()).all()


@pytest.mark.parametrize("kind", ["context", "perturbation", "pair", None])
def test_everything_left_out_counts_elsewhere(kind):
    assert rows_of_split_kind(conditions("A", "A+B"), np.array([0, 1]), kind).all()


@pytest.mark.parametrize(
    ("held_out", "kind"),
    [
        (lambda obs: obs["context"] == "context_1", "context"),
        (lambda obs: obs["perturbation"].isin(["P1", "P2"]), "perturbation"),
        (lambda obs: obs["perturbation"] == "P0+P1", "combination"),
        (lambda obs: (obs["context"] == "context_1") & (obs["perturbation"] == "P1"), "pair"),
    ],
)
def test_what_is_asked_is_read_off_a_split_that_does_not_say_it(held_out, kind):
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=4, n_combinations=3, n_genes=25, n_cells=8, seed=3)
    adata.obs.loc[adata.obs["perturbation"] == adata.obs["perturbation"].unique()[-1], "perturbation"] = "P0+P1"
    test = held_out(adata.obs) & (adata.obs["perturbation"] != "control")
    adata.obs["part"] = np.where(test, "test", "train")
    tp.SCALE.setup_anndata(
        adata, perturbation_key="perturbation", context_keys="context", split_key="part", layer="counts"
    )
    assert tp.SCALE(adata, preset="tiny")._what_is_asked() == kind


def test_contexts_of_controls_alone_ask_for_contexts():
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=25, n_cells=8, seed=3)
    setup = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}
    tp.SCALE.setup_anndata(adata, **setup)
    assert tp.SCALE(adata, preset="tiny")._what_is_asked() is None
    other = adata[(adata.obs["context"] != "context_2") | (adata.obs["perturbation"] == "control")].copy()
    tp.SCALE.setup_anndata(other, **setup)
    assert tp.SCALE(other, preset="tiny")._what_is_asked() == "context"


def test_networks_get_no_weight_where_nothing_speaks_for_them(monkeypatch):
    adata = tp.datasets.simulate(n_contexts=1, n_perturbations=4, n_combinations=2, n_genes=25, n_cells=25, seed=3)
    pairs = sorted(label for label in adata.obs["perturbation"].cat.categories if "+" in label)
    tp.pp.split(adata, holdout={"perturbation": pairs[:1]}, context_keys="context")
    assert adata.uns["split"]["kind"] == "combination"
    tp.SCALE.setup_anndata(
        adata, perturbation_key="perturbation", context_keys=["context"], split_key="split", layer="counts"
    )
    # whatever else they are weighed by, they would be found perfect
    monkeypatch.setattr("transpert.transport.weighing.gains_of_weights", lambda seen, *_: np.ones((len(seen), 21)))
    options = tp.model.TrainingOptions(steps=4, steps_per_epoch=2, set_size=8, sets_per_batch=2)
    model = tp.SCALE(adata, preset="tiny", joining="always", training=options)
    model.train(enable_progress_bar=False)
    # one combination is left to train on: too little to weigh by, however good the networks are on single perturbations
    assert model.gate == 0
