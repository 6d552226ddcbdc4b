"""Batches hold the counts of their cells, and become dense as scanpy would make them."""

from __future__ import annotations

import tracemalloc

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import torch
from scipy import sparse
from torch.utils._python_dispatch import TorchDispatchMode

from transpert.data import CellSource, DeviceCells, MemorySource, SetSampler, read_sets
from transpert.data.sets.batches import _scatter_rows
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


N_CELLS, N_COUNTS = 20_000, 100  # cells made as they are read, and the counts of each


class Made:
    """Cells that are in memory only while they are read."""

    n_obs, n_vars, embedding, cells_per_read, fingerprint = N_CELLS, N_COUNTS, None, 1, "made"
    library_size = np.full(N_CELLS, 1e3, dtype=np.float32)

    def __init__(self, nnz: int | None) -> None:
        self.nnz, self.n_read = nnz, 0

    def read(self, positions):
        self.n_read += len(positions)
        counts = np.broadcast_to(positions[:, None] % 7 + 1, (len(positions), N_COUNTS))
        row_starts = np.arange(len(positions) + 1, dtype=np.int32) * N_COUNTS
        genes = np.tile(np.arange(N_COUNTS, dtype=np.int32), len(positions))
        return sparse.csr_matrix((counts.astype(np.float32).ravel(), genes, row_starts))


def peak_on_the_host(source, device: str) -> int:
    tracemalloc.start()  # counts the arrays of NumPy, not the tensors of torch
    DeviceCells(source, device, rows_per_read=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("nnz", [N_CELLS * N_COUNTS, None], ids=["known size", "unknown size"])
def test_the_host_holds_a_block_of_the_cells_for_a_device(nnz, device) -> None:
    source = Made(nnz)
    block = 500 * N_COUNTS * 8
    # a block while it is made, and what there is for each cell: row start, library size
    assert peak_on_the_host(source, device) < 5 * block + 16 * N_CELLS < N_CELLS * N_COUNTS * 8 / 4
    assert source.n_read == N_CELLS * (1 if nnz else 2)


class Allocated(TorchDispatchMode):
    """Adds up what is allocated on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes, self.known = 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == "meta":
            storage = result.untyped_storage()
            if storage._cdata not in self.known:
                self.known[storage._cdata] = storage  # kept, so that its number is not given to another
                self.n_bytes += storage.nbytes()
        return result


def test_the_device_holds_nothing_twice() -> None:
    with Allocated() as allocated:
        DeviceCells(Made(None), "meta", rows_per_read=500)
    needed = N_CELLS * N_COUNTS * 8 + (N_CELLS + 1) * 8 + N_CELLS * 4
    assert allocated.n_bytes == needed


def test_a_source_need_not_say_how_many_counts_it_has(experiment) -> None:
    groups, matching, source, _ = experiment

    class Plain:
        n_obs, n_vars, library_size, embedding = source.n_obs, source.n_vars, source.library_size, None
        read = staticmethod(source.read)

    plan = next(SetSampler(groups, matching, set_size=8, sets_per_batch=3).plan(0))
    expected = read_sets(source, plan).dense_counts()
    for cells in (Plain(), source):
        found = DeviceCells(cells, "cpu", rows_per_read=77).read_sets(plan).dense_counts()
        assert torch.equal(torch.stack(found), torch.stack(expected))


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
    with pytest.raises(CountsError, match="1 cells have a library size"):
        MemorySource(np.eye(2), np.array([1.0, np.inf]))
    with pytest.raises(CountsError, match="embedding has 3 cells"):
        MemorySource(np.eye(2), np.ones(2), np.ones((3, 1)))
