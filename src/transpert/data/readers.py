"""Cells of one file, block by block, whatever the file is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import zarr
from scipy import sparse

from transpert._anndata import frame
from transpert._counts import check_there
from transpert.errors import CountsError, GeneError, StoreError, UnknownNameError, list_names

__all__ = ["AnnDataReader", "CountReader", "FileReader", "open_reader", "zarrs_pipeline"]


class CountReader(Protocol):
    """Cells that can be read in order.

    Attributes
    ----------
    name
        What to call it in messages and in the manifest.
    genes
        Names of the genes.
    obs_columns
        Names of the columns of ``obs``.
    n_obs, nnz
        Number of cells and of stored counts.
    """

    name: str
    genes: pd.Index
    obs_columns: tuple[str, ...]
    n_obs: int
    nnz: int

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns of ``obs``; the index holds the names of the cells."""
        ...

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return the counts of a range of cells."""
        ...

    def signature(self) -> list:
        """Return what identifies the cells, to recognise an interrupted build."""
        ...

    def empty_cells(self) -> int:
        """Return the number of cells without a stored count."""
        ...


def _index(group: Any) -> pd.Index:
    """The names of cells or genes in a file."""
    names: Any = ad.io.read_elem(group[group.attrs["_index"]])
    return pd.Index(names).astype(str)


class AnnDataReader:
    """An AnnData in memory."""

    def __init__(self, adata: ad.AnnData, layer: str | None = None) -> None:
        matrix = adata.X if layer is None else adata.layers[layer]
        check_there(matrix, where="X")
        self._counts, self._obs = sparse.csr_matrix(matrix), frame(adata.obs)
        self.name, self.genes = "AnnData", pd.Index(adata.var_names.astype(str))
        self.obs_columns = tuple(map(str, adata.obs.columns))
        self.n_obs, self.nnz = adata.n_obs, self._counts.nnz

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns of ``obs``."""
        return self._obs[list(columns)]

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return the counts of a range of cells."""
        return self._counts[start:stop]

    def signature(self) -> list:
        """Return shape and sum of the counts."""
        return [self.name, self.n_obs, self.nnz, float(self._counts.sum())]

    def empty_cells(self) -> int:
        """Return the number of cells without a stored count."""
        return int(np.count_nonzero(np.diff(self._counts.indptr) == 0))


class FileReader:
    """An AnnData in an ``.h5ad`` file or a zarr folder, of which only the asked rows are read.

    Raises
    ------
    transpert.errors.StoreError
        If the file does not exist or is no AnnData.
    transpert.errors.UnknownNameError
        If there is no such layer.
    transpert.errors.CountsError
        If the counts are stored by column.
    """

    def __init__(self, path: str | os.PathLike, layer: str | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.name
        if not self.path.exists():
            raise StoreError("the file does not exist", where=str(path), remedy="Check the path.")
        try:
            # Any: h5py and zarr share an interface, but no type
            group: Any = zarr.open_group(self.path, mode="r") if self.path.is_dir() else h5py.File(self.path, "r")
            self._obs_group, self._var_group = group["obs"], group["var"]
        except (OSError, KeyError, ValueError) as error:
            raise StoreError("the file is no AnnData, or is damaged", where=str(path)) from error
        self._matrix = self._open_matrix(group, layer)
        self.genes = _index(self._var_group)
        self.obs_columns = tuple(map(str, self._obs_group.attrs["column-order"]))
        self.n_obs = int(self._matrix.shape[0])
        stored = self._matrix.group["data"].shape[0] if self._is_sparse else self.n_obs * len(self.genes)
        self.nnz = int(stored)

    @property
    def _is_sparse(self) -> bool:
        return isinstance(self._matrix, ad.abc.CSRDataset)

    def _open_matrix(self, group: Any, layer: str | None) -> Any:
        if layer is not None and layer not in group.get("layers", {}):
            raise UnknownNameError("layer", [layer], group.get("layers", {}), where=str(self.path))
        element = group["X"] if layer is None else group["layers"][layer]
        encoding = element.attrs.get("encoding-type", "array")
        if encoding == "csr_matrix":
            return ad.io.sparse_dataset(element)
        if encoding == "array":
            return element
        raise CountsError(
            f"the counts are stored as {encoding}, of which single cells cannot be read",
            where=str(self.path),
            remedy="Write them as CSR: adata.X = adata.X.tocsr().",
        )

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns of ``obs``."""
        values = {column: ad.io.read_elem(self._obs_group[column]) for column in columns}
        return pd.DataFrame(values, index=_index(self._obs_group))

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return the counts of a range of cells."""
        return sparse.csr_matrix(self._matrix[start:stop])

    def signature(self) -> list:
        """Return path, size and time of the file."""
        stat = self.path.stat()
        return [str(self.path.resolve()), stat.st_size, stat.st_mtime_ns, self.n_obs]

    def empty_cells(self) -> int:
        """Return the number of cells without a stored count; not looked for in a dense matrix."""
        if not self._is_sparse:
            return 0
        return int(np.count_nonzero(np.diff(self._matrix.group["indptr"][:]) == 0))


def open_reader(item: str | os.PathLike | ad.AnnData | CountReader, layer: str | None = None) -> CountReader:
    """Return a reader of a path or an AnnData; a reader is returned as it is.

    Raises
    ------
    transpert.errors.GeneError
        If a gene name occurs twice.
    """
    if isinstance(item, ad.AnnData):
        reader: CountReader = AnnDataReader(item, layer)
    elif isinstance(item, str | os.PathLike):
        reader = FileReader(item, layer)
    else:
        reader = item
    repeated = reader.genes[reader.genes.duplicated()]
    if len(repeated):
        raise GeneError(
            f"{len(repeated)} gene names occur more than once: {list_names(repeated.unique())}",
            where=reader.name,
            remedy="Make them unique: adata.var_names_make_unique().",
        )
    return reader


@contextmanager
def zarrs_pipeline() -> Iterator[None]:
    """Open arrays with the codec pipeline written in Rust, which reads many small chunks at once."""
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        yield
