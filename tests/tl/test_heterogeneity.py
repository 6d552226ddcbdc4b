"""Which cells respond is told from the noise of their counts, and so is what tells them apart."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.errors import CountsError, UnknownNameError


def moved(share: float, seed: int = 0, n_cells: int = 300, n_genes: int = 80) -> anndata.AnnData:
    """Cells of which a share, those with much of the first gene, has 20 genes fourfold up."""
    rng = np.random.default_rng(seed)
    responds = np.arange(n_cells) < share * n_cells
    rates = np.exp(rng.normal(1.0, 0.5, n_genes)) * np.ones((n_cells, 1))
    if share < 1:
        rates[:, 0] *= np.where(responds, 4.0, 1.0)
    depth = np.exp(rng.normal(0, 0.4, n_cells))[:, None]
    after = rates.copy()
    after[np.ix_(responds, np.arange(10, 30))] *= 4
    adata = anndata.AnnData(obs=pd.DataFrame({"true": responds}, index=[f"c{i}" for i in range(n_cells)]))
    adata = anndata.AnnData(np.zeros((n_cells, n_genes)), obs=adata.obs)
    adata.layers["counts"] = rng.poisson(rates * depth).astype(float)
    adata.layers["drug"] = rng.poisson(after * depth).astype(float)
    adata.obs["library_size"] = 3 * depth.ravel() * rates.sum(axis=1).mean()
    return adata


def test_cells_that_respond_are_told_and_the_gene_that_marks_them_comes_first() -> None:
    adata = moved(0.5)
    found = tp.tl.responses(adata, "drug")
    assert found.reliability > 0.8
    agree = adata.obs["responds_drug"] == adata.obs["true"]
    assert agree.mean() > 0.95
    assert found.genes.index[0] == "0" and found.genes["correlation"].iloc[0] > 0.5
    assert (found.genes["p_adjusted"] < 0.05).sum() <= 3
    assert adata.obs.groupby("true")["response_drug"].mean().tolist() == pytest.approx([0, 2], abs=0.25)
    assert "of the cells respond (reliability" in found.text and "It goes with 0 (+" in found.text
    assert adata.obs["responds_drug"].mean() == pytest.approx(0.5, abs=0.06)


def test_cells_that_respond_alike_are_said_to() -> None:
    found = tp.tl.responses(moved(1.0), "drug")
    assert found.reliability < 0.1 and "alike" in found.text
    assert not (found.genes["p_adjusted"] < 0.05).any()
    assert found.cells["response"].mean() == pytest.approx(1, abs=1e-6)


def test_groups_that_differ_are_no_heterogeneity_within_them() -> None:
    adata = moved(0.5)
    adata.obs["type"] = np.where(adata.obs["true"], "yes", "no")
    found = tp.tl.responses(adata, "drug", groupby="type")
    assert found.reliability < 0.3
    assert found.groups["responding"].loc["yes"] > 0.95 and found.groups["responding"].loc["no"] < 0.15
    assert found.groups["n_cells"].tolist() == [150, 150]


def test_slots_survive_a_file_and_mistakes_are_named(tmp_path) -> None:
    adata = moved(0.5, n_cells=40)
    tp.tl.responses(adata, "drug")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    again = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert list(again.uns["transpert"]["response_drug"]["genes"].columns) == ["correlation", "p_value", "p_adjusted"]
    with pytest.raises(UnknownNameError, match="'drag'"):
        tp.tl.responses(adata, "drag")
    with pytest.raises(UnknownNameError, match="'typ'"):
        tp.tl.responses(adata, "drug", groupby="typ")
    adata.layers["same"] = adata.layers["counts"].copy()
    with pytest.raises(CountsError, match="changes nothing"):
        tp.tl.responses(adata, "same")
    with pytest.raises(UnknownNameError, match="'same'"):
        tp.pl.responses(adata, "same")
