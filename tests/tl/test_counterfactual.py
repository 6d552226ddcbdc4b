"""Existing cells under a perturbation, in a layer whose genes are those of the data, whatever order the model has."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
from anndata import AnnData

import transpert as tp
from transpert.errors import GeneError

KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return tp.datasets.simulate(n_contexts=4, n_perturbations=2, n_genes=30, n_cells=40)


def trained(adata: AnnData) -> tp.KernelTransport:
    tp.KernelTransport.setup_anndata(adata, **KEYS)
    model = tp.KernelTransport(adata)
    model.train()
    return model


def test_counts_are_written_under_the_names_of_their_genes(cells) -> None:
    model = trained(cells.copy())
    as_trained, mixed = cells.copy(), cells[:, np.random.default_rng(0).permutation(cells.n_vars)].copy()
    for adata in (as_trained, mixed):
        tp.tl.predict(adata, model, perturbation="P1", key_added="moved")
    found = mixed[:, cells.var_names].layers["moved"].toarray()
    np.testing.assert_array_equal(found, as_trained.layers["moved"].toarray())
    assert not np.array_equal(mixed.layers["moved"].toarray(), found)


def test_genes_that_the_model_does_not_know_are_named(cells) -> None:
    fewer = cells[:, :20].copy()
    model = trained(fewer)
    with pytest.raises(GeneError, match=r"10 of 30 genes.*'gene_20'.*in var_names.*adata\[:, model.genes\]"):
        tp.tl.predict(cells, model, perturbation="P1")
    assert "P1" not in cells.layers
    known = cells[:, model.genes].copy()
    tp.tl.predict(known, model, perturbation="P1")
    assert known.layers["P1"].shape == known.shape
    with pytest.raises(GeneError, match="5 of 20 genes are missing"):
        tp.tl.predict(fewer[:, :15].copy(), model, perturbation="P1")


def test_what_a_model_says_of_cells_with_their_genes_in_another_order_is_the_same(cells) -> None:
    model = trained(cells.copy())
    mixed = cells[:, ::-1].copy()
    asked = {"perturbations": "P1", "interval": 0.9, "progress": False}
    straight, turned = (model.predict(adata=adata, **asked) for adata in (cells, mixed))
    assert list(turned.var_names) == list(straight.var_names) == list(model.genes)
    np.testing.assert_array_equal(turned.to_df(), straight.to_df())
    for key in ("effect", "effect_lower", "effect_upper"):
        np.testing.assert_allclose(turned.varm[key].to_numpy(), straight.varm[key].to_numpy())


def test_names_with_a_slash_can_be_written(cells, tmp_path) -> None:
    adata = cells.copy()
    adata.obs["context"] = adata.obs["context"].astype(str).replace({"context_0": "T/0"})
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace({"P1": "GSK/123"})
    model = trained(adata)
    tp.tl.predict(adata, model, perturbation="GSK/123")
    table = tp.tl.effects(adata, context_keys="context")
    assert "T/0: GSK/123" in table  # a table in memory keeps the names of the data
    for suffix in ("h5ad", "zarr"):
        getattr(adata, f"write_{suffix}")(tmp_path / f"x.{suffix}")
    again = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert {"counts", "GSK\u2215123"} <= set(again.layers)
    assert "T\u22150: GSK\u2215123" in again.varm["effects"]
    np.testing.assert_allclose(again.varm["effects"].to_numpy(), table.to_numpy())
