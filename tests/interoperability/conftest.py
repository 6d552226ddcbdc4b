"""A prediction of this package, as a user would hand it to other tools."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
import scanpy as sc

import transpert as tp


@pytest.fixture(scope="session")
def _predicted():
    truth = tp.datasets.simulate(
        n_contexts=4, n_perturbations=3, n_genes=40, n_cells=30, n_combinations=1, n_batches=3, effect_size=1.5
    )
    sc.pp.pca(truth, n_comps=8)
    tp.pp.split(truth, holdout={"context": "context_0"})
    tp.RidgeTransport.setup_anndata(
        truth, perturbation_key="perturbation", context_keys="context", batch_key="batch", layer="counts",
        split_key="split",
    )  # fmt: skip
    model = tp.RidgeTransport(truth)
    model.train()
    return model.predict({"context": "context_0"}, progress=False), truth


@pytest.fixture
def pred(_predicted):
    """Predicted populations P0, P1, P2, P1+P2 of a context that was never perturbed, with its controls."""
    return _predicted[0].copy()


@pytest.fixture
def truth(_predicted):
    """The real screen that the prediction was made for."""
    return _predicted[1].copy()


@pytest.fixture
def embedded(pred):
    """The prediction, which lies in the principal components that its training data had."""
    assert "X_pca" in pred.obsm
    return pred


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")
