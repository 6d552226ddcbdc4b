"""What is written can be read again, and is the same."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from scipy import sparse

import transpert as tp


def assert_same(left, right, where="") -> None:
    """Whatever may stand in a slot is equal, types and categories included."""
    if isinstance(left, dict):
        assert sorted(map(str, left)) == sorted(map(str, right)), where
        for key in left:
            assert_same(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right, check_index_type=False, obj=where)
    elif sparse.issparse(left):
        assert left.format == right.format and left.dtype == right.dtype and (left != right).nnz == 0, where
    elif isinstance(left, np.ndarray) and left.dtype.names:
        assert left.dtype.names == right.dtype.names, where
        for name in left.dtype.names:
            np.testing.assert_array_equal(left[name], right[name], err_msg=where)
    else:
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right), err_msg=where)


def assert_same_adata(left, right) -> None:
    # names are objects in memory and strings of pandas 3 when read; that is anndata's
    pd.testing.assert_frame_equal(left.obs, right.obs, check_index_type=False)
    pd.testing.assert_frame_equal(left.var, right.var, check_index_type=False)
    assert_same(left.X, right.X, "X")
    for slot in ("layers", "obsm", "varm", "uns"):
        assert_same(dict(getattr(left, slot)), dict(getattr(right, slot)), slot)


@pytest.fixture
def full(pred):
    """A prediction with all that the tools write."""
    tp.tl.rank_genes_groups(pred)
    tp.tl.effects(pred)
    return pred


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_predictions_survive_a_file(full, tmp_path, kind) -> None:
    path = tmp_path / f"pred.{kind}"
    getattr(full, f"write_{kind}")(path)
    again = getattr(anndata, f"read_{kind}")(path)
    assert_same_adata(full, again)
    # and the tools go on with it
    assert tp.tl.effects(again, key_added="more").equals(full.varm["effects"])


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_scores_survive_a_file(pred, truth, tmp_path, kind) -> None:
    scores = tp.tl.evaluate(pred, truth, metrics=["pearson_delta"], progress=False)
    path = tmp_path / f"truth.{kind}"
    getattr(truth, f"write_{kind}")(path)
    again = getattr(anndata, f"read_{kind}")(path).uns["transpert"]["scores"]
    assert list(again.columns) == list(scores.columns)
    for column in scores:
        np.testing.assert_array_equal(again[column].to_numpy(), scores[column].to_numpy(), err_msg=column)
    # a table that was read is drawn like one that was computed
    drawn = tp.pl.scores(again, show=False)
    assert [label.get_text() for label in drawn.get_yticklabels()] == ["RidgeTransport"]


def test_a_prediction_from_a_file_is_evaluated_like_one_in_memory(pred, truth, tmp_path) -> None:
    pred.write_h5ad(tmp_path / "pred.h5ad")
    inside = tp.tl.evaluate(pred, truth, metrics=["pearson_delta"], progress=False)
    again = anndata.read_h5ad(tmp_path / "pred.h5ad")
    outside = tp.tl.evaluate(again, truth, metrics=["pearson_delta"], progress=False)
    np.testing.assert_array_equal(inside["value"], outside["value"])


def test_concatenation_keeps_what_was_predicted(pred, truth) -> None:
    joined = anndata.concat({"predicted": pred, "observed": truth}, label="from", index_unique="-")
    assert joined.n_obs == pred.n_obs + truth.n_obs
    assert (joined.obs["perturbation"].value_counts() > 0).all()


def test_one_modality_of_several(pred, truth, tmp_path) -> None:
    protein = anndata.AnnData(np.ones((pred.n_obs, 3), dtype=np.float32), obs=pred.obs[[]].copy())
    protein.var_names = [f"protein_{i}" for i in range(3)]
    both = MuData({"rna": pred, "protein": protein})
    tp.tl.rank_genes_groups(both, modality="rna")
    effects = tp.tl.effects(both, modality="rna")
    assert effects.equals(both["rna"].varm["effects"]) and "rank_genes_groups" in both["rna"].uns
    real = MuData({"rna": truth})
    options = {"metrics": ["pearson_delta"], "progress": False}
    scores = tp.tl.evaluate({"mine": both}, real, options=tp.tl.EvaluationOptions(modality="rna"), **options)
    alone = tp.tl.evaluate({"mine": pred}, truth, **options)
    pd.testing.assert_frame_equal(scores, alone)
    both.write_h5mu(tmp_path / "both.h5mu")
    assert_same_adata(both["rna"], mudata.read_h5mu(tmp_path / "both.h5mu")["rna"])
    with pytest.raises(tp.errors.UnknownNameError, match="rn"):
        tp.tl.effects(both, modality="rn")
