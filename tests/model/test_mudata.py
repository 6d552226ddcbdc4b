"""MuData: columns stand in the modality or in ``mdata.obs``, for models and tools alike."""

from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.errors import OptionError

COLUMNS = {"perturbation_key": "perturbation", "context_keys": ["context"]}
KEYS = {**COLUMNS, "layer": "counts"}


@pytest.fixture(scope="module")
def cells():
    return tp.datasets.simulate(n_contexts=4, n_perturbations=3, n_genes=40, n_cells=25, seed=0)


def _mdata(cells, shared: list[str]) -> mudata.MuData:
    """Cells whose named columns stand in ``mdata.obs`` alone."""
    rna = cells.copy()
    mdata = mudata.MuData({"rna": rna, "protein": cells[:, :5].copy()})
    for column in shared:
        mdata.obs[column] = rna.obs[column]
        for modality in mdata.mod.values():
            del modality.obs[column]
    return mdata


@pytest.mark.parametrize("shared", [[], ["perturbation", "context", "library_size"], ["perturbation"], ["context"]])
def test_columns_are_found_where_they_stand(cells, tmp_path, shared) -> None:
    tp.KernelTransport.setup_anndata(cells, **KEYS)
    model = tp.KernelTransport(cells)
    model.train()
    expected = model.predict(perturbations="P0", progress=False)
    mdata = _mdata(cells, shared)
    tp.KernelTransport.setup_mudata(mdata, modality="rna", **KEYS)
    model = tp.KernelTransport(mdata)
    model.train()
    np.testing.assert_array_equal(model.predict(perturbations="P0", progress=False).to_df(), expected.to_df())
    model.save(tmp_path / "model")
    # the columns may stand elsewhere in the data that a saved model is given
    for other in (_mdata(cells, []), _mdata(cells, ["perturbation", "context"])):
        again = tp.KernelTransport.load(tmp_path / "model", other)
        pred = again.predict(perturbations="P0", progress=False)
        np.testing.assert_array_equal(pred.to_df(), expected.to_df())


def test_columns_of_a_modality_that_were_pulled_up(cells) -> None:
    mdata = _mdata(cells, [])
    mdata.pull_obs()
    tp.MeanShift.setup_mudata(mdata, modality="rna", **KEYS)
    assert tp.MeanShift(mdata).vocabulary.labels == ("P0", "P1", "P2", "control")


def test_context_columns_stand_together(cells) -> None:
    mdata = _mdata(cells, ["context"])
    mdata["rna"].obs["tissue"] = "blood"
    keys = {**KEYS, "context_keys": ["tissue", "context"]}
    with pytest.raises(OptionError, match=r"'tissue' stand in mdata\['rna'\].obs and 'context' in mdata.obs.*Copy"):
        tp.MeanShift.setup_mudata(mdata, modality="rna", **keys)


@pytest.mark.parametrize("shared", [[], ["perturbation", "context"]])
def test_tools_find_columns_where_they_stand_and_write_into_the_modality(cells, shared) -> None:
    tp.KernelTransport.setup_anndata(cells, **KEYS)
    model = tp.KernelTransport(cells)
    model.train()
    pred = model.predict({"context": "context_0"}, progress=False)
    mdata = _mdata(cells, shared)
    options = {"baselines": ["MeanShift"], "progress": False, "n_bootstrap": 10}
    expected = tp.tl.evaluate(pred, cells, **options)
    scores = tp.tl.evaluate(pred, mdata, options=tp.tl.EvaluationOptions(modality="rna"), **options)
    pd.testing.assert_frame_equal(scores, expected)
    assert "scores" in mdata["rna"].uns["transpert"]
    effects = tp.tl.effects(mdata, modality="rna", context_keys=["context"])
    pd.testing.assert_frame_equal(mdata["rna"].varm["effects"], effects)
    tp.tl.rank_genes_groups(mdata, modality="rna")
    assert mdata["rna"].uns["rank_genes_groups"]["names"].dtype.names == ("P0", "P1", "P2")
    assert set(shared).isdisjoint(mdata["rna"].obs)  # nothing else is written


def test_counterfactuals_are_written_into_the_modality(cells) -> None:
    for shared in ([], ["perturbation", "context"]):
        mdata = _mdata(cells, shared)
        tp.KernelTransport.setup_mudata(mdata, modality="rna", **KEYS)
        model = tp.KernelTransport(mdata)
        model.train()
        tp.tl.predict(mdata, model, perturbation="P0")
        counts, _ = model.counterfactual(mdata, "P0")
        assert (mdata["rna"].layers["P0"] != counts).nnz == 0
