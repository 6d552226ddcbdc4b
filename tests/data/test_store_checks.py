"""What a damaged store says, what is refused before anything is written, and what is chosen of a store."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.store_cells import DESIGN, N_GENES, assert_holds, make_cells

from transpert.data import Store, build_store, to_scdl
from transpert.data.readers.readers import FileReader
from transpert.data.store import build as store_build
from transpert.data.store import build_input
from transpert.errors import (
    AssumptionWarning,
    BackedDataError,
    ControlError,
    CountsError,
    GeneError,
    OptionError,
    StoreError,
    TranspertError,
    UnknownNameError,
)
from transpert.groups import Design


@pytest.fixture
def store(tmp_path):
    return build_store(make_cells(1), tmp_path / "cells.zarr", DESIGN, cells_per_part=90)


def flip(path, at: int | float) -> None:
    """Change one byte; a fraction says where in the file."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content)) if isinstance(at, float) else at] ^= 0x01
    path.write_bytes(bytes(content))


# --- damage ---------------------------------------------------------------------------------------------------------
READS = {
    "genes": lambda store: store.genes,
    "obs": lambda store: store.obs,
    "obs_columns": lambda store: store.obs_columns,
    "names": lambda store: store.names([3]),
    "read_obs": lambda store: store.read_obs(["score"]),
    "annotation": lambda store: store.annotation,
    "to_anndata": lambda store: store.to_anndata(),
}


@pytest.mark.parametrize("at", [0, 4, 0.1, 0.5, 0.9, -1])
@pytest.mark.parametrize("file", ["genes.parquet", "obs-00000.parquet"])
def test_a_changed_byte_of_a_table_is_named_wherever_it_is_read(store, file, at) -> None:
    flip(store.path / file, at)
    needing = {"genes.parquet": ["genes", "annotation", "to_anndata"]}.get(
        file, [name for name in READS if name != "genes"]
    )
    for name in needing:
        with pytest.raises(StoreError, match=f"1 of .* files are damaged: {file} has another checksum"):
            READS[name](Store(store.path))  # opening looks at sizes only


def test_a_table_that_is_gone_after_opening_is_named(store) -> None:
    reopened = Store(store.path)
    (store.path / "obs-00000.parquet").unlink()
    with pytest.raises(StoreError, match="obs-00000.parquet is missing"):
        reopened.read_obs()


def test_a_table_that_cannot_be_read_although_it_is_whole_is_named(store) -> None:
    path = store.path / "genes.parquet"
    path.write_bytes(b"no table")
    store.manifest.files["genes.parquet"] = (8, "0")
    store.tables._verified.add("genes.parquet")
    with pytest.raises(StoreError, match="the table cannot be read.*genes.parquet"):
        _ = store.genes


@pytest.mark.parametrize("at", [0, 0.3, 0.6])
@pytest.mark.parametrize("file", ["zarr.json", "data/zarr.json", "indices/zarr.json", "indptr/zarr.json", "indptr/c/0"])
def test_what_describes_a_part_is_checked_before_zarr_sees_it(store, file, at) -> None:
    flip(store.path / "parts" / "00001" / file, at)
    with pytest.raises(StoreError, match=f"1 of .* files are damaged: parts/00001/{file} has another checksum"):
        Store(store.path).source()


@pytest.mark.parametrize("at", [0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("file", ["data/c/0", "indices/c/0"])
def test_damaged_counts_are_named_when_they_are_read(store, file, at) -> None:
    flip(store.path / "parts" / "00000" / file, at)
    with pytest.raises(StoreError, match=f"damaged: parts/00000/{file} has another checksum"):
        Store(store.path).source().read(np.array([0]))


def test_the_counts_are_not_looked_through_on_opening(store, monkeypatch) -> None:
    from transpert import _files

    looked_at = []
    original = _files.digest_of_file
    monkeypatch.setattr(_files, "digest_of_file", lambda path: (looked_at.append(path), original(path))[1])
    source = Store(store.path).source()
    assert looked_at and not [path for path in looked_at if {"data", "indices"} & set(path.parts) and path.name == "0"]
    source.read(np.array([0, 1]))
    assert {path.parts[-4] for path in looked_at if path.name == "0" and path.parent.parent.name == "data"} == {"00000"}
    n_looked_at = len(looked_at)
    source.read(np.array([2]))
    assert len(looked_at) == n_looked_at  # once is enough


@pytest.mark.parametrize("at", [5, 0.3, 0.6, 0.9])
def test_a_changed_byte_of_the_manifest_is_found_on_opening(store, at) -> None:
    flip(store.path / "manifest.json", at)
    with pytest.raises(StoreError, match="manifest"):
        Store(store.path)


def test_manifests_of_earlier_versions_are_read(store) -> None:
    path = store.path / "manifest.json"
    values = json.loads(path.read_text())
    for name in ("checksum", "library_size_key"):
        del values[name]
    del values["files"]["zarr.json"]
    values["sources"] = [{name: source[name] for name in ("name", "n_obs", "n_genes")} for source in values["sources"]]
    path.write_text(json.dumps(values))
    old = Store(store.path)
    assert old.fingerprint == store.fingerprint
    longer = old.append(make_cells(3))
    longer.verify()
    assert_holds(longer, [make_cells(1), make_cells(3)])


# --- library sizes --------------------------------------------------------------------------------------------------
def with_totals(seed: int = 1, name: str = "total", change=lambda totals: totals) -> ad.AnnData:
    cells = make_cells(seed)
    cells.obs[name] = change(np.asarray(cells.X.sum(axis=1), dtype=float).ravel() + 10)
    return cells


def changed(position: int, value: float):
    def change(totals):
        totals[position] = value
        return totals

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(7, np.inf), "1 cells have a library size that is not above 0, or not finite"),
        (changed(7, np.nan), "1 cells have a library size that is not above 0, or not finite"),
        (changed(7, 0), "1 cells have a library size that is not above 0"),
        (changed(7, 0.5), "1 cells have fewer counts in all than in the genes at hand"),
        (lambda totals: totals / 100, "200 cells have fewer counts in all"),
        (lambda totals: totals.astype(int).astype(str), "not numbers"),
    ],
)
def test_library_sizes_that_cannot_be_are_refused(store, tmp_path, change, message) -> None:
    bad = with_totals(change=change)
    with pytest.raises(CountsError, match=message) as caught:
        build_store(bad, tmp_path / "out.zarr", DESIGN, library_size_key="total")
    assert "obs['total']" in str(caught.value)
    bad = with_totals(3, change=change)
    with pytest.raises(CountsError, match=message):
        store.append(bad, library_size_key="total")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.zarr"]
    assert Store(store.path).n_obs == 200


def test_predicted_cells_may_have_more_counts_than_the_control_they_were_made_from(tmp_path) -> None:
    few = with_totals(name="library_size", change=lambda totals: totals / 100)
    with pytest.raises(CountsError, match="200 cells have fewer counts in all"):
        build_store(few, tmp_path / "out.zarr", DESIGN)
    pred = few.copy()
    pred.obs[["source", "model", "control_id"]] = "predicted", "RidgeTransport", "cell"
    pred.write_h5ad(tmp_path / "pred.h5ad")
    store = build_store([with_totals(3, "library_size"), tmp_path / "pred.h5ad"], tmp_path / "out.zarr", DESIGN)
    stored = store.to_anndata().obs["library_size"]
    np.testing.assert_array_equal(stored[pred.obs_names], pred.obs["library_size"])
    pred.obs["source"] = "control"
    with pytest.raises(CountsError, match="200 cells have fewer counts in all"):
        build_store(pred, tmp_path / "other.zarr", DESIGN)


def test_append_takes_library_sizes_from_where_the_store_has_them(tmp_path) -> None:
    store = build_store(with_totals(1), tmp_path / "a.zarr", DESIGN, library_size_key="total")
    with pytest.raises(UnknownNameError, match="'total'.*holds the library sizes of the cells that are there"):
        store.append(make_cells(3))
    longer = store.append(with_totals(3))
    expected = with_totals(3).obs["total"]
    stored = longer.to_anndata().obs
    np.testing.assert_array_equal(stored["library_size"][expected.index], expected)
    assert longer.manifest.library_size_key == "total"

    # a part of a store remembers it too, and another column can be named
    part = longer.subset(np.arange(300), tmp_path / "part.zarr")
    assert part.manifest.library_size_key == "total"
    other = with_totals(4)
    other.obs["umis"] = other.obs["total"] + 1
    more = part.append(other, library_size_key="umis")
    assert more.library_size[-200:].sum() == other.obs["umis"].sum()


# --- names ----------------------------------------------------------------------------------------------------------
def test_names_that_occur_twice_in_one_file_are_numbered(tmp_path) -> None:
    cells = make_cells(1)
    names = cells.obs_names.to_numpy(dtype=object)
    names[[1, 2]] = names[0]
    names[3] = f"{names[0]}-1"
    cells.obs_names = names
    with pytest.warns(AssumptionWarning, match="more than once in 'AnnData'"):
        store = build_store(cells, tmp_path / "a.zarr", DESIGN)
    stored = store.read_obs([]).index
    assert stored.is_unique and {"s1c0", "s1c0-1", "s1c0-2", "s1c199"} <= set(stored) and len(stored) == 200


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=2), max_size=12), st.integers(1, 5))
def test_a_name_that_occurs_twice_is_noticed_wherever_it_stands(names, block) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_input, "_NAMES_PER_BLOCK", block)
        assert build_input._has_repeats(pd.Index(names, dtype="str")) == (len(set(names)) < len(names))


def test_the_same_cells_are_not_appended_twice(tmp_path) -> None:
    make_cells(1).write_h5ad(tmp_path / "a.h5ad")
    make_cells(2).write_h5ad(tmp_path / "b.h5ad")
    store = build_store(tmp_path / "a.h5ad", tmp_path / "a.zarr", DESIGN)
    (tmp_path / "other").mkdir()
    some = make_cells(1)[:50].copy()
    some.write_h5ad(tmp_path / "other" / "a.h5ad")
    (tmp_path / "a.h5ad").rename(tmp_path / "renamed.h5ad")
    for file in (tmp_path / "renamed.h5ad", tmp_path / "other" / "a.h5ad", make_cells(1)):
        with pytest.raises(StoreError, match="all .* cells are in the store already.*allow_repeated=True"):
            store.append([tmp_path / "b.h5ad", file])
    assert Store(store.path).fingerprint == store.fingerprint
    with pytest.warns(AssumptionWarning, match="cells with 200 of the new names"):
        twice = store.append(tmp_path / "renamed.h5ad", allow_repeated=True)
    names = twice.read_obs([]).index
    assert names.is_unique and names[:200].equals(store.read_obs([]).index)
    assert set(names[200:]) == {f"{name}-1" for name in names[:200]}


def test_other_cells_with_known_names_get_the_number_of_their_file(store) -> None:
    other = make_cells(3)
    other.obs_names = make_cells(1).obs_names
    with pytest.warns(AssumptionWarning, match="200 of the new names"):
        longer = store.append(other)
    names = longer.read_obs([]).index
    assert names.is_unique and set(names[200:].str[-2:]) == {"-1"}
    stored = longer.to_anndata()
    assert (stored[[f"{name}-1" for name in other.obs_names]].X != other.X).nnz == 0


def test_a_store_that_somebody_else_appended_to_is_opened_again_first(store) -> None:
    longer = Store(store.path).append(make_cells(2))
    with pytest.raises(StoreError, match="has changed since it was opened"):
        store.append(make_cells(3))
    assert Store(store.path).fingerprint == longer.fingerprint
    assert_holds(longer, [make_cells(1), make_cells(2)])


# --- how files were written ---------------------------------------------------------------------------------------
def as_anndata_0_7(file: h5py.File | zarr.Group) -> None:
    """Keep the labels as anndata 0.7 did: numbers in the columns, the categories of all columns beside them."""
    obs = file["obs"]
    obs.attrs["encoding-version"] = "0.1.0"
    beside = obs.create_group("__categories")
    for column in obs.attrs["column-order"]:
        if obs[column].attrs["encoding-type"] != "categorical":
            continue
        codes, categories = obs[column]["codes"][:], ad.io.read_elem(obs[column]["categories"])
        del obs[column]
        ad.io.write_elem(beside, column, np.asarray(categories, dtype=object))
        ad.io.write_elem(obs, column, codes)
        beside[column].attrs["ordered"] = False
        if isinstance(file, zarr.Group):
            obs[column].attrs["categories"] = f"__categories/{column}"
        else:
            obs[column].attrs["categories"] = beside[column].ref


def written(folder: Path, cells: ad.AnnData, suffix: str) -> Path:
    path = folder / f"cells.{suffix}"
    if path.is_dir():
        shutil.rmtree(path)
    (cells.write_zarr if suffix == "zarr" else cells.write_h5ad)(path)
    return path


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_an_unfinished_build_does_not_go_on_with_another_layer(tmp_path, monkeypatch, suffix) -> None:
    cells = make_cells(1)
    cells.layers["counts"], cells.layers["other"] = cells.X, cells.X[::-1].tocsr()
    path = written(tmp_path, cells, suffix)
    for file in (path, cells):
        interrupt(monkeypatch, file, tmp_path / "out.zarr", layer="counts")
        for layer in ("other", None):
            with pytest.raises(StoreError, match="unfinished build of other cells"):
                build_store(file, tmp_path / "out.zarr", DESIGN, layer=layer)
        assert_holds(build_store(file, tmp_path / "out.zarr", DESIGN, layer="counts"), [make_cells(1)])
        shutil.rmtree(tmp_path / "out.zarr")


def test_an_unfinished_build_does_not_go_on_with_a_zarr_folder_that_was_written_again(tmp_path, monkeypatch) -> None:
    path = written(tmp_path, make_cells(1), "zarr")
    interrupt(monkeypatch, path, tmp_path / "out.zarr")
    times = path.stat()
    other = make_cells(1)
    other.X = other.X[::-1].tocsr()  # as many cells and counts
    written(tmp_path, other, "zarr")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(StoreError, match="unfinished build of other cells"):
        build_store(path, tmp_path / "out.zarr", DESIGN)


def interrupt(monkeypatch, file, out: Path, **options) -> None:
    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store_build, "_write_part", dies)
        build_store(file, out, DESIGN, **options)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning")
def test_labels_of_anndata_0_7_are_labels(tmp_path, suffix) -> None:
    cells = make_cells(1)
    for column in ("perturbation", "donor"):
        cells.obs[column] = cells.obs[column].astype("category")
    cells.obs["stage"] = pd.Categorical(np.where(np.arange(200) % 3 == 0, None, "late"))
    path = written(tmp_path, cells, suffix)
    if suffix == "zarr":
        as_anndata_0_7(zarr.open_group(path, mode="r+", use_consolidated=False))
        zarr.consolidate_metadata(path)
    else:
        with h5py.File(path, "r+") as file:
            as_anndata_0_7(file)
    columns = ["stage", "perturbation", "score"]
    expected = (ad.read_zarr if suffix == "zarr" else ad.read_h5ad)(path).obs[columns]
    assert expected["perturbation"].tolist() == cells.obs["perturbation"].tolist()
    assert expected["stage"].isna().tolist() == cells.obs["stage"].isna().tolist()
    pd.testing.assert_frame_equal(FileReader(path).obs(columns), expected, check_index_type=False)
    assert_holds(build_store(path, tmp_path / "out.zarr", DESIGN), [cells])


# --- what is refused before anything is written -----------------------------------------------------------------------
def backed(folder):
    make_cells(1).write_h5ad(folder / "backed.h5ad")
    return ad.read_h5ad(folder / "backed.h5ad", backed="r")


def damaged(folder, change, suffix: str = "h5ad"):
    path = folder / f"damaged.{suffix}"
    if suffix == "zarr":
        make_cells(1).write_zarr(path)
        change(zarr.open_group(path, mode="r+"))
    else:
        make_cells(1).write_h5ad(path)
        with h5py.File(path, "r+") as file:
            change(file)
    return path


def without_x(folder):
    cells = make_cells(1)
    cells.layers["counts"] = cells.X
    cells.X = None
    cells.write_h5ad(folder / "empty.h5ad")
    return folder / "empty.h5ad"


def remove(*names):
    def change(group):
        for name in names:
            del group[name]

    return change


def remove_attribute(table, name):
    def change(group):
        del group[table].attrs[name]

    return change


def shorten_obs(group):
    names = ad.io.read_elem(group["obs"]["_index"])[:-5]
    del group["obs"]["_index"]
    ad.io.write_elem(group["obs"], "_index", names)


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (backed, {}, BackedDataError, "backed.h5ad"),
        (lambda p: make_cells(1), {"layer": "counts"}, UnknownNameError, "unknown layer: 'counts'"),
        (without_x, {}, CountsError, "no values.*X of .*empty.h5ad.*Name the layer"),
        (lambda p: damaged(p, remove("X")), {}, CountsError, "no values.*damaged.h5ad"),
        (lambda p: damaged(p, remove("X"), "zarr"), {}, CountsError, "no values.*damaged.zarr"),
        (lambda p: damaged(p, remove("obs")), {}, StoreError, "no AnnData, or it is damaged.*damaged.h5ad"),
        (lambda p: damaged(p, remove("obs/donor")), {}, StoreError, "no table of cells.*damaged.h5ad"),
        (lambda p: damaged(p, remove_attribute("obs", "column-order")), {}, StoreError, "lacks 'column-order'"),
        (lambda p: damaged(p, remove_attribute("obs", "_index")), {}, StoreError, "obs .*lacks '_index'"),
        (lambda p: damaged(p, remove_attribute("var", "_index")), {}, StoreError, "var .*lacks '_index'"),
        (lambda p: damaged(p, shorten_obs), {}, StoreError, "obs has 195 rows, the counts are of 200"),
        (lambda p: damaged(p, remove("X/data")), {}, StoreError, "damaged.h5ad"),
        (lambda p: [], {}, OptionError, "no files"),
        (lambda p: [3], {}, OptionError, "cells cannot be read from int"),
        (lambda p: make_cells(1), {"genes": []}, OptionError, "no genes are asked for"),
        (
            lambda p: make_cells(1),
            {"genes": ["g0", "g1", "g0"]},
            GeneError,
            "1 genes are asked for more than once: 'g0'",
        ),
        (lambda p: make_cells(1), {"genes": "genes.txt"}, GeneError, "1 of 1 genes are missing: 'genes.txt'"),
        (lambda p: make_cells(1), {"obs_columns": "scores"}, UnknownNameError, "Did you mean 'score'"),
        (lambda p: make_cells(1), {"cells_per_part": 0}, OptionError, "cells_per_part is 0"),
    ],
)
def test_what_cannot_become_a_store_is_named(tmp_path, make, options, error, message) -> None:
    files = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=message) as caught:
        build_store(files, tmp_path / "out.zarr", DESIGN, **options)
    assert isinstance(caught.value, TranspertError)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_one_file_need_not_be_in_a_list(store, tmp_path, kind) -> None:
    for seed in (2, 3):
        make_cells(seed).write_h5ad(tmp_path / f"{seed}.h5ad")
    built = build_store(kind(tmp_path / "2.h5ad"), tmp_path / "b.zarr", DESIGN)
    assert_holds(built, [make_cells(2)])
    assert_holds(built.append(kind(tmp_path / "3.h5ad")), [make_cells(2), make_cells(3)])
    with pytest.raises(OptionError, match="no files were given.*Store.append"):
        store.append([])


def test_a_place_that_does_not_exist_is_named(store, tmp_path) -> None:
    place = tmp_path / "none" / "out"
    for call in (
        lambda: build_store(make_cells(1), place, DESIGN),
        lambda: store.subset(np.arange(100), place),
        lambda: to_scdl(store, place),
    ):
        with pytest.raises(StoreError, match=r"the folder does not exist \(in .*none\)\. Make it") as caught:
            call()
        assert "not lost" not in str(caught.value)


# --- what is chosen of a store ----------------------------------------------------------------------------------------
def test_a_label_is_not_overwritten_with_library_sizes(tmp_path) -> None:
    cells = make_cells(1)
    cells.obs["library_size"] = cells.obs["cell_type"]
    with pytest.raises(OptionError, match="would be overwritten: 'library_size'"):
        build_store(cells, tmp_path / "cells.zarr", Design("perturbation", "control", ("library_size",)))
    assert not (tmp_path / "cells.zarr").exists()


def test_what_cannot_be_a_subset_is_refused(store, tmp_path) -> None:
    n = store.n_obs
    perturbed = (store.obs["perturbation"] != "control").to_numpy()
    for cells, error, message in [
        (np.zeros(n, dtype=bool), OptionError, "no cell is chosen"),
        ([], OptionError, "no cell is chosen"),
        (np.ones(n - 1, dtype=bool), OptionError, "the mask has 199 entries for 200 cells"),
        ([0, n], OptionError, "1 of 2 positions are not those of cells.*from 0 to 199"),
        ([-1, 0], OptionError, "1 of 2 positions"),
        ([0.0, 1.5], OptionError, "positions of cells are of type float64"),
        (np.ones((n, 1), dtype=bool), OptionError, r"shape \(200, 1\)"),
        (perturbed, ControlError, "none of the chosen cells is a control.*labelled 'control' too"),
    ]:
        with pytest.raises(error, match=message):
            store.subset(cells, tmp_path / "part.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.zarr"]
    chosen = [5, *np.flatnonzero(~perturbed)]
    assert store.subset(chosen, tmp_path / "part.zarr").n_obs == len(set(chosen))


def test_to_anndata_and_names_take_a_mask_or_positions(store) -> None:
    mask = (store.obs["cell_type"] == "NK").to_numpy()
    whole = store.to_anndata()
    chosen = store.to_anndata(mask)
    assert list(chosen.obs_names) == list(whole.obs_names[mask]) == list(store.names(mask))
    assert (chosen.X != whole.X[mask]).nnz == 0
    backwards = store.to_anndata([9, 3, 9])
    assert (backwards.X != whole.X[[9, 3, 9]]).nnz == 0
    assert store.to_anndata([]).shape == (0, N_GENES)
    for cells in (mask[:-1], [200], [-1], ["a"]):
        with pytest.raises(OptionError):
            store.to_anndata(cells)
        with pytest.raises(OptionError):
            store.names(cells)


def test_positions_that_no_cell_has_are_not_taken_for_damage(store) -> None:
    source = store.source()
    nothing = source.read([])
    assert nothing.shape == (0, N_GENES) and nothing.dtype == np.float32
    for positions in ([-1], [200], [0, 10**9]):
        with pytest.raises(OptionError, match="positions are not those of cells") as caught:
            source.read(positions)
        assert "damaged" not in str(caught.value)
    with pytest.raises(UnknownNameError, match="Did you mean 'score'"):
        store.read_obs(["scor"])


@pytest.mark.parametrize("fresh", [False, True])
def test_labels_are_read_without_the_names(store, fresh) -> None:
    cells = make_cells(2)
    cells.obs["score"] = pd.array([None, *range(199)], dtype="Int64") if fresh else cells.obs["score"]
    store = build_store(cells, store.path.parent / "more.zarr", DESIGN) if fresh else store.append(cells)
    named = store.read_obs()
    pd.testing.assert_frame_equal(store.read_obs(names=False), named.reset_index(drop=True))
    # what holds the names is not looked at: it may be unreadable
    for file in store.manifest.obs_files:
        path = store.path / file
        table = pq.ParquetFile(path).metadata
        content = bytearray(path.read_bytes())
        for block in range(table.num_row_groups):
            columns = [table.row_group(block).column(i) for i in range(table.num_columns)]
            (column,) = [column for column in columns if column.path_in_schema.startswith("__index_level")]
            start = column.dictionary_page_offset or column.data_page_offset
            content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
        path.write_bytes(bytes(content))
    reopened = Store(store.path)
    reopened.tables._verified.update(store.manifest.obs_files)
    pd.testing.assert_frame_equal(reopened.read_obs(names=False), named.reset_index(drop=True))
    with pytest.raises(StoreError, match="the table cannot be read"):
        reopened.read_obs()


def test_pandas_masks_are_taken(store, tmp_path) -> None:
    controls = store.obs["perturbation"] == "control"
    assert isinstance(controls, pd.Series)
    assert store.subset(controls, tmp_path / "c.zarr").n_obs == store.to_anndata(controls).n_obs == controls.sum()
