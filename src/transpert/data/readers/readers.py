"""Cells of one file, block by block, whatever the file is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import anndata as ad
import numpy as np
import pandas as pd
import zarr
from scipy import sparse

from transpert import pp
from transpert._anndata import frame, matrix_of
from transpert._matrices import canonical, check_starts
from transpert.errors import (
    GeneError,
    OptionError,
    list_names,
)

from .files import CellFile

IN_MEMORY = "AnnData"  # the name of whatever comes from no file


@runtime_checkable
class CountReader(Protocol):
    """Cells that can be read in order."""

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


class AnnDataReader:
    """An AnnData in memory."""

    def __init__(self, adata: ad.AnnData, layer: str | None = None) -> None:
        pp.check_not_backed(adata)
        matrix, where = matrix_of(adata, layer)
        self._counts, self._obs = (
            sparse.csr_matrix(canonical(matrix, where=where)),
            frame(adata.obs).rename(columns=str),
        )
        self.name, self.genes = IN_MEMORY, pd.Index(adata.var_names.astype(str))
        self.obs_columns = tuple(map(str, adata.obs.columns))
        self.n_obs, self.nnz = adata.n_obs, self._counts.nnz
        self._layer = layer

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns of ``obs``."""
        return self._obs[list(columns)]

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return the counts of a range of cells."""
        return self._counts[start:stop]

    def signature(self) -> list:
        """Return shape and sum of the counts, and which layer they are."""
        return [self.name, self._layer, self.n_obs, self.nnz, float(self._counts.sum())]

    def empty_cells(self) -> int:
        """Return the number of cells without a stored count."""
        return int(np.count_nonzero(np.diff(self._counts.indptr) == 0))


class FileReader:
    """An AnnData in an ``.h5ad`` file or a zarr folder, of which only the asked rows are read."""

    def __init__(self, path: str | os.PathLike, layer: str | None = None) -> None:
        self.path = Path(path)
        self.name, self._layer, self._file = self.path.name, layer, CellFile(self.path)
        self._matrix = self._file.matrix(layer)
        self.genes, self.obs_columns = self._file.genes, self._file.columns()
        self.n_obs, n_vars = map(int, self._matrix.shape)
        with self._file.errors_named():
            self.nnz = int(self._matrix.group["data"].shape[0]) if self._is_sparse else self.n_obs * n_vars
            if self._is_sparse:
                check_starts(self._matrix.group["indptr"][:], self.n_obs, self.nnz, where=str(path))

    @property
    def _is_sparse(self) -> bool:
        return isinstance(self._matrix, ad.abc.CSRDataset)

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns of ``obs``."""
        return self._file.obs(columns)

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return the counts of a range of cells."""
        with self._file.errors_named("AnnData with counts"):
            block = self._matrix[start:stop]
        return sparse.csr_matrix(canonical(block, where=f"cells {start} to {stop} of {self.path}"))

    def signature(self) -> list:
        """Return path, size and time of the file, or of all files of the folder, and which layer is read."""
        return [*state_of(self.path), self._layer, self.n_obs]

    def empty_cells(self) -> int:
        """Return the number of cells without a stored count; not looked for in a dense matrix."""
        if not self._is_sparse:
            return 0
        with self._file.errors_named("AnnData with counts"):
            return int(np.count_nonzero(np.diff(self._matrix.group["indptr"][:]) == 0))


def state_of(path: Path) -> list:
    """Return what changes when a file, or a file anywhere in a folder, is written again."""
    if not path.is_dir():
        stat = path.stat()
        return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
    # the time of a folder says nothing of what lies deeper in it
    digest = hashlib.blake2b(digest_size=12)
    for file in sorted(path.rglob("*")):
        if file.is_file():
            stat = file.stat()
            digest.update(f"{file.relative_to(path).as_posix()}\n{stat.st_size} {stat.st_mtime_ns}\n".encode())
    return [str(path.resolve()), digest.hexdigest()]


def open_reader(item: str | os.PathLike | ad.AnnData | CountReader, layer: str | None = None) -> CountReader:
    """Return a reader of a path or an AnnData; a reader is returned as it is."""
    if isinstance(item, ad.AnnData):
        reader: CountReader = AnnDataReader(item, layer)
    elif isinstance(item, str | os.PathLike):
        reader = FileReader(item, layer)
    elif isinstance(item, CountReader):
        reader = item
    else:
        raise OptionError(
            f"cells cannot be read from {type(item).__name__}", remedy="Give paths of files, or AnnData objects."
        )
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
