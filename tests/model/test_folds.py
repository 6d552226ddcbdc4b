"""What the networks are weighed by."""

from __future__ import annotations

import numpy as np
import pytest

import transpert as tp
from transpert.conditions import parse_condition
from transpert.model.folds import rows_like_asked


def conditions(*labels: str):
    return [parse_condition(label, control="control") for label in labels]


def test_combinations_count_where_their_parts_are_known_without_them():
    asked = conditions("A", "B", "C", "A+B", "A+C", "B+D")
    # A+B: both parts alone in other folds; A+C: C was left out with it; B+D: D was never measured alone
    folds = np.array([0, 1, 2, 2, 2, 0])
    assert rows_like_asked(asked, folds, "combination").tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("kind", ["context", "perturbation", "pair", None])
def test_everything_left_out_counts_elsewhere(kind):
    assert rows_like_asked(conditions("A", "A+B"), np.array([0, 1]), kind).all()


def test_networks_get_no_weight_where_nothing_speaks_for_them(monkeypatch):
    adata = tp.datasets.simulate(n_contexts=1, n_perturbations=4, n_combinations=2, n_genes=25, n_cells=25, seed=3)
    pairs = sorted(label for label in adata.obs["perturbation"].cat.categories if "+" in label)
    tp.pp.split(adata, holdout={"perturbation": pairs[:1]}, context_keys="context")
    assert adata.uns["split"]["kind"] == "combination"
    tp.SCALE.setup_anndata(
        adata, perturbation_key="perturbation", context_keys=["context"], split_key="split", layer="counts"
    )
    # whatever else they are weighed by, they would be found perfect
    monkeypatch.setattr("transpert.model.gate.fit_stack", lambda *_, **__: {"anchor": 0.0, "network": 1.0})
    options = tp.model.TrainingOptions(steps=4, steps_per_epoch=2, set_size=8, sets_per_batch=2)
    model = tp.SCALE(adata, preset="tiny", training=options)
    model.train(enable_progress_bar=False)
    # one combination is left to train on: too little to weigh by, however good the networks are on single perturbations
    assert model.gate == 0
