"""Representations, other tasks and stores in scaling studies."""

from __future__ import annotations

import numpy as np
import pytest

import transpert as tp
from transpert.errors import OptionError, UnknownNameError
from transpert.groups import Design
from transpert.tl._scaling.tasks import classification, floors, halves

DESIGN = Design("perturbation", "control", ("context",), split_key="split")


@pytest.fixture(scope="module")
def cells():
    adata = tp.datasets.simulate(n_contexts=6, n_perturbations=3, n_genes=60, n_cells=30, effect_size=0.8)
    tp.pp.split(adata, holdout={"context": "context_0"})
    # as of a foundation model: where a cell is, without noise
    adata.obsm["X_model"] = adata.obsm["state"] if "state" in adata.obsm else adata.X.toarray()[:, :5]
    return adata


def study(cells, out, **options):
    options = {"axes": {"cells": [0.3, 1.0]}, "seeds": 1, "metrics": "pearson_delta", **options}
    return tp.tl.scaling_study(cells, DESIGN, out=out, progress=False, **options)


def test_regressions_on_representations_stand_beside_the_models(cells, tmp_path) -> None:
    names = ["MeanShift", "genes + linear", "PCA + ridge", "X_model + ridge", "X_model + mlp"]
    table = study(cells, tmp_path, models=names).table
    best = table[table["cells"] == 1.0].groupby("model")["normalised"].mean()
    assert set(best.index) == set(names)
    assert (best > 0.3).all() and best.nunique() == len(names)


def test_models_come_with_their_arguments(cells, tmp_path) -> None:
    models = {"wide": ("PCA + ridge", {"n_dimensions": 8}), "added": (tp.KernelTransport, {"readout": "added"})}
    table = study(cells, tmp_path, models=models).table
    assert (table[table["cells"] == 1.0].groupby("model")["normalised"].mean() > 0.3).all()
    with pytest.raises(OptionError, match="models"):
        study(cells, tmp_path, models={"wide": ("PCA + ridge", 8)})


def test_another_representation_of_the_same_name_is_another_run(cells, tmp_path) -> None:
    study(cells, tmp_path, models="X_model + ridge")
    other = cells.copy()
    other.obsm["X_model"] = other.obsm["X_model"][::-1].copy()
    study(other, tmp_path, models="X_model + ridge")
    assert len(list((tmp_path / "runs").glob("*.json"))) == 4


def test_types_are_told_from_representations_and_noise_tells_none(cells, tmp_path) -> None:
    other = cells.copy()
    other.obsm["X_noise"] = np.random.default_rng(0).normal(size=(cells.n_obs, 5))
    options = {"models": ["PCA", "X_noise"], "metrics": None, "task": "classification"}
    table = study(other, tmp_path, **options).table
    accuracy = table[(table["metric"] == "accuracy") & (table["cells"] == 1.0)].set_index("model")
    assert accuracy.loc["PCA", "normalised"] > 0.8
    assert abs(accuracy.loc["X_noise", "normalised"]) < 0.15
    assert set(table["metric"]) == {"accuracy", "micro_f1", "macro_f1"}


def test_scvi_is_trained_on_the_drawn_cells_with_a_seed(cells) -> None:
    from transpert.tl._scaling.latents import latent_of

    own = np.arange(cells.n_obs) % 3 > 0
    known = {"layer": "counts", "n_dimensions": 3, "max_epochs": 1}
    first, again, other = (latent_of(cells, "scVI", own, **known, seed=seed) for seed in (0, 0, 1))
    assert first.shape == (cells.n_obs, 3) and (first == again).all() and not np.allclose(first, other)


def test_clusters_of_a_good_representation_are_the_types(cells, tmp_path) -> None:
    other = cells.copy()
    codes = cells.obs["context"].astype("category").cat.codes.to_numpy()
    other.obsm["X_types"] = np.eye(6)[codes] + 0.01 * np.random.default_rng(0).normal(size=(cells.n_obs, 6))
    table = study(other, tmp_path, models="X_types", metrics=None, task="integration", axes={"cells": [1.0]}).table
    scores = table[table["cells"] == 1.0].set_index("metric")["value"]
    assert scores["nmi"] > 0.95 and scores["avg_bio"] == pytest.approx(scores[["nmi", "ari", "asw"]].mean())


def test_scores_of_a_classification_are_those_counted_by_hand() -> None:
    types = np.array(["a"] * 12 + ["b"] * 8 + ["rare"] * 3)
    learned, told = halves(types)
    assert learned.sum() == told.sum() == 10 and not (learned & told).any()
    assert floors("classification", types) == pytest.approx({"accuracy": 0.6, "micro_f1": 0.6, "macro_f1": 0.375})
    perfect = classification((types == "a")[:, None].astype(float), types)
    assert perfect == {"accuracy": 1.0, "micro_f1": 1.0, "macro_f1": 1.0}


def test_a_study_of_a_store_is_that_of_its_cells(cells, tmp_path) -> None:
    plain = cells.copy()
    del plain.obsm
    design = Design("perturbation", "control", ("context",))
    store = tp.data.build_store([plain], tmp_path / "cells.zarr", design, layer="counts")
    tp.pp.split(store.annotation, holdout={"context": "context_0"})
    same = store.to_anndata()
    same.obs_names = [str(i) for i in range(same.n_obs)]
    same.layers["counts"] = same.X.copy()
    same.X = tp.pp.log1p_per_10k(same.X, same.obs["library_size"].to_numpy())
    tp.pp.split(same, holdout={"context": "context_0"})
    options = {"models": ["MeanShift", "PCA + ridge"], "n_cells": 20}
    stored = study(store, tmp_path / "store", **options).table
    in_memory = study(same, tmp_path / "memory", **options).table
    assert stored["value"].to_numpy() == pytest.approx(in_memory["value"].to_numpy(), abs=1e-5)


def test_parameters_are_counted_along_their_axis(cells, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tp.MeanShift, "n_parameters", 7, raising=False)
    monkeypatch.setattr("transpert.tl.scaling.spread_axes", lambda options, sizes: dict(options))
    table = study(cells, tmp_path, models="MeanShift", axes={"parameters": ["small"]}).table
    assert sorted(table["n_parameters"].unique().tolist()) == [0, 7]


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (UnknownNameError, {"models": "PCA + forest"}),
        (UnknownNameError, {"models": "PCR + ridge"}),
        (UnknownNameError, {"models": "X_nowhere", "task": "classification", "metrics": None}),
        (OptionError, {"models": "PCA"}),
        (OptionError, {"models": "PCA", "task": "classification", "metrics": "pearson_delta"}),
        (OptionError, {"models": "PCA", "task": "clustering"}),
    ],
)
def test_what_a_study_cannot_do_is_refused(cells, tmp_path, error, options) -> None:
    with pytest.raises(error):
        study(cells, tmp_path, **options)
