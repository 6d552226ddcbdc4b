"""Cells from and to the formats of others: cell-load, annbatch, BioNeMo SCDL."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from transpert import _keys
from transpert._arguments import check_arguments
from transpert._docstrings import fill_docstring
from transpert._files import reading
from transpert._folders import folder_written
from transpert._matrices import check_starts, csr_of_parts, narrowed
from transpert._signatures import as_annotated
from transpert.errors import DependencyError, OptionError, StoreError, UnknownNameError
from transpert.groups import Design
from transpert.pp._splits.cell_load import HeldOut, read_settings, used_datasets

from ..readers.readers import CountReader, open_reader, state_of
from ..store.build import check_parent
from ..store.store import Store, build_store

DATASET = "dataset"
_GENE_FEATURE, _CELL_FEATURE = "var_feature_id", "obs_feature_id"  # what SCDL calls the names
_CELLS_PER_BLOCK = 20_000
_SCDL_REMEDY = "Give the folder that to_scdl, or BioNeMo, wrote; convert it again if it is damaged."


# --- cell-load ----------------------------------------------------------------------------------------------------
def from_cell_load(
    config: str | os.PathLike, out: str | os.PathLike, design: Design, *, layer: str | None = None, **options: Any
) -> Store:
    """Build a store from the files and the split of a TOML file of cell-load.

    Parameters
    ----------
    config
        The TOML file: ``[datasets]`` with a folder, file or pattern each; ``[training]``; ``[zeroshot]`` and
        ``[fewshot]`` with keys ``"dataset.celltype"``.
    out
        The store to make.
    design
        Which columns say what; ``design.context_keys[0]`` is what cell-load calls the cell type. Where
        ``design.split_key`` is ``None`` it becomes ``"split"``.
    layer
        Layer with the raw counts; ``X`` by default.
    **options
        Passed to :func:`build_store`.

    Returns
    -------
    The store, with the columns ``dataset`` and ``split``. As in cell-load, controls of held-out cell types and what
    a few-shot list leaves out belong to the training.

    Raises
    ------
    transpert.errors.StoreError
        If the file cannot be read, or a data set has no files.
    transpert.errors.UnknownNameError
        If a data set is used but has no path, a split has another name than train, val and test, or a held-out cell
        type or perturbation is in none of the files of its data set.
    transpert.errors.OptionError
        If cell types are held out and the design has no context.

    Notes
    -----
    The layout is that of cell-load 0.10.4 (``ExperimentConfig``).

    Examples
    --------
    >>> import tempfile, transpert as tp
    >>> from pathlib import Path
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=1, n_genes=5, n_cells=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     adata.write_h5ad(f"{folder}/cells.h5ad")
    ...     _ = Path(folder, "split.toml").write_text('''
    ...         datasets = {screen = "cells.h5ad"}
    ...         training = {screen = "train"}
    ...         zeroshot = {"screen.context_1" = "test"}
    ...     ''')
    ...     design = tp.groups.Design("perturbation", "control", ("context",))
    ...     store = tp.data.from_cell_load(f"{folder}/split.toml", f"{folder}/cells.zarr", design, layer="counts")
    ...     store.obs["split"].value_counts().to_dict()
    {'train': 30, 'test': 10}
    """
    check_arguments(locals())
    path = Path(config)
    settings = read_settings(path)
    named = replace(design, split_key=design.split_key or _keys.SPLIT)
    if not named.context_keys and (settings.zeroshot or settings.fewshot):
        raise OptionError(
            "cell types are held out, and the design does not say where they are",
            where=str(path),
            remedy="Name the column with the cell types first in context_keys of the design.",
        )
    readers: list[CountReader] = []
    for name in used_datasets(settings, path):
        files = _files(path.parent / settings.datasets[name])
        if not files:
            raise StoreError(
                "the data set has no .h5 or .h5ad files",
                where=settings.datasets[name],
                remedy="Check the path under [datasets]; it is read from the folder of the settings.",
            )
        held_out = HeldOut(name, settings, named, len(files), path)
        readers.extend(_CellLoadReader(file, layer, name, held_out, named) for file in files)
    return build_store(readers, out, named, **options)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = [path] if any(sign in str(path) for sign in "*?[") else [path / "*.h5", path / "*.h5ad"]
    return [Path(file) for pattern in found for file in sorted(glob.glob(str(pattern)))]


class _CellLoadReader:
    """A file of cell-load with the split that its TOML file says."""

    def __init__(self, path: Path, layer: str | None, dataset: str, held_out: HeldOut, design: Design) -> None:
        self._path, self._dataset, self._held_out, self._design = path, dataset, held_out, design
        self._file = open_reader(path, layer)
        self.name, self.genes = f"{dataset}/{self._file.name}", self._file.genes
        self.n_obs, self.nnz = self._file.n_obs, self._file.nnz
        self.obs_columns = tuple(dict.fromkeys([*self._file.obs_columns, DATASET, str(design.split_key)]))

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        made = {DATASET, self._design.split_key}
        needed = [self._design.perturbation_key, *self._design.context_keys]
        obs = self._file.obs(list(dict.fromkeys([*(name for name in columns if name not in made), *needed])))
        obs[DATASET] = self._dataset
        obs[self._design.split_key] = self._held_out.split(obs, self._path)
        return obs[list(columns)]

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        return self._file.rows(start, stop)

    def signature(self) -> list:
        return [self.name, *self._file.signature()]

    def empty_cells(self) -> int:
        return self._file.empty_cells()


# --- annbatch -------------------------------------------------------------------------------------------------------
@as_annotated()
@fill_docstring
def from_annbatch(collection: str | os.PathLike, out: str | os.PathLike, design: Design, **options: Any) -> Store:
    """Build a store from a collection of annbatch.

    Parameters
    ----------
    collection
        The folder that :class:`annbatch.DatasetCollection` wrote.
    out
        The store to make.
    design
        Which columns say what.
    %(store_made)s

    Raises
    ------
    transpert.errors.StoreError
        If the folder holds no data sets.

    Examples
    --------
    >>> import annbatch, tempfile, transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=5, n_cells=10)
    >>> adata.X = adata.layers.pop("counts")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     adata.write_h5ad(f"{folder}/cells.h5ad")
    ...     collection = annbatch.DatasetCollection(f"{folder}/collection.zarr")
    ...     _ = collection.add_adatas([f"{folder}/cells.h5ad"], n_obs_per_chunk=5, shard_size=10, shuffle_chunk_size=5)
    ...     design = tp.groups.Design("perturbation", "control")
    ...     tp.data.from_annbatch(f"{folder}/collection.zarr", f"{folder}/cells.zarr", design).shape
    (20, 5)
    """
    folder = Path(collection)
    datasets = [path for path in folder.glob("dataset_*") if (path / "X").exists()]
    if not datasets:
        raise StoreError(
            "this is no collection of annbatch: it has no dataset_0",
            where=str(folder),
            remedy="Give the folder that annbatch.DatasetCollection wrote.",
        )
    datasets.sort(key=lambda path: int(path.name.removeprefix("dataset_")))
    return build_store(datasets, out, design, **options)


# --- BioNeMo SCDL -----------------------------------------------------------------------------------------------------
@as_annotated()
@fill_docstring
def to_scdl(store: Store, folder: str | os.PathLike) -> None:
    """Write a store as a memory map of BioNeMo SCDL, a block of cells at a time.

    Parameters
    ----------
    store
        The store.
    folder
        The folder to make. The names of genes and cells are its features ``var_feature_id`` and ``obs_feature_id``.

    Returns
    -------
    Nothing; the folder is whole once it has its name.

    Raises
    ------
    transpert.errors.DependencyError
        If ``bionemo-scdl`` is not installed.
    transpert.errors.StoreError
        If ``folder`` exists, the folder that is to hold it does not, or a file of the store is damaged.

    Examples
    --------
    %(small_cells)s
    ...     store = tp.data.build_store([adata], f"{folder}/cells.zarr", design, layer="counts")
    ...     tp.data.to_scdl(store, f"{folder}/scdl")
    ...     tp.data.from_scdl(f"{folder}/scdl", f"{folder}/back.zarr", design).shape == store.shape
    True
    """
    dataset_class = _scdl()
    target = Path(folder)
    check_parent(target)

    def check() -> None:
        if target.exists():
            raise StoreError("there is something already", where=str(target), remedy="Choose another name.")

    with folder_written(target, "memory map", StoreError, "call to_scdl again", check=check) as new:
        new.rmdir()  # SCDL makes it itself
        _write_scdl(store, dataset_class, new)


def _write_scdl(store: Store, dataset_class: Any, new: Path) -> None:
    """Write the counts, genes and cells of a store as a memory map."""
    nnz = sum(part["nnz"] for part in store.manifest.parts)
    written = dataset_class(str(new), num_elements=nnz, num_rows=store.n_obs)
    written.row_index[0] = 0
    source, filled = store.source(), 0
    for start in range(0, store.n_obs, _CELLS_PER_BLOCK):
        stop = min(start + _CELLS_PER_BLOCK, store.n_obs)
        counts = source.read(np.arange(start, stop))
        written.data[filled : filled + counts.nnz] = counts.data
        written.col_index[filled : filled + counts.nnz] = counts.indices
        written.row_index[start + 1 : stop + 1] = counts.indptr[1:].astype(np.uint64) + np.uint64(filled)
        filled += counts.nnz
    genes = store.genes.to_numpy(dtype=object)
    written.var_features().append_features(n_obs=store.n_obs, features={_GENE_FEATURE: genes}, label=store.path.name)
    obs = store.read_obs()
    features = {name: _plain(obs[name]) for name in obs} | {_CELL_FEATURE: obs.index.to_numpy(dtype=object)}
    written.obs_features().append_features(features=features, label=store.path.name)
    written.save()


@as_annotated()
@fill_docstring
def from_scdl(
    folder: str | os.PathLike, out: str | os.PathLike, design: Design, *, gene_key: str | None = None, **options: Any
) -> Store:
    """Build a store from a memory map of BioNeMo SCDL.

    Parameters
    ----------
    folder
        The memory map.
    out
        The store to make.
    design
        Which columns of the observed features say what.
    gene_key
        The variable feature with the names of the genes; ``"var_feature_id"``, or the only one, by default.
    %(store_made)s

    Raises
    ------
    transpert.errors.DependencyError
        If ``bionemo-scdl`` is not installed.
    transpert.errors.StoreError
        If the folder is no memory map, or its rows have different genes.
    transpert.errors.UnknownNameError
        If there is no such variable feature.

    Examples
    --------
    %(small_cells)s
    ...     tp.data.to_scdl(tp.data.build_store(adata, f"{folder}/a.zarr", design, layer="counts"), f"{folder}/scdl")
    ...     store = tp.data.from_scdl(f"{folder}/scdl", f"{folder}/b.zarr", design)
    ...     store.shape, store.names([0])[0] in adata.obs_names
    ((20, 5), True)
    """
    return build_store([_ScdlReader(Path(folder), gene_key)], out, design, **options)


def _scdl() -> Any:
    try:
        from bionemo.scdl.io.single_cell_memmap_dataset import SingleCellMemMapDataset
    except ImportError as error:
        raise DependencyError(
            "bionemo-scdl is not installed",
            where="transpert.data",
            remedy="Install it with: pip install 'transpert[bionemo]'.",
        ) from error
    return SingleCellMemMapDataset


def _plain(column: pd.Series) -> np.ndarray:
    return column.to_numpy() if pd.api.types.is_numeric_dtype(column) else column.astype(str).to_numpy(dtype=object)


def _refuse_objects(folder: Path) -> None:
    """Refuse arrays that hold objects, which BioNeMo would unpickle, and a pickle can run code."""
    for path in sorted(folder.glob("*features/*.npy")):
        with reading(StoreError, path, "array of numpy", _SCDL_REMEDY), path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            if read(file)[2].hasobject:
                raise StoreError(
                    "the array is a pickle, which can run code and is not opened",
                    where=str(path),
                    remedy="If you know who wrote it, write its labels again as text.",
                )


class _ScdlReader:
    """A memory map of SCDL."""

    def __init__(self, folder: Path, gene_key: str | None) -> None:
        dataset_class = _scdl()
        if not folder.is_dir():
            raise StoreError("the folder does not exist", where=str(folder), remedy="Check the path.")
        _refuse_objects(folder)
        with reading(StoreError, folder, "memory map of SCDL", _SCDL_REMEDY):
            cells = dataset_class(str(folder))
            blocks = sorted((folder / "var_features").glob("dataframe_*.parquet"))
            tables = [pd.read_parquet(file) for file in blocks]
            described = sorted((folder / "obs_features").glob("dataframe_*.parquet"))
            self._obs = pd.concat([pd.read_parquet(file) for file in described])
            self.n_obs, self.nnz = len(cells.row_index) - 1, len(cells.data)
        if len(blocks) != 1:
            raise StoreError(
                f"the rows have {len(blocks)} different sets of genes",
                where=str(folder),
                remedy="Convert the original files, whose genes can be aligned by name.",
            )
        if len(self._obs) != self.n_obs:
            what = f"{len(self._obs)} cells are described, and {self.n_obs} have counts"
            raise StoreError(what, where=str(folder), remedy=_SCDL_REMEDY)
        self._folder, self._cells, features = folder, cells, tables[0]
        key = gene_key or (_GENE_FEATURE if _GENE_FEATURE in features or features.shape[1] > 1 else features.columns[0])
        if key not in features:
            raise UnknownNameError(
                "variable feature", [key], map(str, features), where=str(folder), remedy="Pass gene_key=."
            )
        self.name, self.genes = folder.name, pd.Index(features[key].astype(str))
        self.obs_columns = tuple(name for name in map(str, self._obs) if name != _CELL_FEATURE)
        self._row_starts = narrowed(np.asarray(cells.row_index), np.int64, where=f"{folder}, row_index")
        check_starts(self._row_starts, self.n_obs, min(self.nnz, len(cells.col_index)), where=str(folder))

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        known = _CELL_FEATURE in self._obs
        names = self._obs[_CELL_FEATURE] if known else [f"cell{i}" for i in range(self.n_obs)]
        return self._obs[list(columns)].set_axis(pd.Index(names).astype("str"))

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        row_starts = self._row_starts[start : stop + 1]
        low, high = int(row_starts[0]), int(row_starts[-1])
        values, genes = (np.asarray(part[low:high]) for part in (self._cells.data, self._cells.col_index))
        shape = (stop - start, len(self.genes))
        return csr_of_parts(values, genes, row_starts - low, shape, where=f"cells {start} to {stop} of {self.name}")

    def signature(self) -> list:
        return [*state_of(self._folder), self.n_obs, self.nnz]

    def empty_cells(self) -> int:
        return int(np.count_nonzero(np.diff(self._row_starts) == 0))
