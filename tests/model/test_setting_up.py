"""What is refused before a model is made, and when it is read again, with the words of this package."""

from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert import _keys
from transpert.errors import ConditionError, GeneError, GroupSizeError, OptionError, UnknownNameError
from transpert.model import JoiningOptions, ScaleOptions

KEYS = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}


@pytest.fixture
def adata():
    return tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=20, seed=0)


def test_dates_are_refused_before_anything_is_registered(adata) -> None:
    adata.obs["day"] = pd.Timestamp("2026-01-01")
    with pytest.raises(ConditionError, match="dates are no labels.*astype\\(str\\)"):
        tp.MeanShift.setup_anndata(adata, batch_key="day", **KEYS)
    assert "_scvi_uuid" not in adata.uns


@pytest.mark.parametrize("role", ["context_keys", "batch_key", "time_key"])
@pytest.mark.parametrize("name", ["source", "model", "control_id", "library_size", "ood_score"])
def test_columns_that_a_prediction_would_overwrite_are_refused(adata, role, name) -> None:
    adata.obs[name] = 6.0 if role == "time_key" else adata.obs["context"].astype(str)
    keys = {**KEYS, role: name}
    message = f"would be overwritten: '{name}'.*rename.*'my_{name}'"
    with pytest.raises(OptionError, match=message):
        tp.MeanShift.setup_anndata(adata, **keys)
    mdata = mudata.MuData({"rna": adata})
    with pytest.raises(OptionError, match=message):
        tp.MeanShift.setup_mudata(mdata, modality="rna", **keys)
    assert "_scvi_uuid" not in adata.uns


def test_columns_of_a_prediction_say_no_more_than_they_do_when_it_is_set_up_itself(adata) -> None:
    adata.obs["library_size"] *= 3  # as if the genes were a selection
    adata.X = tp.pp.log1p_per_10k(adata.layers["counts"], adata.obs["library_size"].to_numpy())
    tp.KernelTransport.setup_anndata(adata, library_size_key="library_size", **KEYS)
    model = tp.KernelTransport(adata)
    model.train()
    pred = model.predict(interval=0.9, progress=False)
    assert {*_keys.PREDICTION_COLUMNS, _keys.OOD_SCORE} <= set(pred.obs)
    tp.KernelTransport.setup_anndata(pred, library_size_key="library_size", **KEYS)
    again = tp.KernelTransport(pred)
    again.train()
    assert set(again.predict(progress=False).obs["source"]) == {"predicted", "control"}
    # what a split is called is nowhere in a prediction
    adata.obs["model"] = "train"
    tp.KernelTransport.setup_anndata(adata, split_key="model", **KEYS)
    model = tp.KernelTransport(adata)
    model.train()
    assert set(model.predict(progress=False).obs["model"]) == {"KernelTransport"}


def test_a_lonely_cell_without_its_dose_is_told_by_what_setting_up_can_change(adata) -> None:
    adata.obs["dose"] = np.where(adata.obs["perturbation"] == "control", np.nan, 1.0)
    lonely = np.flatnonzero((adata.obs["perturbation"] == "P0") & (adata.obs["context"] == "context_0"))[0]
    adata.obs.loc[adata.obs_names[lonely], "dose"] = np.nan
    with pytest.raises(GroupSizeError, match="context_0 / P0, no dose .1..*merge contexts, or correct 'dose'.$"):
        tp.MeanShift.setup_anndata(adata, dose_key="dose", **KEYS)


def test_columns_that_nobody_made_are_not_offered(adata) -> None:
    tp.MeanShift.setup_anndata(adata, **KEYS)
    renamed = adata.copy()
    renamed.obs = renamed.obs.rename(columns={"perturbation": "drug"})
    renamed.obs["_transpert_split"] = "train"
    assert "_scvi_perturbation" in renamed.obs
    attempts = [
        lambda: tp.tl.effects(renamed, context_keys="context"),
        lambda: tp.MeanShift.setup_anndata(renamed, **KEYS),
        lambda: tp.pp.split(renamed, by="pair", context_keys="context"),
    ]
    for attempt in attempts:
        with pytest.raises(UnknownNameError, match="unknown column: 'perturbation'") as error:
            attempt()
        assert "_scvi" not in str(error.value)
        assert "_transpert" not in str(error.value)
        assert "drug" in error.value.known


def test_a_view_is_refused(adata) -> None:
    with pytest.raises(OptionError, match=r"a view.*\.copy\(\)"):
        tp.MeanShift.setup_anndata(adata[:50], **KEYS)


@pytest.mark.parametrize(
    "wrong", [{"readout": "expected"}, {"encoder": "mlp"}, {"anchor": "ridge"}, {"training": {"steps": 5}}]
)
def test_words_in_place_of_options_are_refused(adata, wrong) -> None:
    tp.SCALE.setup_anndata(adata, **KEYS)
    (name,) = wrong
    with pytest.raises(OptionError, match=rf"{name} is .*{name}=\w+Options\(...\)"):
        tp.SCALE(adata, **wrong)


def test_folds_are_whole() -> None:
    with pytest.raises(OptionError, match="folds is 2.5"):
        JoiningOptions(folds=2.5)
    assert ScaleOptions(anchor=None).anchor is None


def test_a_model_is_not_bound_to_other_genes(adata, tmp_path) -> None:
    fewer = adata[:, :15].copy()
    tp.MeanShift.setup_anndata(fewer, **KEYS)
    model = tp.MeanShift(fewer)
    model.train()
    model.save(tmp_path / "model")
    for other in (adata, adata[:, 5:20].copy()):
        with pytest.raises(GeneError, match=r"the model 15, of which 1\d are the same.*predict\(adata=\)"):
            tp.MeanShift.load(tmp_path / "model", other)
    turned = fewer[:, ::-1].copy()
    assert tp.MeanShift.load(tmp_path / "model", turned).get_effects(perturbations="P0").shape == (15, 3)
    assert tp.MeanShift.load(tmp_path / "model").predict(adata=adata, progress=False).n_vars == 15


def test_effects_are_written_so_that_the_data_can_be_saved(adata, tmp_path) -> None:
    adata.obs["context"] = adata.obs["context"].astype(str).str.replace("context_0", "T/NK")
    tp.MeanShift.setup_anndata(adata, **KEYS)
    model = tp.MeanShift(adata)
    model.train()
    table = model.get_effects(perturbations="P0", key_added="effects")
    assert table.columns[0].startswith("T/NK") or any(name.startswith("T/NK") for name in table)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    assert adata.varm["effects"].shape == table.shape
    model.save(tmp_path / "model")
    turned = adata[:, ::-1].copy()
    again = tp.MeanShift.load(tmp_path / "model", turned).get_effects(perturbations="P0", key_added="effects")
    pd.testing.assert_frame_equal(again, table)
    assert (turned.varm["effects"].to_numpy() == table.to_numpy()[::-1]).all()
    with pytest.raises(OptionError, match="no AnnData to write into"):
        tp.MeanShift.load(tmp_path / "model").get_effects(adata=adata, key_added="effects")
