"""What is predicted where a user does not say everything, and what is refused."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import transpert as tp
from transpert.conditions import Condition
from transpert.errors import ConditionError, ControlError, OptionError, StoreError, TranspertError, UnknownNameError
from transpert.model.cells.in_memory import read_cells
from transpert.model.prediction import controls as origins
from transpert.model.prediction import requests
from transpert.model.prediction import to_store as streaming
from transpert.model.prediction.requests import Request

KEYS = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}
HERE = {"context": "context_0"}


def ridge(adata: AnnData, **keys) -> tp.RidgeTransport:
    tp.RidgeTransport.setup_anndata(adata, **KEYS, **keys)
    model = tp.RidgeTransport(adata)
    model.train()
    return model


def populations(pred: AnnData, *columns: str) -> list[tuple]:
    found = pred.obs[pred.obs["source"] == "predicted"][list(columns)].drop_duplicates()
    return sorted(map(tuple, found.to_numpy().tolist()))


# ------------------------------------------------------------------------------------------------- doses and times
def test_measured_doses_are_predicted_where_none_is_said() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=40, n_cells=30, doses=(1.0, 10.0))
    model = ridge(adata, dose_key="dose")
    pred = model.predict(HERE, n_cells=10, progress=False)
    assert populations(pred, "perturbation", "dose") == [(p, d) for p in ("P0", "P1") for d in (1.0, 10.0)]
    # so that it can be judged as it is
    scores = tp.tl.evaluate(pred, adata, baselines=None, metrics=["pearson_delta"])
    labels = {f"{label}, dose {dose}" for label in ("P0", "P1") for dose in (1, 10)}
    assert set(scores["perturbation"]) - {"mean"} == labels
    assert populations(model.predict(HERE, ["P0"], doses=3.0, progress=False), "dose") == [(3.0,)]


def test_doses_with_many_digits_are_found_by_their_labels() -> None:
    doses = (10 / 9, 10 / 3, 10.0)
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=1, n_genes=40, n_cells=30, doses=doses)
    # half of them were written by a program that computes in 32 bits
    single = adata.obs["dose"].astype(np.float32).astype(float)
    adata.obs["dose"] = adata.obs["dose"].where(np.arange(adata.n_obs) % 2 == 0, single)
    tp.MeanShift.setup_anndata(adata, **KEYS, dose_key="dose")
    model = tp.MeanShift(adata)
    model.train()
    effects = model.get_effects(HERE)
    assert list(effects) == [f"context_0: P0, dose {dose:g}" for dose in doses]
    asked = [("context_0", f"P0, dose {dose:g}") for dose in doses]
    by_label = model.predict_populations(asked, n_cells=10)
    np.testing.assert_array_equal(
        by_label.to_df(), model.predict(HERE, doses=doses, n_cells=10, progress=False).to_df()
    )
    assert effects.nunique(axis=1).max() == 3  # each dose has an effect of its own


def test_doses_of_a_million_and_more_are_found_by_their_labels() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=40, n_cells=30, doses=(1e4, 1e6))
    model = ridge(adata, dose_key="dose")
    pred = model.predict(HERE, n_cells=10, progress=False)
    assert populations(pred, "perturbation", "dose") == [(p, d) for p in ("P0", "P1") for d in (1e4, 1e6)]
    for label in ("P0, dose 1000000", "P0, dose 1e+06"):
        by_label = model.predict_populations([("context_0", label)], n_cells=10)
        assert populations(by_label, "perturbation", "dose") == [("P0", 1e6)]
    # the baselines are asked for by label
    scores = tp.tl.evaluate(pred, adata, baselines=["MeanShift"], metrics=["pearson_delta"])
    assert "P1, dose 1000000" in set(scores["perturbation"])
    assert "context_0: P1, dose 1000000" in adata.varm["true_effects"]


def test_large_doses_of_parts_are_text_that_can_be_read() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_combinations=1, n_genes=40, n_cells=30)
    given = {"P0": "1000000", "P1": "10", "P0+P1": "1000000+10"}
    adata.obs["dose"] = adata.obs["perturbation"].astype(str).map(given)
    pred = ridge(adata, dose_key="dose").predict(HERE, n_cells=10, progress=False)
    assert populations(pred, "perturbation", "dose") == sorted(given.items())
    scores = tp.tl.evaluate(pred, adata, baselines=None, metrics=["pearson_delta"])
    assert set(scores["perturbation"]) >= {"P0, dose 1000000", "P0+P1, dose 1000000+10"}


def test_measured_times_go_with_the_doses_that_they_were_measured_at() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=1, n_genes=40, n_cells=30, doses=(1.0, 10.0))
    adata.obs["time"] = np.where(adata.obs["dose"] == 10.0, 24.0, 6.0)
    model = ridge(adata, dose_key="dose", time_key="time")
    assert populations(model.predict(HERE, progress=False), "dose", "time") == [(1.0, 6.0), (10.0, 24.0)]
    assert populations(model.predict(HERE, times=6.0, progress=False), "dose", "time") == [(1.0, 6.0), (10.0, 6.0)]


def test_a_dose_must_be_said_of_what_was_never_measured() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=40, n_cells=30, doses=(1.0, 10.0))
    model = ridge(adata, dose_key="dose")
    with pytest.raises(ConditionError, match=r"no dose of 'P0\+P1' was measured.*doses="):
        model.predict(HERE, ["P0+P1"])
    assert populations(model.predict(HERE, ["P0+P1"], doses=1.0, progress=False), "dose") == [(1.0,)]


def test_doses_of_parts_are_text_and_controls_have_none(tmp_path) -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_combinations=1, n_genes=40, n_cells=30)
    written = {"control": np.nan, "P0": "1", "P1": "10", "P0+P1": "1+10"}
    for kind in (object, "category"):
        adata.obs["dose"] = adata.obs["perturbation"].astype(str).map(written).astype(kind)
        model = ridge(adata, dose_key="dose")
        pred = model.predict(HERE, ["P0", "P1+P0"], n_cells=5, progress=False)
        assert populations(pred, "perturbation", "dose") == [("P0", "1"), ("P0+P1", "1+10")]
        pred.write_h5ad(tmp_path / "pred.h5ad")
        mixed = model.predict(HERE, ["P0+P1"], doses=[2, "3+4"], n_cells=5, progress=False)
        assert populations(mixed, "dose") == [("2",), ("3+4",)]


def test_no_time_differs_from_time_zero_in_the_network() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=1, n_genes=30, n_cells=30, times=(6.0, 24.0))
    tp.SCALE.setup_anndata(adata, **KEYS, time_key="time")
    training = tp.model.TrainingOptions(steps=4, steps_per_epoch=2, set_size=8, sets_per_batch=4)
    model = tp.SCALE(adata, preset="tiny", anchor=None, training=training)
    model.train(enable_progress_bar=False, accelerator="cpu")
    table = model._conditions_table
    conditions = [tp.conditions.Condition(("P0",), (None,), time) for time in (None, 0.0)]
    batch = table.encode(conditions, [{"context": "context_0"}] * 2, [None] * 2)
    assert batch.has_time.tolist() == [False, True]
    vectors = model.module.networks[0].eval().conditions(batch).vector
    assert not np.allclose(*vectors.detach().numpy())


# ------------------------------------------------------------------------------------------- spellings and repeats
def test_a_condition_is_predicted_once_however_often_it_is_named() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_combinations=1, n_genes=40, n_cells=40)
    names = adata.obs["perturbation"].astype(str).to_numpy(dtype=object)
    pair = np.flatnonzero(names == "P0+P1")
    names[pair[::2]] = "P1+P0"
    names[np.flatnonzero(names == "P0")[::2]] = "P0+ctrl"
    adata.obs["perturbation"] = names
    model = ridge(adata)
    pred = model.predict(HERE, n_cells=10, interval=0.9, progress=False)
    assert populations(pred, "perturbation") == [("P0",), ("P0+P1",), ("P1",)]
    assert (pred.obs["source"] == "predicted").sum() == 30
    assert model.get_uncertainty(HERE, ["P0+P1", "P1+P0"]).effects.shape[1] == 1


def test_names_with_commas_and_slashes_are_names(tmp_path) -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=40, n_cells=30, doses=(1.0, 10.0))
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace({"P0": "Drug, (S)/dose 5"})
    model = ridge(adata, dose_key="dose")
    pred = model.predict(HERE, ["Drug, (S)/dose 5"], interval=0.9, n_cells=20, progress=False)
    scores = tp.tl.evaluate(pred, adata, baselines=["MeanShift"], metrics=["pearson_delta"])
    assert set(scores["perturbation"]) - {"mean"} == {"Drug, (S)/dose 5, dose 1", "Drug, (S)/dose 5, dose 10"}
    table = pred.uns["transpert"]["uncertainty"]["conditions"]
    assert list(table.index) == list(pred.varm["effect"])
    pred.write_h5ad(tmp_path / "pred.h5ad")


# ------------------------------------------------------------------------------------------------------- refusals
def test_unknown_directions_are_refused_by_every_model() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=40, n_cells=30)
    adata.obs["direction"] = np.where(adata.obs["perturbation"] == "control", None, "CRISPRi")
    model = ridge(adata, direction_key="direction")
    with pytest.raises(UnknownNameError, match="unknown direction: 'crispri'"):
        model.get_effects(HERE, ["P0"], directions="crispri")
    assert populations(model.predict(HERE, ["P0"], progress=False), "direction") == [("CRISPRi",)]


def test_directions_of_parts_follow_the_spelling_of_the_label() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_combinations=1, n_genes=40, n_cells=30)
    given = {"control": None, "P0": "CRISPRa", "P1": "CRISPRi", "P0+P1": "CRISPRa+CRISPRi"}
    adata.obs["direction"] = adata.obs["perturbation"].astype(str).map(given)
    model = ridge(adata, direction_key="direction")
    pred = model.predict(HERE, ["P1+P0"], n_cells=5, progress=False)
    assert populations(pred, "perturbation", "direction") == [("P0+P1", "CRISPRa+CRISPRi")]


def test_a_loaded_model_knows_what_was_measured(tmp_path) -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=40, n_cells=30, doses=(1.0, 10.0))
    ridge(adata, dose_key="dose").save(tmp_path / "model")
    loaded = tp.RidgeTransport.load(tmp_path / "model")
    controls = adata[adata.obs["perturbation"] == "control"].copy()
    pred = loaded.predict(HERE, ["P0"], adata=controls, progress=False)
    assert populations(pred, "dose") == [(1.0,), (10.0,)]


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"perturbations": []}, ConditionError, "no population is requested"),
        ({"contexts": []}, ConditionError, "no population is requested"),
        ({"perturbations": ["control"]}, ConditionError, "are the control cells"),
        ({"n_cells": 3.5}, OptionError, "n_cells is 3.5"),
        ({"readout": "counted"}, OptionError, "'counts', 'expected', 'added' or None"),
    ],
)
def test_what_makes_no_sense_is_refused(screen, asked, error, text) -> None:
    with pytest.raises(error, match=text):
        ridge(screen).predict(**asked, progress=False)


def test_a_split_must_be_said_of_every_cell_in_the_words_it_has(screen) -> None:
    screen.obs["split"] = "Train"
    with pytest.raises(ControlError, match="no perturbed cell is left to train on.*'train' or 'validation'"):
        ridge(screen, split_key="split")
    screen.obs["split"] = pd.Series("train", index=screen.obs_names).where(screen.obs["batch"] == "batch_0")
    with pytest.raises(ConditionError, match=r"cells have no value.*obs\['split'\]"):
        ridge(screen, split_key="split")


def test_control_labels_may_be_numbers() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=30, n_cells=20)
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).map({"control": 0, "P0": 1, "P1": 2})
    model = ridge(adata, control=0)
    assert populations(model.predict(HERE, progress=False), "perturbation") == [("1",), ("2",)]


# ------------------------------------------------------------------------------------------------------ embeddings
def test_coexpression_may_stand_beside_other_tables() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=8, n_genes=40, n_cells=30)
    adata.var_names = [f"P{i}" if i < 8 else f"gene_{i}" for i in range(adata.n_vars)]
    tp.KernelTransport.setup_anndata(adata, **KEYS)
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(8, 3)), index=[f"P{i}" for i in range(8)])
    model = tp.KernelTransport(adata, embeddings=["coexpression", table])
    assert len(model.embedding.blocks) == 2
    with pytest.raises(OptionError, match="'coexpression', or several"):
        tp.KernelTransport(adata, embeddings=["coexpresion", table])


def test_embeddings_of_cells_may_be_sparse_and_must_have_one_width() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=30, n_cells=30)
    adata.obsm["X_some"] = sparse.csr_matrix(np.random.default_rng(0).normal(size=(adata.n_obs, 5)))
    tp.SCALE.setup_anndata(adata, **KEYS, embedding_key="X_some")
    training = tp.model.TrainingOptions(steps=2, steps_per_epoch=2, set_size=8, sets_per_batch=4)
    model = tp.SCALE(adata, preset="tiny", joining="always", training=training)
    model.train(enable_progress_bar=False, accelerator="cpu")
    other = adata.copy()
    other.obsm["X_some"] = np.zeros((adata.n_obs, 4))
    with pytest.raises(OptionError, match=r"4 dimensions.*trained on 5"):
        model.predict(HERE, ["P0"], adata=other)


@pytest.mark.parametrize(
    "options", [{"weighting": "cell"}, {"weight_decay": -1}, {"learning_rate": float("nan")}, {"steps": 10.5}]
)
def test_training_options_are_checked(options) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        tp.model.TrainingOptions(**options)


def test_a_counterfactual_is_one_thing() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=40, n_cells=30, doses=(1.0, 10.0))
    model = ridge(adata, dose_key="dose")
    controls = adata[adata.obs["perturbation"] == "control"].copy()
    with pytest.raises(ConditionError, match=r"measured in several ways.*'P0, dose 1', 'P0, dose 10'"):
        model.counterfactual(controls, "P0")
    counts, _ = model.counterfactual(controls, "P0", dose=10.0)
    assert counts.shape == controls.shape


# -------------------------------------------------------------------------------------------------- draws and seeds
def cells_of(pred: AnnData, context: str, label: str) -> np.ndarray:
    rows = (pred.obs["context"] == context) & (pred.obs["perturbation"] == label)
    return pred.to_df().to_numpy()[rows.to_numpy()]


def test_a_population_is_the_same_whatever_is_predicted_beside_it(screen) -> None:
    model = ridge(screen)
    among = model.predict(n_cells=10, progress=False, seed=2)
    alone = model.predict({"context": "context_1"}, "P1", n_cells=10, progress=False, seed=2)
    np.testing.assert_array_equal(cells_of(alone, "context_1", "P1"), cells_of(among, "context_1", "P1"))
    controls = screen[screen.obs["perturbation"] == "control"].copy()
    everywhere, _ = model.counterfactual(controls, "P1", seed=2)
    there = (controls.obs["context"] == "context_1").to_numpy()
    counts, _ = model.counterfactual(controls[there].copy(), "P1", seed=2)
    np.testing.assert_array_equal(everywhere[there].toarray(), counts.toarray())
    other = model.predict({"context": "context_1"}, "P1", n_cells=10, progress=False, seed=3)
    assert (cells_of(other, "context_1", "P1") != cells_of(alone, "context_1", "P1")).any()


def test_seeds_of_populations_are_the_same_on_every_machine() -> None:
    request = Request("T cell", {}, Condition(("A",), (0.1,)), "A")
    assert request.seed(0) == 481670457
    assert len({request.seed(seed) for seed in range(100)}) == 100


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_seed_is_a_whole_number_from_0(screen, seed) -> None:
    model = ridge(screen)
    with pytest.raises(OptionError, match=f"seed is {seed}.*from 0 upwards"):
        model.predict(HERE, "P0", seed=seed, progress=False)
    with pytest.raises(OptionError, match="seed is"):
        model.counterfactual(screen, "P0", seed=seed)
    for method in (model.get_effects, model.get_uncertainty):
        with pytest.raises(OptionError, match="seed is"):
            method(HERE, "P0", seed=seed)


def test_whole_numbers_of_cells_may_be_floats(screen) -> None:
    model = ridge(screen)
    preds = [model.predict(HERE, "P0", n_cells=n_cells, progress=False) for n_cells in (10, 10.0, np.float64(10))]
    assert len({pred.shape for pred in preds}) == 1
    for wrong in ("10", float("nan"), float("inf"), 0):
        with pytest.raises(OptionError, match="n_cells is"):
            model.predict_populations([("context_0", "P0")], n_cells=wrong)


# ---------------------------------------------------------------------------------------------- names and other data
def test_a_misspelt_name_is_said_before_its_doses_are_looked_up() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=40, n_cells=30, doses=(1.0, 10.0))
    with pytest.raises(UnknownNameError, match="unknown perturbation: 'P00'.*Known: 'P0', 'P1'"):
        ridge(adata, dose_key="dose").predict(HERE, "P00", progress=False)


@pytest.mark.parametrize("kind", ["doses", "times", "directions"])
def test_an_empty_list_asks_for_nothing(kind) -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=1, n_genes=40, n_cells=30, doses=(1.0,), times=(6.0,))
    adata.obs["direction"] = np.where(adata.obs["perturbation"] == "control", None, "CRISPRi")
    model = ridge(adata, dose_key="dose", time_key="time", direction_key="direction")
    with pytest.raises(ConditionError, match=f"{kind}= is empty"):
        model.predict(HERE, "P0", progress=False, **{kind: []})


def test_labels_with_a_time_that_is_no_number_are_refused() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=1, n_genes=40, n_cells=30, times=(6.0,))
    with pytest.raises(ConditionError, match="the time 'abc' is not a number"):
        ridge(adata, time_key="time").predict_populations([("context_0", "P0, time abc")])


def test_other_data_is_cells_or_a_store_or_its_path(screen, tmp_path) -> None:
    model = ridge(screen)
    with pytest.raises(StoreError, match="x.h5ad"):
        model.predict(adata=tmp_path / "x.h5ad", progress=False)
    with pytest.raises(OptionError, match="adata= was given a DataFrame"):
        model.predict(adata=screen.obs, progress=False)
    design = tp.groups.Design("perturbation", "control", ("context",))
    tp.data.build_store([screen], tmp_path / "cells.zarr", design, layer="counts")
    pred = model.predict(HERE, "P0", adata=str(tmp_path / "cells.zarr"), n_cells=5, progress=False)
    assert populations(pred, "perturbation") == [("P0",)]


# ------------------------------------------------------------------------------------------------- many populations
def test_labels_are_read_once_however_many_populations_are_predicted(screen, monkeypatch) -> None:
    model = ridge(screen)
    found: list[int] = []
    labels_of = requests.context_labels
    for module in (requests, origins):
        monkeypatch.setattr(
            module, "context_labels", lambda obs, design: found.append(len(obs)) or labels_of(obs, design)
        )
    assert model.vocabulary is model.vocabulary
    contexts = sorted(screen.obs["context"].unique())
    model.predict_populations([(context, "P0") for context in contexts], n_cells=5)
    model.predict(perturbations=["P1", "P2"], n_cells=5, progress=False)
    assert sum(found) < screen.n_obs


def test_controls_are_found_in_their_contexts(screen) -> None:
    model = ridge(screen)
    for context in screen.obs["context"].unique():
        here = (screen.obs["context"] == context) & (screen.obs["perturbation"] == "control")
        found = origins.control_positions(model.cells, model.design, (context, None), None, 0)
        np.testing.assert_array_equal(found, np.flatnonzero(here))
    with pytest.raises(ControlError, match="'nowhere' has no control cells"):
        origins.control_positions(model.cells, model.design, ("nowhere", None), None, 0)


# -------------------------------------------------------------------------------------- controls of several spellings
@pytest.fixture
def respelled(screen) -> AnnData:
    """All controls of the last context, and half of those of the first, join two controls."""
    half = (screen.obs["context"] == "context_0") & (np.arange(screen.n_obs) % 2 == 0)
    other = (screen.obs["perturbation"] == "control") & ((screen.obs["context"] == "context_2") | half)
    adata = screen.copy()
    adata.obs["perturbation"] = screen.obs["perturbation"].astype(str).where(~other, "ctrl+ctrl")
    return adata


def test_controls_may_be_spelled_as_combinations_of_controls(screen, respelled, tmp_path) -> None:
    expected = ridge(screen).predict(n_cells=10, progress=False)
    model = ridge(respelled)
    pred = model.predict(n_cells=10, progress=False)
    np.testing.assert_array_equal(pred.to_df(), expected.to_df())
    assert populations(pred, "perturbation") == populations(expected, "perturbation")
    alone = model.predict({"context": "context_2"}, "P1", n_cells=10, progress=False)
    np.testing.assert_array_equal(cells_of(alone, "context_2", "P1"), cells_of(expected, "context_2", "P1"))
    with pytest.raises(ConditionError, match="'ctrl\\+ctrl' are the control cells"):
        model.predict(perturbations="ctrl+ctrl", progress=False)


def test_other_cells_may_have_no_other_spelling_of_controls(screen, respelled) -> None:
    there = (respelled.obs["context"] == "context_2").to_numpy()
    preds = [
        ridge(screen).predict(adata=cells[there].copy(), n_cells=10, progress=False) for cells in (screen, respelled)
    ]
    np.testing.assert_array_equal(preds[0].to_df(), preds[1].to_df())


def test_predictions_are_judged_and_tested_whatever_controls_are_called(screen, respelled) -> None:
    truths = (screen, respelled)
    preds = [ridge(truth).predict(n_cells=20, progress=False) for truth in truths]
    scores = [
        tp.tl.evaluate(pred, truth, baselines=None, metrics=["pearson_delta"], progress=False)
        for pred, truth in zip(preds, truths, strict=True)
    ]
    pd.testing.assert_frame_equal(*scores)
    for pred in preds:
        tp.tl.rank_genes_groups(pred)
    first, second = (pred.uns["rank_genes_groups"]["pvals"] for pred in preds)
    assert first.dtype.names == second.dtype.names
    np.testing.assert_array_equal(first, second)


def test_coexpression_is_of_all_controls(screen, respelled) -> None:
    tables = []
    for adata in (screen, respelled):
        adata.var_names = [f"P{i}" if i < 3 else f"gene_{i}" for i in range(adata.n_vars)]
        tp.KernelTransport.setup_anndata(adata, **KEYS)
        tables.append(tp.KernelTransport(adata, embeddings="coexpression").embedding.values)
    np.testing.assert_array_equal(*tables)


def test_other_counts_of_any_control_make_another_prediction_to_a_store(respelled) -> None:
    model = ridge(respelled)
    before = streaming._identity(model.cells, model.design)
    changed = respelled.copy()
    control = np.flatnonzero(respelled.obs["perturbation"] == "ctrl+ctrl")[0]
    counts = respelled.layers["counts"].toarray()
    counts[control, np.argmax(counts[control])] -= 1
    changed.layers["counts"] = sparse.csr_matrix(counts)
    other = read_cells(changed, model.source)
    assert streaming._identity(other, model.design) != before


@pytest.mark.parametrize("contexts", [1.5, [1.5], [HERE, None], object()])
def test_contexts_are_labels_or_mappings(screen, contexts) -> None:
    model = ridge(screen)
    for method in (model.predict, model.get_effects):
        with pytest.raises(
            OptionError, match=r"is neither the label of a context nor .*in contexts.*\{'context': \.\.\."
        ):
            method(contexts, "P0")
    assert model.predict(iter([HERE]), "P0", n_cells=5, progress=False).n_obs == 10


@pytest.mark.parametrize("level", ["x", 95, 0.0, [0.9], float("nan")])
def test_the_level_of_intervals_is_a_share(screen, level) -> None:
    tp.KernelTransport.setup_anndata(screen, **KEYS)
    model = tp.KernelTransport(screen)
    model.train()
    with pytest.raises(OptionError, match="interval is .*between 0 and 1"):
        model.predict(HERE, "P0", n_cells=5, interval=level, progress=False)
    with pytest.raises(OptionError, match="level is .*between 0 and 1"):
        model.get_uncertainty(HERE, "P0", level=level)


# ------------------------------------------------------------------------------------------------ names and labels
@pytest.mark.parametrize("name", ["X, dose 5", "X, time 3", "X, dose 5, direction up", "X, dose high"])
@pytest.mark.parametrize("doses", [(), (1.0, 10.0)])
def test_names_that_read_like_conditions_are_names(name, doses) -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=40, n_cells=20, doses=doses)
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace("P0", name)
    keys = {"dose_key": "dose"} if doses else {}
    pred = ridge(adata, **keys).predict(HERE, n_cells=10, progress=False)
    scores = tp.tl.evaluate(pred, adata, baselines=["MeanShift"], metrics=["mse_delta"], progress=False)
    labels = {f'"{name}", dose {dose:g}' for dose in doses} or {f'"{name}"'}
    assert labels < set(scores.loc[scores["model"] == "MeanShift", "perturbation"])


def test_a_name_that_reads_like_a_dose_stands_in_quotes() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=40, n_cells=20, doses=(1.0, 10.0))
    named = adata.obs["perturbation"].astype(str).replace("P0", "P1, dose 5")
    adata.obs["perturbation"] = named
    adata.obs.loc[named == "P1, dose 5", "dose"] = np.nan
    model = ridge(adata, dose_key="dose")
    asked = {'"P1, dose 5"': ("P1, dose 5", np.nan), "P1, dose 5": ("P1", 5.0), "P1, dose 10": ("P1", 10.0)}
    for label, (name, dose) in asked.items():
        pred = model.predict_populations([("context_0", label)], n_cells=10)
        cells = pred.obs[pred.obs["source"] == "predicted"]
        assert set(cells["perturbation"]) == {name}
        np.testing.assert_array_equal(cells["dose"].astype(float).unique(), [dose])


# --------------------------------------------------------------------------------------------- a table of conditions
@pytest.fixture(scope="module")
def dosed() -> tuple[AnnData, tp.RidgeTransport]:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=40, n_cells=30, doses=(1.0, 10.0))
    return adata, ridge(adata, dose_key="dose")


def test_a_table_of_conditions_asks_for_its_rows_and_no_others(dosed, tmp_path) -> None:
    _, model = dosed
    asked = pd.DataFrame(
        {"context": ["context_1", "context_0"], "perturbation": ["P1", "P0"], "dose": [3.0, 10.0], "n_cells": [7, 12]}
    )
    pred = model.predict(conditions=asked, progress=False, include_controls=False)
    found = pred.obs.groupby(["context", "perturbation", "dose"], observed=True).size()
    assert found.to_dict() == {("context_1", "P1", 3.0): 7, ("context_0", "P0", 10.0): 12}
    path = model.predict_to_store(tmp_path / "pred.zarr", conditions=asked, progress=False, include_controls=False)
    np.testing.assert_array_equal(anndata.read_zarr(path).to_df(), pred.to_df())
    names = ["context_1: P1, dose 3", "context_0: P0, dose 10"]
    assert list(model.get_effects(conditions=asked)) == names
    one = model.get_effects({"context": "context_0"}, "P0", doses=10.0)
    np.testing.assert_array_equal(model.get_effects(conditions=asked)[names[1]], one.iloc[:, 0])


def test_controls_beside_populations_of_many_sizes_stand_there_once(dosed) -> None:
    asked = pd.DataFrame({"context": "context_0", "perturbation": ["P0", "P1"], "dose": 1.0, "n_cells": [4, 9]})
    pred = dosed[1].predict(conditions=asked, progress=False)
    controls = pred.obs.loc[pred.obs["source"] == "control", "control_id"]
    assert len(controls) == 9 and controls.is_unique


def test_what_a_row_does_not_say_is_as_it_was_measured(dosed) -> None:
    effects = dosed[1].get_effects(conditions=pd.DataFrame({"perturbation": ["P0"]}))
    assert len(list(effects)) == 3 * 2  # contexts, doses


@pytest.mark.parametrize(
    ("table", "more", "message"),
    [
        ({"perturbation": ["P0"], "Dose": [1.0]}, {}, "'Dose'.* Did you mean 'dose'"),
        ({"dose": [1.0]}, {}, "column 'perturbation'"),
        ({"perturbation": [None]}, {}, "names no perturbation"),
        ({"perturbation": ["P0"]}, {"doses": 1.0}, "'doses' and conditions are given"),
        ({"perturbation": []}, {}, "no population is requested"),
        ({"perturbation": ["P0"], "n_cells": [0]}, {}, "n_cells is 0"),
    ],
)
def test_tables_of_conditions_that_cannot_be_read_are_refused(dosed, table, more, message) -> None:
    with pytest.raises(TranspertError, match=message):
        dosed[1].predict(conditions=pd.DataFrame(table), progress=False, **more)


@pytest.mark.parametrize("contexts", ["context_0", ["context_0"], [HERE, "context_0"]])
def test_the_label_of_a_context_is_as_good_as_its_values(screen, contexts) -> None:
    model = ridge(screen)
    found, wanted = (model.predict(asked, "P0", n_cells=5, progress=False) for asked in (contexts, HERE))
    assert found.obs_names.equals(wanted.obs_names) and (found.X != wanted.X).nnz == 0
    with pytest.raises(UnknownNameError, match=r"unknown context: 'context_9' \(in contexts\). Known: 'context_0'"):
        model.predict("context_9", "P0")


def test_a_label_of_several_columns_names_one_context(screen) -> None:
    screen.obs["organ"] = np.where(screen.obs["context"] == "context_0", "liver", "skin")
    tp.RidgeTransport.setup_anndata(screen, **{**KEYS, "context_keys": ["context", "organ"]})
    model = tp.RidgeTransport(screen)
    model.train()
    label = model.get_effects({"context": "context_0"}, "P0").columns[0].removesuffix(": P0")
    assert model.get_effects(label, "P0").columns.tolist() == [f"{label}: P0"] and "liver" in label
