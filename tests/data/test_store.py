"""A store holds the cells of its files, grouped and shuffled; damage and interruptions are noticed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.data.store_cells import DESIGN, N_GENES, assert_holds, make_cells

from transpert.data import MemorySource, SetDataModule, SetSampler, Store, build_store, read_sets
from transpert.data.store import build as store_build
from transpert.data.store.manifest import Manifest
from transpert.errors import (
    AssumptionWarning,
    CountsError,
    GeneError,
    OptionError,
    StoreError,
    TranspertError,
    UnknownNameError,
)
from transpert.groups import make_groups, match_controls


@pytest.fixture
def two_files(tmp_path):
    """Two files with their genes in different order, of which one has a gene of its own."""
    shuffled = [f"g{i}" for i in np.random.default_rng(0).permutation(N_GENES - 1)] + ["own"]
    cells = [make_cells(1), make_cells(2, genes=shuffled)]
    paths = [tmp_path / f"{i}.h5ad" for i in range(2)]
    for adata, path in zip(cells, paths, strict=True):
        adata.write_h5ad(path)
    return paths, cells


@pytest.fixture
def small_blocks(monkeypatch):
    """Read and write little at a time, so that a build has many steps."""
    monkeypatch.setattr(store_build, "_COUNTS_PER_BLOCK", 600)
    monkeypatch.setattr(store_build, "_COUNTS_PER_PART", 1000)


@pytest.fixture
def store(tmp_path, small_blocks):
    return build_store([make_cells(1), make_cells(2)], tmp_path / "cells.zarr", DESIGN)


def test_a_store_holds_its_files_aligned_by_gene_name(two_files, tmp_path, small_blocks):
    paths, cells = two_files
    with pytest.warns(AssumptionWarning, match="keeps the 24 genes .* drops 1 of 0.h5ad, 1 of 1.h5ad"):
        store = build_store(paths, tmp_path / "out.zarr", DESIGN)
    assert store.shape == (400, N_GENES - 1) and len(store.manifest.parts) > 3
    assert_holds(store, cells)
    store.verify()
    np.testing.assert_allclose(
        store.read_obs(["score"])["score"].sort_index(), pd.concat([c.obs["score"] for c in cells]).sort_index()
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.h5ad", "1.h5ad", "out.zarr"]


def test_groups_are_contiguous_shuffled_and_start_with_the_controls(store):
    groups = store.groups()
    assert [entry["n_cells"] for entry in store.manifest.groups] == groups.table["n_cells"].tolist()
    assert (np.diff(groups.codes) >= 0).all()
    for context, table in groups.table.groupby("context"):
        assert table["is_control"].is_monotonic_decreasing, context
    numbers = store.read_obs([]).index.str.extract(r"s(\d)c(\d+)").astype(int)
    of_largest = numbers[groups.codes == groups.table["n_cells"].argmax()]
    assert not of_largest[0].is_monotonic_increasing and not of_largest[1].is_monotonic_increasing


def test_sets_from_disk_are_the_sets_from_memory(store):
    stored = store.to_anndata()
    memory = MemorySource(stored.X, store.library_size)
    groups = store.groups()
    matching = match_controls(groups)
    sampler = SetSampler(groups, matching, set_size=7, sets_per_batch=3, slice_size=3)
    disk = store.source()
    for plan in sampler.plan(0):
        here, there = read_sets(memory, plan), read_sets(disk, plan)
        assert torch.equal(torch.stack(here.dense_log1p()), torch.stack(there.dense_log1p()))
    # and the groups are those that the cells in memory have
    again = make_groups(stored.obs, DESIGN)
    assert np.array_equal(again.codes, groups.codes)


def test_the_same_cells_give_the_same_store_and_another_seed_another(store, tmp_path):
    again = build_store([make_cells(1), make_cells(2)], tmp_path / "again.zarr", DESIGN)
    other = build_store([make_cells(1), make_cells(2)], tmp_path / "other.zarr", DESIGN, seed=1)
    assert again.fingerprint == store.fingerprint != other.fingerprint


def test_given_library_sizes_and_genes_are_used(tmp_path):
    cells = make_cells(1)
    cells.obs.index.name = "barcode"
    cells.obs["total"] = np.arange(101.0, 301)
    store = build_store([cells], tmp_path / "a.zarr", DESIGN, genes=["g3", "g1"], library_size_key="total")
    stored = store.to_anndata()
    assert stored.var_names.tolist() == ["g3", "g1"]
    assert (stored.X != cells[stored.obs_names, ["g3", "g1"]].X).nnz == 0
    np.testing.assert_array_equal(store.library_size, cells.obs["total"][stored.obs_names])


def test_large_counts_and_layers_and_dense_matrices(tmp_path):
    cells = make_cells(1)
    dense = cells.X.toarray()
    dense[5, 3] = 70_000
    cells.layers["counts"] = dense
    cells.X = cells.X * 0.5
    cells.write_h5ad(tmp_path / "a.h5ad")
    store = build_store([tmp_path / "a.h5ad"], tmp_path / "a.zarr", DESIGN, layer="counts")
    stored = store.to_anndata()
    np.testing.assert_array_equal(stored.X.toarray(), dense[cells.obs_names.get_indexer(stored.obs_names)])


# --- interruptions ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n_calls", [0, 1, 4])
@pytest.mark.parametrize("step", ["_append", "_write_part"])
def test_an_interrupted_build_goes_on(tmp_path, small_blocks, monkeypatch, step, n_calls):
    expected = build_store([make_cells(1), make_cells(2)], tmp_path / "expected.zarr", DESIGN)
    original, calls = getattr(store_build, step), []

    def dies(*args):
        calls.append(1)
        done = original(*args)
        if len(calls) > n_calls:
            raise KeyboardInterrupt
        return done

    out = tmp_path / "out.zarr"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store_build, step, dies)
        build_store([make_cells(1), make_cells(2)], out, DESIGN)
    assert not out.exists()
    before = len(calls)
    with monkeypatch.context() as patch:
        patch.setattr(store_build, step, lambda *args: (calls.append(1), original(*args))[1])
        store = build_store([make_cells(1), make_cells(2)], out, DESIGN)
    store.verify()
    assert store.fingerprint == expected.fingerprint
    n_steps = {"_append": 14, "_write_part": len(store.manifest.parts)}[step]
    assert len(calls) - before <= n_steps - n_calls  # what was done is not done again
    assert not (tmp_path / "out.zarr.partial").exists()


def test_files_of_parts_are_not_looked_at_after_every_block(tmp_path, small_blocks, monkeypatch):
    # there may be tens of thousands of both
    original, looked_at = Path.stat, []

    def stat(path, **options):
        looked_at.append(path.suffix)
        return original(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stat)
        store = build_store([make_cells(1), make_cells(2)], tmp_path / "out.zarr", DESIGN)
    assert looked_at.count(".bin") <= 2 * len(store.manifest.parts)
    store.verify()


def test_the_noted_sizes_are_those_of_the_files_after_every_block(tmp_path, small_blocks, monkeypatch):
    original, notes = store_build.write_json, []

    def write(path, values):
        original(path, values)
        if path.name == "progress.json":
            sizes = [file.stat().st_size for file in sorted(path.parent.glob("*.bin"))]
            notes.append(values["sizes"] == sizes)

    monkeypatch.setattr(store_build, "write_json", write)
    build_store([make_cells(1), make_cells(2)], tmp_path / "out.zarr", DESIGN)
    assert len(notes) > 5 and all(notes)


def test_a_temporary_file_that_lost_its_end_is_named(tmp_path, small_blocks, monkeypatch):
    original, calls = store_build._append, []

    def dies(*args):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store_build, "_append", dies)
        build_store([make_cells(1)], tmp_path / "out.zarr", DESIGN)
    bucket = tmp_path / "out.zarr.partial" / "scatter" / "00001.bin"
    bucket.write_bytes(bucket.read_bytes()[:-5])
    with pytest.raises(StoreError, match="temporary file is damaged.*00001.bin.*Delete the folder 'out.zarr.partial'"):
        build_store([make_cells(1)], tmp_path / "out.zarr", DESIGN)


def test_an_unfinished_build_of_other_cells_is_left_alone(tmp_path, small_blocks, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store_build, "_write_part", dies)
        build_store([make_cells(1)], tmp_path / "out.zarr", DESIGN)
    with pytest.raises(StoreError, match="unfinished build of other cells"):
        build_store([make_cells(2)], tmp_path / "out.zarr", DESIGN)
    with pytest.raises(StoreError, match="no manifest.*partial"):
        Store.open(tmp_path / "out.zarr.partial")
    assert build_store([make_cells(1)], tmp_path / "out.zarr", DESIGN).n_obs == 200


@pytest.mark.parametrize("step", ["_append", "_write_part", "write_json"])
def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path, small_blocks, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out.zarr"
    with monkeypatch.context() as patch, pytest.raises(StoreError, match="the disk is full.*run the same call again"):
        patch.setattr(store_build, step, full)
        build_store([make_cells(1)], out, DESIGN)
    assert not out.exists()
    assert_holds(build_store([make_cells(1)], out, DESIGN), [make_cells(1)])


def test_too_little_space_is_noticed_before_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(store_build, "_BYTES_PER_COUNT", 10**15)
    with pytest.raises(StoreError, match="GB are needed"):
        build_store([make_cells(1)], tmp_path / "out.zarr", DESIGN)
    assert os.listdir(tmp_path) == []


# --- damage ---------------------------------------------------------------------------------------------------------
def shards(store: Store):
    return sorted(path for path in store.path.glob("parts/*/data/c/*") if path.is_file())


def test_a_truncated_or_missing_shard_is_found_on_opening(store):
    shard = shards(store)[0]
    content = shard.read_bytes()
    shard.write_bytes(content[:-7])
    with pytest.raises(StoreError, match="bytes instead of"):
        Store.open(store.path)
    shard.unlink()
    with pytest.raises(StoreError, match="is missing"):
        Store.open(store.path)


def test_a_changed_byte_is_found_by_verify(store):
    shard = shards(store)[0]
    content = bytearray(shard.read_bytes())
    content[20] ^= 0xFF
    shard.write_bytes(content)
    reopened = Store.open(store.path)
    with pytest.raises(StoreError, match="1 of .* files are damaged: parts/00000/data/c/0 has another checksum"):
        reopened.verify()


def test_no_store_and_other_layouts_are_refused(store, tmp_path):
    with pytest.raises(StoreError, match="no manifest"):
        Store.open(tmp_path)
    path = store.path / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "format": 99}))
    with pytest.raises(StoreError, match="layout 99"):
        Store.open(store.path)
    path.write_text("{")
    with pytest.raises(StoreError, match="no JSON file, or it is damaged.*manifest.json"):
        Store.open(store.path)


def test_a_store_changed_under_a_checkpoint_is_refused(store):
    def module(store: Store) -> SetDataModule:
        groups = store.groups()
        return SetDataModule(store.source(), SetSampler(groups, match_controls(groups), set_size=5))

    state = module(store).state_dict()
    module(store).load_state_dict(state)
    with pytest.raises(StoreError, match="have changed since the checkpoint"):
        module(store.append([make_cells(3)])).load_state_dict(state)


# --- append and subset ----------------------------------------------------------------------------------------------
def test_append_keeps_the_positions_of_the_old_cells(store, two_files):
    before = store.to_anndata()
    perturbed = make_cells(3)
    perturbed = perturbed[perturbed.obs["perturbation"] != "control"].copy()  # their controls are in the store
    perturbed.obs["perturbation"] = perturbed.obs["perturbation"].replace({"B": "C"})
    longer = store.append([perturbed])
    longer.verify()
    assert_holds(longer, [make_cells(1), make_cells(2), perturbed])
    after = longer.to_anndata()
    assert after.obs_names[: store.n_obs].tolist() == before.obs_names.tolist()
    assert sum(entry["n_cells"] for entry in longer.manifest.groups) == longer.n_obs
    assert [source["n_obs"] for source in longer.manifest.sources] == [200, 200, perturbed.n_obs]
    assert_holds(longer.append([make_cells(4)]), [make_cells(1), make_cells(2), perturbed, make_cells(4)])


def test_a_failed_append_changes_nothing(store, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_build, "_write_part", full)
        with pytest.raises(StoreError, match="disk is full"):
            store.append([make_cells(3)])
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", full)
        with pytest.raises(StoreError, match="disk is full"):
            store.append([make_cells(3)])
    unchanged = Store.open(store.path)
    unchanged.verify()
    assert unchanged.fingerprint == store.fingerprint
    with pytest.raises(GeneError, match="25 of 25 genes are missing"):
        store.append([make_cells(3, genes=[f"x{i}" for i in range(N_GENES)])])
    assert_holds(store.append([make_cells(3)]), [make_cells(1), make_cells(2), make_cells(3)])


def test_subset_keeps_counts_and_library_sizes(store, tmp_path):
    mask = (store.obs["cell_type"] == "T").to_numpy()
    part = store.subset(mask, tmp_path / "t.zarr")
    cells = [adata[adata.obs["cell_type"] == "T"].copy() for adata in (make_cells(1), make_cells(2))]
    assert_holds(part, cells)
    assert part.groups().contexts == ("T",)


# --- what is refused before anything is written -----------------------------------------------------------------------
def change(**columns):
    cells = make_cells(1)
    for name, value in columns.items():
        cells.obs[name] = value
    return cells


def without_counts():
    cells = make_cells(1).X.tolil()
    cells[4] = 0
    adata = make_cells(1)
    adata.X = cells.tocsr()
    adata.X.eliminate_zeros()
    return adata


def by_column(tmp_path):
    cells = make_cells(1)
    cells.X = cells.X.tocsc()
    cells.write_h5ad(tmp_path / "csc.h5ad")
    return tmp_path / "csc.h5ad"


def repeated_genes():
    return make_cells(1, genes=["g0", *[f"g{i}" for i in range(N_GENES - 1)]])


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (lambda p: [], {}, OptionError, "no files"),
        (lambda p: [p / "none.h5ad"], {}, StoreError, "does not exist"),
        (lambda p: [p / "text.h5ad"], {}, StoreError, "no AnnData, or it is damaged"),
        (lambda p: [by_column(p)], {}, CountsError, "csc_matrix.*tocsr"),
        (lambda p: [make_cells(1)], {"genes": ["g1", "zzz"]}, GeneError, "'zzz'"),
        (lambda p: [make_cells(1), make_cells(2, genes=[f"x{i}" for i in range(N_GENES)])], {}, GeneError, "in common"),
        (lambda p: [repeated_genes()], {}, GeneError, "more than once: 'g0'"),
        (lambda p: [without_counts()], {}, CountsError, "1 cells have no counts"),
        (lambda p: [make_cells(1)], {"library_size_key": "score"}, CountsError, "obs\\['score'\\]"),
        (lambda p: [make_cells(1)], {"library_size_key": "total"}, UnknownNameError, "unknown column: 'total'"),
        (lambda p: [make_cells(1)], {"obs_columns": ["scor"]}, UnknownNameError, "Did you mean 'score'"),
    ],
)
def test_unusable_input_leaves_nothing_behind(tmp_path, make, options, error, message):
    (tmp_path / "text.h5ad").write_text("no hdf5")
    files = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=message) as caught:
        build_store(files, tmp_path / "out.zarr", DESIGN, **options)
    assert isinstance(caught.value, TranspertError)
    assert sorted(tmp_path.iterdir()) == before


def test_values_that_are_no_counts_are_refused(tmp_path):
    cells = make_cells(1)
    cells.X = cells.X * 0.5
    with pytest.raises(CountsError, match="not integers"):
        build_store([cells], tmp_path / "out.zarr", DESIGN)
    assert os.listdir(tmp_path) == []


def test_an_existing_folder_is_not_overwritten(store):
    with pytest.raises(StoreError, match="something already"):
        build_store([make_cells(1)], store.path, DESIGN)
    store.verify()


def test_repeated_names_of_cells_get_the_number_of_their_file(tmp_path):
    with pytest.warns(AssumptionWarning, match="more than once"):
        store = build_store([make_cells(1), make_cells(1)], tmp_path / "out.zarr", DESIGN)
    names = store.read_obs([]).index
    assert names.is_unique and set(names.str[-2:]) == {"-0", "-1"}
