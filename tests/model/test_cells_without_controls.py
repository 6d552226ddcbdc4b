"""Cells without controls: what needs none is computed, and what needs some says what to add."""

from __future__ import annotations

import numpy as np
import pytest

import transpert as tp
from transpert.errors import ControlError, GeneError
from transpert.groups import Design
from transpert.model import TrainingOptions

KEYS = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}


@pytest.fixture(scope="module")
def cells():
    return tp.datasets.simulate(n_contexts=4, n_perturbations=3, n_genes=40, n_cells=20, seed=0)


@pytest.fixture(scope="module")
def scale(cells):
    tp.SCALE.setup_anndata(cells, **KEYS)
    model = tp.SCALE(cells, preset="tiny", joining="always", training=TrainingOptions(steps=4, steps_per_epoch=2))
    model.train(enable_progress_bar=False)
    return model


def test_latent_states_need_no_controls(scale, cells, tmp_path) -> None:
    chosen = (cells.obs["perturbation"] == "P1").to_numpy()
    latent = scale.get_latent_representation(cells[chosen].copy())
    np.testing.assert_array_equal(latent, scale.get_latent_representation()[chosen])
    design = Design("perturbation", "control", ("context",))
    store = tp.data.build_store([cells], tmp_path / "cells.zarr", design, layer="counts")
    assert scale.get_latent_representation(store).shape == (cells.n_obs, latent.shape[1])


def test_counterfactuals_need_no_controls(scale, cells) -> None:
    perturbed = cells[cells.obs["perturbation"] == "P1"].copy()
    tp.tl.predict(perturbed, scale, perturbation="P0")
    assert perturbed.layers["P0"].shape == perturbed.shape


@pytest.mark.parametrize("method", ["predict", "get_effects", "get_uncertainty"])
def test_predictions_say_which_controls_to_add(cells, method) -> None:
    tp.KernelTransport.setup_anndata(cells, **KEYS)
    model = tp.KernelTransport(cells)
    model.train()
    perturbed = cells[cells.obs["perturbation"] != "control"].copy()
    message = "the context 'context_0' has no control cells to move.*Add cells labelled 'control' of this context"
    with pytest.raises(ControlError, match=message):
        getattr(model, method)(adata=perturbed)


def test_missing_genes_may_be_allowed_where_there_is_an_argument_for_it(cells) -> None:
    tp.KernelTransport.setup_anndata(cells, **KEYS)
    model = tp.KernelTransport(cells)
    model.train()
    fewer = cells[:, :35].copy()
    with pytest.raises(GeneError, match="5 of 40 genes.*allow a larger share with max_missing_genes"):
        model.predict(adata=fewer)
    attempts = {
        "counterfactual": lambda: tp.tl.predict(fewer, model, perturbation="P0"),
        "get_effects": lambda: model.get_effects(adata=fewer),
        "embed_together": lambda: tp.tl.embed_together(fewer, cells, umap=False),
        "overlap_curve": lambda: tp.pl.overlap_curve(fewer, cells, show=False),
    }
    for attempt in attempts.values():
        with pytest.raises(GeneError, match="5 of 40 genes.*Use the same gene names in all data\\.$"):
            attempt()
    with pytest.raises(GeneError, match="allow a larger share with max_missing\\.$"):
        tp.pp.align_genes(fewer, list(cells.var_names))
