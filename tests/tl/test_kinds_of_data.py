"""Cells that come as something else than is wanted: lists, tables, paths, stores, files that are not read."""

from __future__ import annotations

import anndata
import pandas as pd
import pytest
from anndata import AnnData
from anndata.experimental import read_lazy

import transpert as tp
from transpert.errors import BackedDataError, OptionError


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=30, n_cells=30)


SEVERAL = r"the prediction is of type {}. Give an AnnData.*, or several by name: {{'mine': prediction}}"


@pytest.mark.parametrize("use", [tp.tl.evaluate, tp.tl.audit, tp.pl.calibration, tp.pl.overlap_curve])
@pytest.mark.parametrize("kind", ["list", "DataFrame"])
def test_several_predictions_are_given_by_name(cells, use, kind) -> None:
    pred = [cells] if kind == "list" else pd.DataFrame({"a": [1]})
    with pytest.raises(OptionError, match=SEVERAL.format(kind)):
        use(pred, cells)
    with pytest.raises(OptionError, match=f"prediction 'mine' is of type {kind}. Give an AnnData"):
        use({"mine": pred}, cells)


def test_what_is_no_anndata_is_named(cells) -> None:
    for use in (tp.tl.evaluate, tp.pl.calibration, tp.pl.dose_response, tp.tl.embed_together, tp.pl.effects_scatter):
        with pytest.raises(OptionError, match="the truth is of type object. Give an AnnData"):
            use(cells, object())
    for use in (tp.pl.overlap_curve, tp.pl.dose_response, tp.tl.embed_together, tp.pl.effects_scatter, tp.tl.to_counts):
        with pytest.raises(OptionError, match="the prediction is of type str. Give an AnnData"):
            use("p.h5ad", cells)
    for use in (tp.tl.effects, tp.tl.rank_genes_groups):
        with pytest.raises(OptionError, match="the data is of type list. Give an AnnData or a MuData"):
            use([cells])


@pytest.mark.parametrize("how", ["backed", "lazy"])
def test_values_that_stay_in_a_file_are_said_to(cells, tmp_path, how) -> None:
    cells.write_h5ad(tmp_path / "truth.h5ad")
    path = tmp_path / "truth.h5ad"
    truth = anndata.read_h5ad(path, backed="r") if how == "backed" else read_lazy(path)
    with pytest.raises(BackedDataError, match=r"in memory .in control, X.. Read them with adata.to_memory"):
        tp.tl.embed_together(cells, truth, umap=False)
    with pytest.raises(BackedDataError, match="to_memory"):
        tp.tl.effects(truth)
