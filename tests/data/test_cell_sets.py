"""Batches hold the counts of their cells, and become dense as scanpy would make them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import torch

from transpert.data import CellSource, DeviceCells, MemorySource, SetSampler, read_sets
from transpert.data.batches import _scatter_rows
from transpert.errors import CountsError, OptionError


@pytest.fixture
def batch_and_plan(experiment):
    groups, matching, source, _ = experiment
    plan = next(SetSampler(groups, matching, set_size=8, sets_per_batch=3).plan(0))
    return read_sets(source, plan), plan, source


def test_dense_counts_are_the_counts_of_the_plan(batch_and_plan):
    batch, plan, source = batch_and_plan
    x0, x1 = batch.dense_counts()
    assert batch.shape == (3, 8) and x0.shape == (3, 8, source.n_vars)
    for dense, cells in ((x0, plan.control), (x1, plan.perturbed)):
        for i in range(3):
            assert np.array_equal(dense[i].numpy(), source.counts[cells[i]].toarray())
    assert torch.equal(batch.groups, torch.from_numpy(plan.groups))
    assert isinstance(source, CellSource)


def test_dense_log1p_equals_scanpy_with_the_library_of_all_genes(experiment):
    groups, matching, source, _ = experiment
    # a library over more genes than are here: scanpy sees it as one more gene
    rest = np.random.default_rng(0).integers(1, 50, source.n_obs)
    wide = MemorySource(source.counts, source.library_size + rest)
    batch = read_sets(wide, next(SetSampler(groups, matching, set_size=6, sets_per_batch=4).plan(0)))
    cells = batch.positions.reshape(-1).numpy()
    adata = ad.AnnData(np.column_stack([source.counts[cells].toarray(), rest[cells]]).astype(np.float32))
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    ours = torch.stack(batch.dense_log1p()).reshape(-1, source.n_vars).numpy()
    np.testing.assert_allclose(ours, adata.X[:, :-1], rtol=1e-5, atol=1e-6)


def test_a_device_makes_rows_dense_as_the_cpu_does(batch_and_plan):
    batch, _, source = batch_and_plan
    rows = _scatter_rows(batch.indptr, batch.indices, batch.values, source.n_vars)
    assert torch.equal(rows.view(2, 3, 8, -1), torch.stack(batch.dense_counts()))


def test_cells_on_the_device_give_the_same_sets(experiment):
    groups, matching, source, _ = experiment
    source = MemorySource(source.counts, source.library_size, embedding=np.arange(2.0 * source.n_obs).reshape(-1, 2))
    cells = DeviceCells(source, "cpu", rows_per_read=128)
    for plan in SetSampler(groups, matching, set_size=8, sets_per_batch=3, batches_per_epoch=4).plan(1):
        here, there = read_sets(source, plan), cells.read_sets(plan)
        assert torch.equal(torch.stack(here.dense_log1p()), torch.stack(there.dense_log1p()))
        assert torch.equal(here.embedding, there.embedding) and torch.equal(here.positions, there.positions)
    true_bytes = source.counts.nnz * 8 + source.n_obs * 20
    assert DeviceCells.bytes_needed(source) == pytest.approx(true_bytes, rel=0.1)


def test_embeddings_are_optional(batch_and_plan, experiment):
    batch, plan, source = batch_and_plan
    with pytest.raises(OptionError, match="no embedding"):
        batch.dense_embedding()
    embedding = np.random.default_rng(0).normal(size=(source.n_obs, 5))
    z0, z1 = read_sets(MemorySource(source.counts, source.library_size, embedding), plan).dense_embedding()
    np.testing.assert_allclose(z0.numpy(), embedding[plan.control], rtol=1e-6)
    np.testing.assert_allclose(z1.numpy(), embedding[plan.perturbed], rtol=1e-6)


def test_moving_keeps_everything(batch_and_plan):
    batch, _, _ = batch_and_plan
    moved = batch.to("meta")
    assert moved.device.type == "meta" and moved.shape == batch.shape and moved.positions.device.type == "cpu"


def test_unusable_cells_are_refused():
    with pytest.raises(CountsError, match="1 cells have a library size"):
        MemorySource(np.eye(2), np.array([1.0, 0.0]))
    with pytest.raises(CountsError, match="embedding has 3 cells"):
        MemorySource(np.eye(2), np.ones(2), np.ones((3, 1)))
