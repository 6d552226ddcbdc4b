"""Cells keep their counts and labels on the way from and to the formats of others."""

from __future__ import annotations

import sys

import annbatch
import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from transpert import pp
from transpert.data import build_store, from_annbatch, from_cell_load, from_scdl, to_scdl
from transpert.errors import DependencyError, OptionError, StoreError, UnknownNameError
from transpert.groups import Design

DESIGN = Design("gene", "non-targeting", ("cell_type",))


def make_cells(seed: int, n_obs: int = 60) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "gene": pd.Categorical(rng.choice(["non-targeting", "A", "B"], n_obs)),
            "cell_type": pd.Categorical(rng.choice(["k562", "rpe1"], n_obs)),
        },
        index=[f"s{seed}c{i}" for i in range(n_obs)],
    )
    counts = rng.poisson(0.5, (n_obs, 8)).astype(np.float32)
    counts[:, 0] += 1
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(8)]))


def assert_same_cells(left: ad.AnnData, right: ad.AnnData) -> None:
    left = left[right.obs_names, right.var_names]
    assert left.n_obs == right.n_obs
    assert (left.X != right.X).nnz == 0
    for column in DESIGN.columns:
        assert left.obs[column].astype(str).tolist() == right.obs[column].astype(str).tolist()


@pytest.fixture
def cell_load(tmp_path):
    """The layout of cell-load: a folder a data set, and a TOML file with the split."""
    for seed, name in enumerate(["first", "second"]):
        (tmp_path / name).mkdir()
        make_cells(seed).write_h5ad(tmp_path / name / "cells.h5")
    config = tmp_path / "split.toml"
    config.write_text(
        f'[datasets]\nfirst = "{tmp_path}/first"\nsecond = "{tmp_path}/second/*.h5"\n'
        '[training]\nfirst = "train"\nsecond = "train"\n'
        '[zeroshot]\n"first.rpe1" = "test"\n'
        '[fewshot]\n[fewshot."second.k562"]\nval = ["A"]\ntest = ["B"]\n'
    )
    return config


def test_cell_load_files_and_split(cell_load, tmp_path):
    store = from_cell_load(cell_load, tmp_path / "out.zarr", DESIGN)
    stored = store.to_anndata()
    assert_same_cells(stored, ad.concat([make_cells(0), make_cells(1)]))
    assert store.design.split_key == "split"
    obs = stored.obs.astype(str)
    expected = pd.Series("train", index=obs.index)
    perturbed = obs["gene"] != "non-targeting"
    expected[perturbed & (obs["dataset"] == "first") & (obs["cell_type"] == "rpe1")] = "test"
    few = perturbed & (obs["dataset"] == "second") & (obs["cell_type"] == "k562")
    expected[few & (obs["gene"] == "A")] = "validation"
    expected[few & (obs["gene"] == "B")] = "test"
    assert obs["split"].tolist() == expected.tolist()
    assert set(obs["dataset"][obs.index.str.startswith("s0")]) == {"first"}


def test_a_split_that_was_saved_for_cell_load_is_that_of_the_store(tmp_path):
    cells = make_cells(0)
    keys = {"perturbation_key": "gene", "control": "non-targeting", "context_keys": "cell_type"}
    pp.split(cells, holdout={"cell_type": "rpe1"}, validation={"cell_type": "k562", "gene": "A"}, **keys)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    pp.save_split(cells, tmp_path / "split.toml", dataset="screen", file="cells.h5ad")
    store = from_cell_load(tmp_path / "split.toml", tmp_path / "out.zarr", DESIGN)
    assert store.obs["split"].value_counts().to_dict() == cells.obs["split"].value_counts().to_dict()


def test_controls_are_not_held_out_however_they_are_spelled(cell_load, tmp_path):
    cells = make_cells(0)
    cells.obs["gene"] = cells.obs["gene"].astype(str).replace("non-targeting", "non-targeting+non-targeting")
    cells.write_h5ad(tmp_path / "first" / "cells.h5")
    obs = from_cell_load(cell_load, tmp_path / "out.zarr", DESIGN).to_anndata().obs.astype(str)
    held_out = obs.loc[(obs["dataset"] == "first") & (obs["split"] == "test"), "gene"]
    assert len(held_out) and "non-targeting+non-targeting" not in set(held_out)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("[training]\nfirst", "[training]\nfrist"), UnknownNameError, "Did you mean 'first'"),
        (('= "test"', '= "tset"'), UnknownNameError, "unknown split: 'tset'"),
        (
            ("first.rpe1", "first.rpe_1"),
            UnknownNameError,
            "cell type: 'rpe_1'.*data set 'first'.*Did you mean 'rpe1'",
        ),
        (("first.rpe1", "first"), UnknownNameError, "unknown cell type: ''"),
        (("second.k562", "second.K562"), UnknownNameError, "unknown cell type: 'K562'.*data set 'second'"),
        (('test = ["B"]', 'test = ["B", "BB"]'), UnknownNameError, "'BB'.*'k562'.*Known: 'A', 'B'"),
        (("/second/*.h5", "/nothing"), StoreError, "no .h5 or .h5ad files"),
        (("[datasets]", "[datasets"), StoreError, "no TOML file, or it is damaged"),
    ],
)
def test_mistakes_in_the_toml_are_named(cell_load, tmp_path, change, error, message):
    cell_load.write_text(cell_load.read_text().replace(*change))
    with pytest.raises(error, match=message):
        from_cell_load(cell_load, tmp_path / "out.zarr", DESIGN)
    assert not list(tmp_path.glob("out.zarr*"))


def test_what_any_file_of_a_data_set_has_may_be_held_out(cell_load, tmp_path):
    more = make_cells(2)
    more.obs["cell_type"] = pd.Categorical(more.obs["cell_type"].astype(str).replace({"rpe1": "jurkat"}))
    more.obs["gene"] = pd.Categorical(more.obs["gene"].astype(str).replace({"B": "C"}))
    more.write_h5ad(tmp_path / "second" / "more.h5")
    text = cell_load.read_text().replace('"first.rpe1" = "test"', '"first.rpe1" = "test"\n"second.jurkat" = "test"')
    cell_load.write_text(text.replace('test = ["B"]', 'test = ["B", "C", "non-targeting"]'))
    obs = from_cell_load(cell_load, tmp_path / "out.zarr", DESIGN).read_obs().astype(str)
    few = (obs["dataset"] == "second") & (obs["cell_type"] == "k562")
    assert set(obs["split"][few & obs["gene"].isin(["B", "C"])]) == {"test"}
    assert set(obs["split"][obs["gene"] == "non-targeting"]) == {"train"}
    assert set(obs["split"][(obs["cell_type"] == "jurkat") & (obs["gene"] != "non-targeting")]) == {"test"}


def test_cell_types_are_not_held_out_without_a_context(cell_load, tmp_path):
    with pytest.raises(OptionError, match="design does not say where they are.*context_keys"):
        from_cell_load(cell_load, tmp_path / "out.zarr", Design("gene", "non-targeting"))
    cell_load.write_text(cell_load.read_text().split("[zeroshot]")[0])
    store = from_cell_load(cell_load, tmp_path / "out.zarr", Design("gene", "non-targeting"))
    assert set(store.read_obs(["split"])["split"]) == {"train"}


@pytest.mark.filterwarnings("ignore")
def test_collections_of_annbatch(tmp_path):
    paths = []
    for seed in range(2):
        paths.append(tmp_path / f"{seed}.h5ad")
        make_cells(seed).write_h5ad(paths[-1])
    annbatch.DatasetCollection(tmp_path / "collection.zarr").add_adatas(
        paths, n_obs_per_chunk=8, shard_size=16, dataset_size=50, shuffle_chunk_size=10
    )
    store = from_annbatch(tmp_path / "collection.zarr", tmp_path / "out.zarr", DESIGN)
    assert len(store.manifest.sources) > 1
    assert_same_cells(store.to_anndata(), ad.concat([make_cells(0), make_cells(1)]))
    with pytest.raises(StoreError, match="no collection of annbatch"):
        from_annbatch(tmp_path, tmp_path / "other.zarr", DESIGN)


@pytest.mark.filterwarnings("ignore")
def test_scdl_there_and_back(tmp_path):
    store = build_store([make_cells(0)], tmp_path / "a.zarr", DESIGN)
    to_scdl(store, tmp_path / "scdl")
    back = from_scdl(tmp_path / "scdl", tmp_path / "b.zarr", DESIGN)
    assert_same_cells(back.to_anndata(), make_cells(0))
    np.testing.assert_array_equal(back.library_size.sum(), store.library_size.sum())
    with pytest.raises(StoreError, match="something already"):
        to_scdl(store, tmp_path / "scdl")


@pytest.mark.filterwarnings("ignore")
def test_what_scdl_wrote_and_what_it_reads(tmp_path):
    from bionemo.scdl.io.single_cell_memmap_dataset import SingleCellMemMapDataset

    cells = make_cells(0)
    cells.obs_names = [f"cell{i}" for i in range(60)]  # SCDL keeps the columns of obs, not its index
    cells.write_h5ad(tmp_path / "a.h5ad")
    SingleCellMemMapDataset(str(tmp_path / "scdl"), str(tmp_path / "a.h5ad"), use_X_not_raw=True)
    store = from_scdl(tmp_path / "scdl", tmp_path / "a.zarr", DESIGN)
    assert_same_cells(store.to_anndata(), cells)
    to_scdl(store, tmp_path / "ours")
    theirs = SingleCellMemMapDataset(str(tmp_path / "ours"))
    (values, genes), _, labels = theirs.get_row(7, return_obs_features=True, obs_feature_names=["gene"])
    stored = store.to_anndata()
    assert np.array_equal(values, stored.X[7].data) and np.array_equal(genes, stored.X[7].indices)
    assert labels == [stored.obs["gene"].iloc[7]] and len(theirs) == 60
    with pytest.raises(UnknownNameError, match="variable feature"):
        from_scdl(tmp_path / "scdl", tmp_path / "b.zarr", DESIGN, gene_key="symbol")
    with pytest.raises(StoreError, match="does not exist"):
        from_scdl(tmp_path / "none", tmp_path / "b.zarr", DESIGN)


def test_without_bionemo_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bionemo.scdl.io.single_cell_memmap_dataset", None)
    with pytest.raises(DependencyError, match=r"transpert\[bionemo\]"):
        from_scdl(tmp_path, tmp_path / "out.zarr", DESIGN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing required field `datasets`"),
        ("datasets = 3", "Expected `object`, got `int`"),
        ("datasets = {s = 3}", "Expected `str`, got `int`"),
        ('datasets = {s = "x"}', "no data set is used"),
        ('datasets = {s = "x"}\ntraining = {s = "test"}', "would train on all of it.*zeroshot"),
        ('datasets = {s = "x"}\ntraining = ["s"]', "Expected `object`, got `array`"),
        ('datasets = {s = "x"}\ntraining = {s = "train"}\nzero_shot = {"s.B" = "test"}', "unknown field `zero_shot`"),
        ('datasets = {s = "x"}\nzeroshot = {"s.B" = 1}', "Expected `str`, got `int`"),
        ('datasets = {s = "x"}\nfewshot = {"s.B" = ["P0"]}', "Expected `object`, got `array`"),
        ('datasets = {s = "x"}\nfewshot = {"s.B" = {test = "P0"}}', "Expected `array`, got `str`"),
        ('datasets = {s = "x"}\nfewshot = {"s.B" = {test = [1]}}', "Expected `str`, got `int`"),
        ("\0", "no TOML file, or it is damaged"),
    ],
)
def test_a_file_of_cell_load_that_says_something_else_is_refused(tmp_path, text, message) -> None:
    (tmp_path / "split.toml").write_text(text)
    design = Design("perturbation", "control", ("context",))
    with pytest.raises(StoreError, match=message) as caught:
        from_cell_load(tmp_path / "split.toml", tmp_path / "cells.zarr", design)
    assert caught.value.remedy and [path.name for path in tmp_path.iterdir()] == ["split.toml"]
