"""How much the networks count beside the anchor, and where they count at all."""

import numpy as np
import pytest

import transpert as tp
from transpert.conditions import Condition
from transpert.model.gate import was_tried
from transpert.model.requests import Request

TRAINING = tp.model.TrainingOptions(steps=6, steps_per_epoch=3, set_size=8, sets_per_batch=4)


@pytest.fixture(scope="module")
def trained() -> tp.SCALE:
    """Two drugs at three doses in two contexts; the second was not given in the second context."""
    adata = tp.datasets.simulate(
        n_contexts=2, n_perturbations=3, n_genes=25, n_cells=20, doses=(0.1, 1.0, 10.0), seed=1
    )
    missing = (adata.obs["perturbation"] == "P1") & (adata.obs["context"] == "context_1")
    adata = adata[~missing].copy()
    tp.SCALE.setup_anndata(
        adata, perturbation_key="perturbation", context_keys="context", dose_key="dose", layer="counts"
    )
    model = tp.SCALE(adata, preset="tiny", training=TRAINING)
    model.train(enable_progress_bar=False)
    return model


@pytest.mark.parametrize(
    ("context", "parts", "dose", "tried"),
    [
        ("context_1", ("P1",), 1.0, True),  # a pair that was not measured, as those left out
        ("context_7", ("P0",), 1.0, True),  # a new context
        ("context_1", ("P0",), 1.0, False),  # measured
        ("context_1", ("P0",), 3.0, False),  # between doses that were measured there
        ("context_1", ("P0", "P2"), 1.0, False),  # a combination, of which there was none
    ],
)
def test_the_gate_holds_for_what_was_left_out(trained, context, parts, dose, tried) -> None:
    condition = Condition(parts, (dose,) * len(parts))
    assert was_tried(trained.anchor, Request(context, {"context": context}, condition, "")) is tried


def test_new_doses_of_what_was_measured_are_left_to_the_anchor(trained) -> None:
    gate, trained.gate = trained.gate, 1.0
    try:
        known = trained.get_effects({"context": "context_1"}, ["P0"], doses=[3.0]).to_numpy()
        unknown = trained.get_effects({"context": "context_1"}, ["P1"], doses=[3.0]).to_numpy()
        trained.gate = 0.0
        np.testing.assert_array_equal(trained.get_effects({"context": "context_1"}, ["P0"], doses=[3.0]), known)
        anchored = trained.get_effects({"context": "context_1"}, ["P1"], doses=[3.0]).to_numpy()
        assert np.abs(anchored - unknown).max() > 1e-3
    finally:
        trained.gate = gate
