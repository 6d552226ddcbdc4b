"""Cells of an AnnData wherever it lives: in memory, backed, lazy, or a file of which only the asked rows are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from transpert import _keys
from transpert._anndata import check_kind, frame, layer_names, matrix_of, metadata_of, modality_of, own_metadata
from transpert._counts import read_counts, read_log1p
from transpert._matrices import Matrix, canonical, is_in_memory
from transpert._scale import evenly_spread_rows
from transpert.data.readers.files import CellFile, slot_name, take_rows
from transpert.errors import CountsError, GeneError, MetricInputError, UnknownNameError, list_names

type Data = AnnData | MuData | str | os.PathLike
# reads log1p counts per 10k, and raw counts where they are asked for, when it is called: here or on a worker
type Fetch = Callable[[], tuple[Matrix, Matrix | None]]


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """One matrix of cells x genes, in an object or in a file."""

    where: str
    read: Callable[..., Matrix]  # checks values, and returns them in canonical form
    matrix: Any = None
    file: CellFile | None = None
    layer: str | None = None
    checked: bool = False

    def rows(self, rows: np.ndarray, columns: np.ndarray | None, what: str) -> Matrix:
        """Read some cells, all genes or some of them; errors name the cells ``what``."""
        block = self._taken(rows)
        if not self.checked:
            block = _as_float(self.read(block, where=f"{self.where} of {what}"))
        return block if columns is None else _sorted(block[:, columns])

    def _taken(self, rows: np.ndarray) -> Any:
        """Take some cells, all genes, as they are."""
        return take_rows(self.matrix, rows) if self.file is None else self.file.rows(self.layer, rows)

    def peek(self, rows: np.ndarray, columns: np.ndarray | None) -> Matrix:
        """Read some cells, whose values may be anything."""
        block = canonical(self._taken(rows), where=self.where)
        return block if columns is None else _sorted(block[:, columns])


@dataclass(frozen=True, slots=True, eq=False)
class CellReader:
    """Labels in memory, values read when they are needed."""

    name: str
    obs: pd.DataFrame
    genes: pd.Index
    metadata: Mapping[str, Any]
    values: Slot
    counts: Slot | None = None
    columns: np.ndarray | None = None
    layers: tuple[str, ...] = ()

    def with_genes(self, genes: pd.Index) -> CellReader:
        """Return a reader of these genes, in this order; they must exist."""
        positions = self.genes.get_indexer(genes)
        same = len(genes) == len(self.genes) and np.array_equal(positions, np.arange(len(positions)))
        return replace(self, genes=genes, columns=None if same else positions)

    def fetch(self, rows: np.ndarray, what: str, *, with_counts: bool = False) -> Fetch:
        """Return what reads some cells, in the order of ``rows``, which may repeat; errors name them ``what``.

        Cells in memory are cut out at once. Cells in a file are read by whoever calls the result.
        """
        counts = self.counts if with_counts else None
        read = partial(_read, self.values, counts, rows, self.columns, f"{self.name}, {what}")
        if self.values.file is not None:
            return read
        return partial(_same, read())

    def peek(self, rows: np.ndarray) -> tuple[Matrix, Matrix | None]:
        """Read values and counts of some cells unchecked; whoever uses them is to check them."""
        unique, back = np.unique(rows, return_inverse=True)
        slots = (self.values, self.counts)
        blocks = [None if slot is None else slot.peek(unique, self.columns) for slot in slots]
        return cast(tuple[Matrix, Matrix | None], tuple(None if block is None else block[back] for block in blocks))

    def read(self, rows: np.ndarray, what: str) -> Matrix:
        """Read log1p counts per 10k of some cells."""
        return self.fetch(rows, what)()[0]


def _same(value: Any) -> Any:
    return value


def _read(
    values: Slot, counts: Slot | None, rows: np.ndarray, columns: np.ndarray | None, what: str
) -> tuple[Matrix, Matrix | None]:
    # files want positions in ascending order, each once
    unique, back = np.unique(rows, return_inverse=True)
    straight = bool(np.array_equal(unique, rows))
    found = (None if slot is None else slot.rows(unique, columns, what) for slot in (values, counts))
    first, second = (block if block is None or straight else block[back] for block in found)
    assert first is not None
    return first, second


def check_readable(data: object, *, name: str, several: bool = False) -> None:
    """Refuse what is neither an object with cells nor the path of one; errors call it ``name``."""
    wanted = "an AnnData, a MuData, or the path of an .h5ad file or zarr folder"
    check_kind(data, (AnnData, MuData, str, os.PathLike), name=name, wanted=wanted, several=several)


def open_cells(
    data: Data,
    *,
    name: str,
    layer: str | None = None,
    counts_layer: str | None = None,
    modality: str | None = None,
) -> CellReader:
    """Open an AnnData, a MuData, or the path of one, without reading its values."""
    check_readable(data, name=name)
    if isinstance(data, str | os.PathLike):
        reader = _open_file(Path(data), name, layer, counts_layer)
    else:
        reader = _open_object(modality_of(data, modality), name, layer, counts_layer)
    if not len(reader.obs) or not len(reader.genes):
        raise MetricInputError(
            f"there are {len(reader.obs)} cells and {len(reader.genes)} genes",
            where=name,
            remedy="Give cells with at least one gene.",
        )
    repeated = reader.genes[reader.genes.duplicated()].unique()
    if len(repeated):
        raise GeneError(
            f"{len(repeated)} gene names occur more than once: {list_names(repeated)}",
            where=f"var_names of {name}",
            remedy="Make them unique, for example with adata.var_names_make_unique().",
        )
    return reader


# --- objects -------------------------------------------------------------------------------------------------


def _open_object(adata: AnnData, name: str, layer: str | None, counts_layer: str | None) -> CellReader:
    layers, (matrix, slot) = layer_names(adata), matrix_of(adata, layer, where=name)
    obs = frame(adata.obs)
    values = _slot(matrix, slot, name, read_log1p)
    counts = None
    if counts_layer in layers:
        counts = _slot(adata.layers[counts_layer], slot_name(counts_layer), name, read_counts)
    elif layer is not None and counts_layer is not None and adata.X is not None:
        counts = _if_counts(Slot("X", read_counts, adata.X), len(obs))
    metadata = _plain(metadata_of(adata))
    return CellReader(name, obs, _names(adata.var_names), metadata, values, counts, layers=tuple(layers))


def _if_counts(slot: Slot, n_cells: int) -> Slot | None:
    """Return X if some of its cells are counts: the values are in a layer then."""
    try:
        slot.rows(evenly_spread_rows(n_cells), None, "some cells")
    except CountsError:
        return None
    return slot


def _slot(matrix: Any, where: str, name: str, read: Callable[..., Matrix]) -> Slot:
    if matrix is None:
        raise _no_matrix(where, name)
    if not is_in_memory(matrix):
        return Slot(where, read, matrix)  # backed or lazy: read, and checked, in parts
    return Slot(where, read, _as_float(read(matrix, where=f"{where} of {name}")), checked=True)


def _no_matrix(slot: str, where: str) -> UnknownNameError:
    return UnknownNameError("slot", [slot], [], where=where, remedy="Pass layer= with log1p counts per 10k.")


def _names(names: Any) -> pd.Index:
    return pd.Index(np.asarray(names, dtype=str).astype(object))


def _plain(values: Any) -> Any:
    """Bring a few words of a lazy ``uns`` into memory."""
    if isinstance(values, Mapping):
        return {str(key): _plain(value) for key, value in values.items() if key != _keys.SCORES}
    return values.compute() if hasattr(values, "compute") else values


# --- files ---------------------------------------------------------------------------------------------------


def _open_file(path: Path, name: str, layer: str | None, counts_layer: str | None) -> CellReader:
    """Open the matrices of a file without reading their values."""
    file = CellFile(path)
    if not file.has(layer):
        raise _no_matrix(slot_name(layer), str(path))
    n_cells = file.matrix(layer).shape[0]
    counts = None
    if counts_layer in file.layers:
        file.matrix(counts_layer)  # refused here and not among the first cells
        counts = Slot(slot_name(counts_layer), read_counts, file=file, layer=counts_layer)
    elif layer is not None and counts_layer is not None and file.has(None):
        counts = _if_counts(Slot("X", read_counts, file=file), n_cells)
    obs, metadata = file.obs(file.columns()), own_metadata(_plain(file.uns(_keys.UNS)))
    values = Slot(slot_name(layer), read_log1p, file=file, layer=layer)
    return CellReader(name, obs, _names(file.genes), metadata, values, counts, layers=file.layers)


# --- values --------------------------------------------------------------------------------------------------


def _as_float(matrix: Matrix) -> Matrix:
    return matrix if matrix.dtype in (np.float32, np.float64) else matrix.astype(np.float32)


def _sorted(matrix: Matrix) -> Matrix:
    return matrix if isinstance(matrix, np.ndarray) else matrix.sorted_indices()
