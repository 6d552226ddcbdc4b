"""A model does not notice whether its cells come from memory or from a store."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.data import Store, build_store
from transpert.data.store import runs
from transpert.errors import AssumptionWarning, GeneError, OptionError, StoreError, UnknownNameError
from transpert.groups import Design
from transpert.model import TrainingOptions
from transpert.model.cells.in_memory import DataSource
from transpert.model.cells.open import StoredCells
from transpert.model.cells.registration import jsonable
from transpert.model.cells.statistics import stream_statistics
from transpert.transport import group_statistics

# single cells, as from memory: a store draws runs of neighbours by default
TRAINING = TrainingOptions(steps=6, steps_per_epoch=3, set_size=16, sets_per_batch=4, slice_size=1)
DESIGN = Design("perturbation", "control", ("context",), batch_key="batch")
KEYS = {"perturbation_key": "perturbation", "context_keys": ["context"], "batch_key": "batch"}


@pytest.fixture(scope="module")
def _few_cells():
    return tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=40, n_cells=40, n_batches=2, dependence=0.3)


@pytest.fixture
def screen(_few_cells):
    return _few_cells.copy()


@pytest.fixture
def store(screen, tmp_path) -> Store:
    return build_store([screen], tmp_path / "cells.zarr", DESIGN, layer="counts", cells_per_part=150)


def scale_of(data, **setup) -> tp.SCALE:
    if isinstance(data, Store):
        tp.SCALE.setup_store(data, **setup)
    else:
        tp.SCALE.setup_anndata(data, **KEYS, **setup)
    return tp.SCALE(data, preset="tiny", joining="always", training=TRAINING)


def train(model: tp.SCALE) -> tp.SCALE:
    model.train(enable_progress_bar=False, accelerator="cpu")
    return model


def test_a_store_trains_as_the_same_cells_in_memory(store) -> None:
    adata = store.to_anndata()
    for annotated in (adata, store.annotation):
        tp.pp.split(annotated, holdout={"context": "context_0"})
    in_memory, on_disk = (train(scale_of(data, split_key="split")) for data in (adata, store))
    registries = [{**jsonable(model.registry_), "_scvi_uuid": None} for model in (in_memory, on_disk)]
    assert registries[0] == registries[1]
    for name in ("train_loss", "validation_loss"):
        losses = [np.asarray(model.history[name], dtype=float) for model in (in_memory, on_disk)]
        assert len(losses[0]) == 2
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert on_disk.left_out_level == in_memory.left_out_level == "context"
    np.testing.assert_allclose(on_disk.gate, in_memory.gate, atol=1e-3)
    asked = {"contexts": {"context": "context_0"}, "perturbations": ["P0"], "progress": False, "n_cells": 30}
    expected, pred = in_memory.predict(**asked), on_disk.predict(**asked)
    assert list(pred.obs_names) == list(expected.obs_names)
    pd.testing.assert_frame_equal(pred.obs, expected.obs)
    np.testing.assert_allclose(
        pred.to_df().to_numpy().mean(axis=0), expected.to_df().to_numpy().mean(axis=0), atol=1e-3
    )


def test_models_are_saved_and_loaded_across_memory_and_disk(store, tmp_path) -> None:
    adata = store.to_anndata()
    asked = {"perturbations": ["P1"], "progress": False}
    for number, (data, other) in enumerate([(adata, store), (store, adata)]):
        model = train(scale_of(data))
        model.save(tmp_path / f"{number}")
        expected = model.predict(**asked)
        for loaded_with in (data, other):
            again = tp.SCALE.load(tmp_path / f"{number}", loaded_with)
            np.testing.assert_array_equal(again.predict(**asked).to_df(), expected.to_df())
        elsewhere = tp.SCALE.load(tmp_path / f"{number}").predict(adata=other, **asked)
        np.testing.assert_array_equal(elsewhere.to_df(), expected.to_df())


@pytest.mark.parametrize("name", ["NoChange", "RidgeTransport", "Replicate"])
def test_baselines_take_a_store(name, store) -> None:
    cls = getattr(tp, name)
    adata = store.to_anndata()
    cls.setup_anndata(adata, **KEYS)
    cls.setup_store(store)
    preds = []
    for data in (adata, store):
        model = cls(data)
        model.train()
        preds.append(model.predict({"context": "context_1"}, ["P0"], progress=False))
    np.testing.assert_allclose(preds[0].to_df(), preds[1].to_df(), atol=1e-5)
    assert list(preds[0].obs["control_id"]) == list(preds[1].obs["control_id"])


def assert_same_statistics(found, expected) -> None:
    for name in type(expected).__slots__:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.fixture
def summed(screen, tmp_path, monkeypatch) -> Store:
    monkeypatch.setattr(runs, "CELLS_OF_A_RUN", 10)
    monkeypatch.setattr(runs, "_CELLS_AT_ONCE", 7)
    store = build_store([screen[:300]], tmp_path / "summed.zarr", DESIGN, layer="counts", cells_per_part=150)
    return store.append([screen[300:]], layer="counts")


class Unread:
    """A source of which no cell may be read."""

    def __init__(self, store) -> None:
        self.n_obs, self.n_vars = store.shape
        self.library_size = store.library_size

    def read(self, positions):
        raise AssertionError(f"{len(positions)} cells are read")


def test_what_a_store_knows_of_its_cells_is_not_computed_again(summed) -> None:
    codes = summed.groups().codes.copy()
    known = [run for run in summed.runs() if run.stop - run.start >= 10]
    assert len(known) > 10
    only_known = np.full_like(codes, -1)
    for run in known:
        only_known[run.start : run.stop] = codes[run.start : run.stop]
    n_groups = codes.max() + 1
    expected = group_statistics(summed.to_anndata().X, summed.library_size, only_known, n_groups)
    assert_same_statistics(
        stream_statistics(Unread(summed), only_known, np.arange(n_groups), known=known).by_group(), expected
    )


def test_cells_are_read_where_a_split_divides_a_run(summed) -> None:
    codes = summed.groups().codes.copy()
    codes[np.random.default_rng(0).random(len(codes)) < 0.02] = -1
    n_groups = codes.max() + 1
    found = stream_statistics(summed.source(), codes, np.arange(n_groups), known=summed.runs()).by_group()
    assert_same_statistics(found, group_statistics(summed.to_anndata().X, summed.library_size, codes, n_groups))


def test_known_sums_follow_the_genes_of_the_model(summed) -> None:
    genes = list(summed.genes[[5, 3, 8]])
    cells = StoredCells(summed, DataSource(DESIGN), genes=genes)
    codes = summed.groups().codes
    found = cells.statistics(codes, np.arange(codes.max() + 1)).by_group()
    adata = summed.to_anndata()[:, genes]
    assert_same_statistics(found, group_statistics(adata.X, summed.library_size, codes, codes.max() + 1))


def test_damaged_sums_are_named(summed) -> None:
    path = summed.path / summed.manifest.parts[0]["runs"]
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"runs/00000\.npz has another checksum"):
        list(Store(summed.path).runs())


def test_statistics_of_blocks_are_those_of_all_cells(store) -> None:
    adata = store.to_anndata()
    groups = store.groups()
    codes = groups.codes.copy()
    codes[::7] = -1
    expected = group_statistics(adata.X, store.library_size, codes, len(groups))
    found = stream_statistics(store.source(), codes, np.arange(len(groups)), cells_per_block=100).by_group()
    for name in expected.__slots__:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-9)


def test_genes_are_aligned_by_name(store, screen, tmp_path) -> None:
    model = train(scale_of(store))
    model.save(tmp_path / "model")
    shuffled = screen[:, np.random.default_rng(0).permutation(screen.n_vars)]
    other = build_store([shuffled.copy()], tmp_path / "other.zarr", DESIGN, layer="counts")
    again = tp.SCALE.load(tmp_path / "model")
    pred = again.predict(perturbations=["P0"], adata=other, progress=False)
    assert list(pred.var_names) == list(store.genes)
    # the same control cells, found by name: what they express has not changed places
    control = pred[pred.obs["source"] == "control"]
    np.testing.assert_array_equal(
        control.layers["counts"].toarray(), screen[control.obs_names, list(store.genes)].layers["counts"].toarray()
    )
    fewer = build_store([screen[:, :-1].copy()], tmp_path / "fewer.zarr", DESIGN, layer="counts")
    with pytest.raises(GeneError, match="1 of 40 genes are missing"):
        again.predict(perturbations=["P0"], adata=fewer, progress=False)


def test_what_a_store_cannot_do_is_said(store, tmp_path) -> None:
    with pytest.raises(UnknownNameError, match="split"):
        tp.SCALE.setup_store(store, split_key="split")
    model = train(scale_of(store))
    with pytest.raises(OptionError, match="not saved with a model"):
        model.save(tmp_path / "model", save_anndata=True)
    assert not (tmp_path / "model").exists()


# --- damage -----------------------------------------------------------------------------------------------------
def test_a_store_that_changed_under_a_saved_model_is_refused(store, screen, tmp_path) -> None:
    train(scale_of(store)).save(tmp_path / "model")
    before = {path: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    more = screen[:50].copy()
    more.obs_names = [f"new_{name}" for name in more.obs_names]
    changed = store.append([more], layer="counts")
    with pytest.raises(StoreError, match="has changed since"):
        tp.SCALE.load(tmp_path / "model", changed)
    assert {path: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def largest_shard(store: Store):
    return max((store.path / "parts").rglob("data/c/*"), key=lambda path: path.stat().st_size)


def test_a_damaged_shard_stops_the_training_with_its_name(store, tmp_path) -> None:
    shard = largest_shard(store)
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 0xFF
    shard.write_bytes(bytes(content))
    model = scale_of(Store(store.path))  # of the right size, so that it opens
    with pytest.raises(StoreError, match="1 of .* files are damaged: parts/.*another checksum"):
        train(model)
    assert not model.is_trained_
    with pytest.raises(StoreError, match=r"another checksum"):
        store.verify()


def test_a_truncated_shard_is_found_when_the_store_is_opened(store, tmp_path) -> None:
    train(scale_of(store)).save(tmp_path / "model")
    before = {path: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    shard = largest_shard(store)
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(StoreError, match="bytes instead of"):
        tp.SCALE.load(tmp_path / "model", Store(store.path))
    assert {path: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def test_a_store_warns_about_nothing_that_memory_does_not(store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", AssumptionWarning)
        tp.SCALE.setup_store(store)
        tp.SCALE(store, preset="tiny", joining="always", training=TRAINING)


def test_a_column_that_a_prediction_would_overwrite_has_another_name_in_a_store_too(screen, tmp_path) -> None:
    screen.obs["source"] = screen.obs["context"].astype(str).map(lambda name: f"from {name}")
    design = Design("perturbation", "control", ("source",))
    store = build_store([screen], tmp_path / "cells.zarr", design, layer="counts")
    with pytest.raises(OptionError, match="would be overwritten: 'source'"):
        tp.RidgeTransport.setup_store(store)
    names = {"source": "organ"}
    store.annotation.obs = store.annotation.obs.rename(columns=names)
    tp.RidgeTransport.setup_store(store, design=design.renamed(names))
    model = tp.RidgeTransport(store)
    model.train()
    pred = model.predict({"organ": "from context_1"}, "P0", progress=False)
    assert set(pred.obs["organ"]) == {"from context_1"} and set(pred.obs["source"]) == {"predicted", "control"}
