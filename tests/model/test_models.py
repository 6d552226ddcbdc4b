"""The five verbs, for every model."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import transpert as tp
from transpert.errors import (
    AssumptionWarning,
    BackedDataError,
    CellError,
    ConditionError,
    ControlError,
    CountsError,
    GeneError,
    GroupSizeError,
    ModelFileError,
    NotTrainedError,
    OptionError,
    UnknownNameError,
)
from transpert.model import BASELINES, TrainingOptions

TRAINING = TrainingOptions(steps=12, steps_per_epoch=6, set_size=16, sets_per_batch=4)
EVERY = {**BASELINES, "SCALE": tp.SCALE}


def make(name, adata, **setup):
    cls = EVERY[name]
    keys = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts", **setup}
    cls.setup_anndata(adata, **keys)
    return cls(adata, preset="tiny", joining="always", training=TRAINING) if name == "SCALE" else cls(adata)


def trained(name, adata, accelerator="cpu", **setup):
    model = make(name, adata, **setup)
    model.train(**({"enable_progress_bar": False, "accelerator": accelerator} if name == "SCALE" else {}))
    return model


@pytest.mark.parametrize("name", EVERY)
def test_five_verbs(name, screen, tmp_path, accelerator) -> None:
    tp.pp.split(screen, holdout={"context": "context_0"})
    model = trained(name, screen, accelerator, split_key="split", batch_key="batch")
    pred = model.predict({"context": "context_0"}, ["P0", "P1+P2"], progress=False)
    check_slots(pred, screen)
    model.save(tmp_path / "model")
    again = type(model).load(tmp_path / "model", screen)
    repeated = again.predict({"context": "context_0"}, ["P0", "P1+P2"], progress=False)
    np.testing.assert_array_equal(pred.to_df(), repeated.to_df())
    without = type(model).load(tmp_path / "model")
    elsewhere = without.predict({"context": "context_0"}, ["P0", "P1+P2"], adata=screen, progress=False)
    np.testing.assert_array_equal(pred.to_df(), elsewhere.to_df())
    with pytest.raises(NotTrainedError, match="without data"):
        without.predict()
    assert type(model).__name__ in model.summary()


def check_slots(pred, screen) -> None:
    assert pred.X.dtype == np.float32
    assert sparse.issparse(pred.X) == ("counts" in pred.layers)  # added shifts leave no zeros
    values = pred.to_df().to_numpy()
    assert np.isfinite(values).all() and (values >= 0).all() and values.max() <= np.log1p(1e4) + 1e-4
    assert list(pred.var_names) == list(screen.var_names)
    assert pred.obs_names.is_unique
    assert set(pred.obs["source"]) == {"predicted", "control"}
    predicted = pred.obs["source"] == "predicted"
    assert set(pred.obs.loc[predicted, "perturbation"]) == {"P0", "P1+P2"}
    assert set(pred.obs.loc[~predicted, "perturbation"]) == {"control"}
    assert set(pred.obs["control_id"]) <= set(screen.obs_names)
    if "counts" in pred.layers:
        counts = pred.layers["counts"]
        tp.pp.check_counts(counts, where="counts")
        controls = screen[pred.obs.loc[~predicted, "control_id"]].layers["counts"]
        np.testing.assert_array_equal(counts[np.flatnonzero(~predicted)].toarray(), controls.toarray())


def test_test_cells_are_never_seen(screen) -> None:
    tp.pp.split(screen, holdout={"context": "context_0"})
    screen.X = screen.layers["counts"].copy()  # log1p values would not fit the library sizes that are set below
    spoiled = screen.copy()
    rows = np.flatnonzero(spoiled.obs["split"] == "test")
    counts = spoiled.layers["counts"].tolil()
    counts[rows] = 7
    spoiled.layers["counts"] = counts.tocsr()
    spoiled.obs["library_size"] = 1e5
    screen.obs["library_size"] = 1e5
    for name in ("RidgeTransport", "SCALE"):
        preds = [
            trained(name, adata, split_key="split").predict({"context": "context_0"}, ["P0"], progress=False)
            for adata in (screen, spoiled)
        ]
        np.testing.assert_array_equal(preds[0].to_df(), preds[1].to_df())


def test_two_runs_are_identical(screen) -> None:
    preds = [
        trained("SCALE", screen.copy()).predict(perturbations=["P0"], progress=False).to_df().to_numpy()
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*preds)


def test_a_new_process_predicts_the_same(screen, tmp_path) -> None:
    model = trained("SCALE", screen)
    model.save(tmp_path / "model", save_anndata=True)
    script = (
        "import sys, numpy, transpert as tp; m = tp.SCALE.load(sys.argv[1]); "
        "numpy.save(sys.argv[2], m.predict(perturbations=['P0'], progress=False).to_df().to_numpy())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model"), str(tmp_path / "x.npy")]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_array_equal(
        np.load(tmp_path / "x.npy"), model.predict(perturbations=["P0"], progress=False).to_df()
    )


def test_no_change_changes_nothing_and_the_control_is_not_a_prediction(screen) -> None:
    model = trained("NoChange", screen)
    pred = model.predict({"context": "context_1"}, ["P0"], progress=False)
    halves = [pred.to_df().to_numpy()[(pred.obs["source"] == s).to_numpy()] for s in ("predicted", "control")]
    np.testing.assert_array_equal(*halves)


def test_baselines_by_hand(screen) -> None:
    screen = screen[~screen.obs["perturbation"].astype(str).str.contains("+", regex=False)].copy()
    tp.pp.split(screen, holdout={"context": "context_0", "perturbation": "P0"})
    logs = np.asarray(screen.X.todense(), dtype=float)
    obs = screen.obs

    def mean(context, label):
        seen = obs["split"] == "train"
        return logs[(seen & (obs["context"] == context) & (obs["perturbation"] == label)).to_numpy()].mean(axis=0)

    others = [f"context_{i}" for i in range(1, 5)]
    before = mean("context_0", "control")
    expected = {
        "MeanShift": np.mean([mean(c, "P0") - mean(c, "control") for c in others], axis=0),
        "ContextMean": np.mean([mean("context_0", p) - before for p in ("P1", "P2")], axis=0),
    }
    for name, shift in expected.items():
        pred = trained(name, screen, split_key="split").predict({"context": "context_0"}, ["P0"], progress=False)
        moved = pred.to_df().to_numpy()[(pred.obs["source"] == "predicted").to_numpy()]
        controls = pred.to_df().to_numpy()[(pred.obs["source"] == "control").to_numpy()]
        target = np.maximum(before + shift, 0) - before
        np.testing.assert_allclose(moved, np.maximum(controls + target, 0), atol=2e-3)


def test_replicate_draws_observed_cells(screen) -> None:
    tp.pp.split(screen, holdout={"context": "context_0"})
    tp.Replicate.setup_anndata(
        screen, perturbation_key="perturbation", context_keys="context", layer="counts", split_key="split"
    )
    model = tp.Replicate(screen)
    model.train()
    pred = model.predict({"context": "context_0"}, ["P0"], include_controls=False, progress=False)
    source = screen[pred.obs["control_id"]]
    assert set(source.obs["perturbation"]) == {"P0"} and set(source.obs["context"]) == {"context_0"}
    assert pred.n_obs == 60
    np.testing.assert_allclose(pred.to_df(), source.X.toarray(), rtol=1e-5)


def test_effects_latents_and_counterfactuals(screen) -> None:
    model = trained("SCALE", screen)
    table = model.get_effects({"context": "context_1"}, ["P0"], key_added="scale")
    assert list(screen.varm["scale"].columns) == ["context_1: P0"]
    truth = screen.varm["true_effects"]["context_1: P0"]
    assert np.corrcoef(table["context_1: P0"], truth)[0, 1] > 0.8
    assert model.get_latent_representation().shape == (screen.n_obs, 64)
    tp.tl.predict(screen, model, perturbation="P1")
    assert screen.obsm["X_P1"].shape == (screen.n_obs, 64)
    tp.pp.check_counts(screen.layers["P1"], where="P1")


def test_mudata_as_anndata(screen) -> None:
    mdata = mudata.MuData({"rna": screen.copy(), "atac": screen[:, :5].copy()})
    for column in ("perturbation", "context"):
        mdata.obs[column] = screen.obs[column]
    tp.RidgeTransport.setup_mudata(
        mdata, modality="rna", perturbation_key="perturbation", context_keys=["context"], layer="counts"
    )
    model = tp.RidgeTransport(mdata)
    model.train()
    expected = trained("RidgeTransport", screen).predict(perturbations=["P0"], progress=False)
    np.testing.assert_array_equal(model.predict(perturbations=["P0"], progress=False).to_df(), expected.to_df())
    with pytest.raises(UnknownNameError, match="Known: .*'rna'"):
        tp.RidgeTransport.setup_mudata(mdata, modality="rnaa", perturbation_key="perturbation")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda a: a.layers.update(counts=a.layers["counts"] * 0.5), CountsError, "not integers"),
        (lambda a: a.layers.update(counts=a.layers["counts"] * -1), CountsError, "negative"),
        (lambda a: a.layers.update(counts=a.layers["counts"] * np.nan), CountsError, "NaN"),
        (lambda a: a.layers.update(counts=a.X), CountsError, "look like log1p"),
        (lambda a: setattr(a, "var_names", ["g"] * a.n_vars), GeneError, "more than once"),
        (lambda a: setattr(a, "obs_names", ["c"] * a.n_obs), CellError, "different cells, or"),
        (lambda a: a.obs.update(a.obs["library_size"] * 0), CountsError, "not above 0"),
        (lambda a: a.obs.update(a.obs["library_size"] / 100), CountsError, "fewer counts in all"),
    ],
    ids=["fractions", "negative", "nan", "log", "genes", "cells", "empty", "library"],
)
def test_bad_data_is_refused_and_nothing_is_written(spoil, error, message, screen) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spoil(screen)
    before = set(screen.obs), set(screen.uns)
    with pytest.raises(error, match=message):
        make("RidgeTransport", screen)
    assert (set(screen.obs), set(screen.uns)) == before


@pytest.mark.parametrize(
    ("setup", "error", "message"),
    [
        ({"control": "DMSO"}, ControlError, "no cell is labelled 'DMSO'"),
        ({"perturbation_key": "perturbatoin"}, UnknownNameError, "Did you mean 'perturbation'"),
        ({"context_keys": ["contxt"]}, UnknownNameError, "Did you mean 'context'"),
        ({"layer": "count"}, UnknownNameError, "Did you mean 'counts'"),
        ({"library_size_key": "librarysize"}, UnknownNameError, "Did you mean 'library_size'"),
        ({"layer": None}, CountsError, "look like log1p"),
        ({"embedding_key": "X_pca"}, UnknownNameError, "X_pca"),
    ],
)
def test_bad_setups_are_refused(setup, error, message, screen) -> None:
    with pytest.raises(error, match=message):
        make("RidgeTransport", screen, **setup)


def test_groups_without_controls_or_with_one_cell(screen) -> None:
    orphan = screen[~((screen.obs["context"] == "context_2") & (screen.obs["perturbation"] == "control"))].copy()
    with pytest.raises(ControlError, match="'context_2'"):
        make("MeanShift", orphan)
    lonely = ((screen.obs["context"] == "context_2") & (screen.obs["perturbation"] == "P0")).to_numpy()
    keep = ~lonely
    keep[np.flatnonzero(lonely)[0]] = True
    with pytest.raises(GroupSizeError, match="context_2 / P0"):
        make("MeanShift", screen[keep].copy())


def test_backed_data_points_to_the_store(screen, tmp_path) -> None:
    screen.write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(BackedDataError, match="Store"):
        make("MeanShift", anndata.read_h5ad(tmp_path / "x.h5ad", backed="r"))


def test_unknown_names_when_predicting(screen) -> None:
    model = make("RidgeTransport", screen)
    with pytest.raises(NotTrainedError, match="train"):
        model.predict()
    model.train()
    with pytest.raises(UnknownNameError, match="Did you mean 'P0'"):
        model.predict(perturbations=["p0"])
    with pytest.raises(UnknownNameError, match="'context_9'.*Known: 'context_0'"):
        model.predict({"context": "context_9"})
    with pytest.raises(UnknownNameError, match="cell_type"):
        model.predict({"cell_type": "B"})
    with pytest.raises(ConditionError, match="no|dose"):
        model.predict(perturbations=["P0"], doses=[1.0])
    tp.MeanShift.setup_anndata(screen, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    with pytest.raises(OptionError, match="gaussian"):
        tp.MeanShift(screen, readout="gaussian")


def test_combinations_in_any_order(screen) -> None:
    pair = next(p for p in set(screen.obs["perturbation"].astype(str)) if "+" in p)
    model = trained("RidgeTransport", screen)
    swapped = "+".join(reversed(pair.split("+")))
    preds = [model.predict({"context": "context_1"}, [name], progress=False) for name in (pair, swapped)]
    np.testing.assert_array_equal(preds[0].to_df(), preds[1].to_df())
    assert set(preds[1].obs["perturbation"].astype(str)) == {pair, "control"}


@pytest.mark.parametrize("name", ["RidgeTransport", "SCALE"])
def test_as_many_cells_as_asked_for(name, screen) -> None:
    """Every control cell is moved equally often, and the controls are written once."""
    model = trained(name, screen)
    n_controls = int(((screen.obs["context"] == "context_0") & (screen.obs["perturbation"] == "control")).sum())
    for n_cells in (n_controls - 5, 2 * n_controls + 3):
        pred = model.predict({"context": "context_0"}, ["P0"], n_cells=n_cells, progress=False)
        moved = pred[pred.obs["source"] == "predicted"]
        assert moved.n_obs == n_cells
        assert pred.n_obs - moved.n_obs == min(n_cells, n_controls)
        assert pred.obs_names.is_unique
        often = moved.obs["control_id"].value_counts().reindex(pred.obs["control_id"].unique(), fill_value=0)
        assert often.max() - often.min() == int(n_cells > n_controls)
    with pytest.raises(OptionError, match="n_cells"):
        model.predict({"context": "context_0"}, ["P0"], n_cells=0, progress=False)


def test_genes_are_aligned_by_name(screen) -> None:
    model = trained("RidgeTransport", screen)
    expected = model.predict({"context": "context_1"}, ["P0"], progress=False)
    shuffled = screen[:, np.random.default_rng(0).permutation(screen.n_vars)].copy()
    pred = model.predict({"context": "context_1"}, ["P0"], adata=shuffled, progress=False)
    np.testing.assert_array_equal(expected.to_df(), pred.to_df())
    fewer = screen[:, :70].copy()
    with pytest.raises(GeneError, match="10 of 80"):
        model.predict(adata=fewer)
    with pytest.warns(AssumptionWarning, match=r"genes of the model are not in these cells and count as zero"):
        assert model.predict(adata=fewer, max_missing_genes=0.2, progress=False).n_vars == 80


def test_files_that_are_not_models(screen, tmp_path) -> None:
    with pytest.raises(ModelFileError, match="no model.json"):
        tp.SCALE.load(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(ModelFileError, match="not opened"):
        tp.SCALE.load(tmp_path)
    model = trained("MeanShift", screen)
    model.save(tmp_path / "m")
    with pytest.raises(ModelFileError, match="exists"):
        model.save(tmp_path / "m")
    with pytest.raises(ModelFileError, match="a MeanShift, not a SCALE"):
        tp.SCALE.load(tmp_path / "m")
    description = json.loads((tmp_path / "m" / "model.json").read_text())
    (tmp_path / "m" / "model.json").write_text(json.dumps({**description, "format": 99}))
    with pytest.raises(ModelFileError, match="format 99"):
        tp.MeanShift.load(tmp_path / "m")
    (tmp_path / "m" / "model.json").write_text("{")
    with pytest.raises(ModelFileError, match="is no JSON file, or it is damaged"):
        tp.MeanShift.load(tmp_path / "m")
    with pytest.raises(NotTrainedError):
        make("SCALE", screen).save(tmp_path / "n")
    assert not (tmp_path / "n").exists()


def test_a_library_size_that_is_guessed_is_reported(screen) -> None:
    del screen.obs["library_size"]
    with pytest.warns(AssumptionWarning, match="sum over the 80 genes"):
        make("MeanShift", screen)


@pytest.mark.parametrize("key", ["X_pca", "X_other"])
def test_an_embedding_as_state_space(key, screen, tmp_path) -> None:
    rng = np.random.default_rng(0)
    dense = np.asarray(screen.X.todense())
    screen.obsm[key] = ((dense - dense.mean(axis=0)) @ rng.normal(size=(80, 6)) / 9).astype(np.float32)
    model = trained("SCALE", screen, embedding_key=key)
    pred = model.predict({"context": "context_1"}, ["P0"], progress=False)
    assert pred.shape[1] == 80 and "counts" in pred.layers
    model.save(tmp_path / "m")
    again = tp.SCALE.load(tmp_path / "m", screen).predict({"context": "context_1"}, ["P0"], progress=False)
    np.testing.assert_array_equal(pred.to_df(), again.to_df())


def test_perturbations_by_embedding() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=6, n_genes=40, n_cells=30, embedding_dimension=3)
    table = pd.DataFrame(adata.uns["simulation"]["embedding"])
    table.loc["P_new"] = [0.1, 0.2, 0.3]
    tp.SCALE.setup_anndata(adata, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    model = tp.SCALE(adata, preset="tiny", joining="always", training=TRAINING, embeddings=table)
    model.train(enable_progress_bar=False)
    assert model.predict(perturbations=["P_new"], progress=False).n_vars == 40
    with pytest.raises(UnknownNameError, match="P_other"):
        model.predict(perturbations=["P_other"])
    with pytest.raises(UnknownNameError, match="'P3'"):
        tp.SCALE(adata, embeddings=table.drop(index="P3"))


@pytest.mark.parametrize("preset", ["tiny", "small", "base", "paper"])
def test_presets_build(preset, screen) -> None:
    tp.SCALE.setup_anndata(screen, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    model = tp.SCALE(screen, preset=preset)
    assert f"{model.n_parameters:,} parameters" in model.summary()
    paper = model.options
    if preset == "paper":
        assert paper.anchor is None and paper.readout.kind == "expected"
        assert paper.network.flow.coupling == "index" and paper.network.sets.pooling == "mean"
        assert paper.network.encoder.input_scale == 10.0


def test_residual_joining_trains_and_loads(screen, tmp_path) -> None:
    tp.SCALE.setup_anndata(screen, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    model = tp.SCALE(
        screen, preset="tiny", training=TRAINING, joining=tp.model.JoiningOptions(kind="residual", folds=2)
    )
    model.train(enable_progress_bar=False)
    assert 0 <= model.gate <= 1
    model.save(tmp_path / "m")
    pred, again = (
        m.predict(perturbations=["P0"], progress=False).to_df().to_numpy()
        for m in (model, tp.SCALE.load(tmp_path / "m", screen))
    )
    np.testing.assert_array_equal(pred, again)
    with pytest.raises(OptionError, match="no anchor"):
        tp.SCALE(screen, anchor=None, joining=tp.model.JoiningOptions(kind="residual"))
    with pytest.raises(UnknownNameError, match="Did you mean 'small'"):
        tp.SCALE(screen, preset="smal")


def test_doses_are_predicted_between_those_measured() -> None:
    adata = tp.datasets.simulate(
        n_contexts=2, n_perturbations=2, n_genes=60, n_cells=80, doses=(0.1, 1.0, 10.0), moved=0.5
    )
    tp.RidgeTransport.setup_anndata(
        adata, perturbation_key="perturbation", context_keys=["context"], layer="counts", dose_key="dose"
    )
    model = tp.RidgeTransport(adata)
    model.train()
    table = model.get_effects({"context": "context_0"}, ["P0"], doses=[0.1, 0.5, 1.0, 5.0, 10.0])
    sizes = np.linalg.norm(table.to_numpy(), axis=0)
    assert (np.diff(sizes) > -1e-6).all() and sizes[-1] > sizes[0]


def test_sparse_and_dense_counts_are_the_same(screen) -> None:
    dense = screen.copy()
    dense.layers["counts"] = dense.layers["counts"].toarray()
    assert sparse.issparse(screen.layers["counts"])
    preds = [
        trained("RidgeTransport", a).predict(perturbations=["P0"], progress=False).to_df().to_numpy()
        for a in (screen, dense)
    ]
    np.testing.assert_array_equal(*preds)
