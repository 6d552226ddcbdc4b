"""The tables of a store: its genes, and the annotation and names of its cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from transpert.errors import StoreError, check_known

from .manifest import GENES, Manifest

GENE = "gene"
_INDEX = "__index_level"


class Tables:
    """The tables of a store, each compared with its checksum when it is first read."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder, self._manifest = folder, manifest
        self._verified: set[str] = set()
        self._genes: pd.Index | None = None

    @property
    def genes(self) -> pd.Index:
        """Names of the genes."""
        if self._genes is None:
            with self._file(GENES) as path:
                self._genes = pd.Index(pd.read_parquet(path)[GENE])
        return self._genes.copy()

    @property
    def obs_columns(self) -> tuple[str, ...]:
        """Names of all columns of ``obs``."""
        with self._file(self._manifest.obs_files[0]) as path:
            names = pq.read_schema(path).names
        return tuple(name for name in names if not name.startswith(_INDEX))

    def read_obs(self, columns: Sequence[str] | None, *, names: bool) -> pd.DataFrame:
        """Read columns of ``obs``, all by default, with the names of the cells as index if asked."""
        wanted = list(self.obs_columns if columns is None else columns)
        check_known("column", wanted, self.obs_columns, where=f"obs of {self._folder}")
        tables = []
        for file in self._manifest.obs_files:
            with self._file(file) as path:
                # without the metadata of pandas no index is read: the names are the largest column
                tables.append(pq.read_table(path, columns=wanted, use_pandas_metadata=names).to_pandas())
        joined = {name: concatenate([table[name] for table in tables]) for name in wanted}
        index = tables[0].index.append([table.index for table in tables[1:]]) if names else None
        return pd.DataFrame(joined, index=index)

    def names(self, positions: np.ndarray) -> np.ndarray:
        """Read the names of some cells; the tables are read in blocks, of which only those needed."""
        found = np.empty(len(positions), dtype=object)
        start = 0
        for file in self._manifest.obs_files:
            with self._file(file) as path:
                table = pq.ParquetFile(path)
                for block in range(table.num_row_groups):
                    stop = start + table.metadata.row_group(block).num_rows
                    here = np.flatnonzero((positions >= start) & (positions < stop))
                    if len(here):
                        names = _names_of_block(table, block)
                        found[here] = names.take(pa.array(positions[here] - start)).to_pylist()
                    start = stop
        return found

    def known_names(self, names: pd.Index) -> np.ndarray:
        """Return which of some names are those of cells, ``(len(names),)`` bool; the names must be unique."""
        known = np.zeros(len(names), dtype=bool)
        for file in self._manifest.obs_files:
            with self._file(file) as path:
                table = pq.ParquetFile(path)
                for block in range(table.num_row_groups):
                    found = names.get_indexer(pd.Index(_names_of_block(table, block).to_pylist(), dtype="str"))
                    known[found[found >= 0]] = True
        return known

    @contextmanager
    def _file(self, name: str) -> Iterator[Path]:
        """Check a table, and name it where reading it fails all the same."""
        if name not in self._verified:
            self._manifest.check(self._folder, checksum=True, names=[name])
            self._verified.add(name)
        try:
            yield self._folder / name
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise StoreError(
                f"the table cannot be read: {error}",
                where=str(self._folder / name),
                remedy="Store(path).verify() names the damaged files; restore them.",
            ) from error


def _names_of_block(table: pq.ParquetFile, block: int) -> pa.ChunkedArray:
    index = [name for name in table.schema_arrow.names if name.startswith(_INDEX)]
    return table.read_row_group(block, columns=index).column(0)


def concatenate(columns: list[pd.Series]) -> pd.Series | pd.Categorical:
    """Join columns of several tables; the categories of labels are united."""
    if all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
        return pd.api.types.union_categoricals([column.array for column in columns], ignore_order=True)
    return pd.concat(columns, ignore_index=True).array
