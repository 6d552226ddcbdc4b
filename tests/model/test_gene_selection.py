"""Networks that read and write the most variable genes, while all genes are predicted."""

from __future__ import annotations

import numpy as np
import pytest

import transpert as tp
from transpert.model import JoiningOptions, TrainingOptions
from transpert.model.scale.gene_selection import GeneSelection

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
SETUP = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts", "n_top_genes": 20}


@pytest.fixture(scope="module")
def cells():
    return tp.datasets.simulate(n_contexts=5, n_perturbations=2, n_genes=60, n_cells=30)


def made(cells, **options):
    training = TrainingOptions(steps=10, steps_per_epoch=5, set_size=8, sets_per_batch=4)
    return tp.SCALE(cells, preset="tiny", training=training, **{"joining": JoiningOptions(gate=0.5), **options})


@pytest.fixture(scope="module")
def model(cells):
    tp.SCALE.setup_anndata(cells, **SETUP)
    model = made(cells)
    model.train(**QUIET)
    return model


def test_the_genes_that_vary_most_are_read_and_written(cells, model) -> None:
    spread = model.cells.log1p().std(axis=0)
    np.testing.assert_array_equal(model.selection.positions, np.sort(np.argsort(-spread)[:20]))
    network = model.module.networks[0]
    assert (network.sizes.n_inputs, network.sizes.n_genes) == (20, 20)
    # library sizes are those of all genes
    np.testing.assert_allclose(model.cells.library_size, cells.obs["library_size"])
    assert "the 20 most variable genes; the others are predicted by the anchor" in model.summary()


def test_all_genes_are_predicted_the_others_as_the_anchor_does(cells, model) -> None:
    asked = {"contexts": {"context": "context_0"}, "perturbations": "P0"}
    effects = model.get_effects(**asked).to_numpy().ravel()
    tp.KernelTransport.setup_anndata(cells, **SETUP)
    anchor = tp.KernelTransport(cells)
    anchor.train()
    alone = anchor.get_effects(**asked).to_numpy().ravel()
    others = np.setdiff1d(np.arange(60), model.selection.positions)
    np.testing.assert_allclose(effects[others], alone[others], atol=1e-6)
    assert np.abs(effects - alone)[model.selection.positions].max() > 1e-3
    predicted = model.predict(**asked, progress=False)
    assert predicted.n_vars == 60
    # one population asked for alone, or among several, is the same
    both = model.get_effects({"context": "context_0"}).to_numpy()
    np.testing.assert_allclose(both[:, 0], effects, atol=1e-5)


def test_a_selection_is_saved_with_the_model(cells, model, tmp_path) -> None:
    model.save(tmp_path / "model")
    loaded = tp.SCALE.load(tmp_path / "model", cells)
    np.testing.assert_array_equal(loaded.selection.positions, model.selection.positions)
    np.testing.assert_allclose(loaded.get_effects(), model.get_effects(), atol=1e-6)
    assert loaded.summary() == model.summary()
    with pytest.raises(ValueError, match="there are 3 genes"):
        GeneSelection(np.array([0, 3]), 3)


def test_networks_that_start_where_the_anchor_moves_cells_read_the_same_genes(cells) -> None:
    tp.SCALE.setup_anndata(cells, **SETUP)
    model = made(cells, joining=JoiningOptions(kind="residual", gate=1.0, folds=1))
    model.train(**QUIET)
    assert np.isfinite(model.get_effects().to_numpy()).all()


def test_more_genes_than_there_are_means_all(cells) -> None:
    tp.SCALE.setup_anndata(cells, **{**SETUP, "n_top_genes": 60})
    assert "networks read and write every gene" in made(cells).summary()


def test_a_model_says_by_what_its_sizes_were_chosen_and_where_it_was_trained(model) -> None:
    assert "chosen for 450 cells of 60 genes in 10 perturbed groups: 10 steps of 4 sets of 8 cells" in model.summary()
    assert "trained on cpu in precision 32" in model.summary()


def test_a_store_serves_the_same_genes(cells, tmp_path) -> None:
    design = tp.groups.Design("perturbation", "control", ("context",))
    store = tp.data.build_store([cells], tmp_path / "cells.zarr", design, layer="counts")
    tp.SCALE.setup_store(store, n_top_genes=20)
    model = made(store)
    model.train(**QUIET)
    tp.SCALE.setup_anndata(cells, **SETUP)
    memory = made(cells)
    memory.train(**QUIET)
    assert sorted(model.genes[model.selection.positions]) == sorted(memory.genes[memory.selection.positions])
