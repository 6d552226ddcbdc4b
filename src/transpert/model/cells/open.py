"""Cells of a store as the input of a model: read when they are needed, never held together."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from transpert._anndata import frame, modality_of
from transpert.data import CellSource, Store
from transpert.errors import CellError, GeneError, OptionError, StoreError, UnknownNameError, list_names
from transpert.transport import PooledStatistics

from .in_memory import Caching, Cells, DataSource, read_cells
from .statistics import stream_statistics

type Data = AnnData | MuData | Store

# a slice of a store that is read at once: one chunk of a part decodes 32 cells
_SLICE = 64


class StoredCells(Caching):
    """The cells of a store, with the interface of :class:`~transpert.model.cells.Cells`.

    The annotation and the library sizes are in memory, the counts and the names of the cells are read when cells are
    asked for by position.
    """

    embedding: None = None

    def __init__(
        self,
        store: Store,
        source: DataSource,
        *,
        genes: Sequence[str] | np.ndarray | None = None,
        need_controls: bool = True,
    ) -> None:
        if source.embedding_key is not None:
            raise OptionError(
                "a store holds no embedding",
                where=f"embedding_key={source.embedding_key!r}",
                remedy="Train on the genes, or hold the cells in an AnnData.",
            )
        annotation = store.annotation
        obs = frame(annotation.obs)
        source.design.check(obs, need_controls=need_controls)
        self.store = store
        self.obs = obs[list(source.design.columns)]
        self.library_size = store.library_size
        self.genes = np.asarray(annotation.var_names if genes is None else genes, dtype=object)
        self._columns = _columns_of(annotation.var_names, self.genes, str(store.path))
        self._source: CellSource | None = None
        self._cache: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return self.store.n_obs

    def __getitem__(self, positions: np.ndarray) -> Cells:
        positions = np.asarray(positions)
        obs = self.obs.iloc[positions].set_axis(pd.Index(self.store.names(positions), dtype="str"))
        return Cells(self.source().read(positions), self.library_size[positions], obs, self.genes)

    @property
    def slice_size(self) -> int:
        """Neighbouring cells that a sampler draws together: a store is read much faster in runs."""
        return _SLICE

    def source(self) -> CellSource:
        """Return the cells for a :class:`~transpert.data.SetDataModule`."""
        if self._source is None:
            cells = self.store.source()
            self._source = cells if self._columns is None else ChosenGenes(cells, self._columns)
        return self._source

    def statistics(self, codes: np.ndarray, rows: np.ndarray) -> PooledStatistics:
        """Compute the statistics of rows of groups; of cells whose sums the store knows, none is read.

        See :func:`stream_statistics`.
        """
        return stream_statistics(self.source(), codes, rows, known=self.store.runs(), columns=self._columns)


class ChosenGenes:
    """Some genes of a source, in another order."""

    def __init__(self, source: CellSource, columns: np.ndarray) -> None:
        self._source, self._columns = source, columns
        self.n_obs, self.n_vars = source.n_obs, len(columns)
        self.library_size, self.cells_per_read = source.library_size, source.cells_per_read
        self.fingerprint, self.embedding = source.fingerprint, source.embedding

    def read(self, positions: np.ndarray) -> sparse.csr_matrix:
        """Return the raw counts of cells, as the source does."""
        counts = self._source.read(positions)[:, self._columns]
        counts.sort_indices()
        return counts


def check_in_memory(data: Any, method: str) -> None:
    """Refuse what is no AnnData or MuData, with the method that would take it."""
    if not isinstance(data, AnnData | MuData):
        raise OptionError(
            f"{method} was given a {type(data).__name__}",
            remedy="Register it with setup_store."
            if isinstance(data, Store)
            else "Read the cells, with anndata.read_h5ad for example.",
        )
    if isinstance(data, AnnData) and data.is_view:
        raise OptionError(f"{method} was given a view of another AnnData", remedy="Pass a copy: adata[...].copy().")
    if isinstance(data, MuData):
        _check_paired(data)


def _check_paired(mdata: MuData) -> None:
    """Refuse a MuData in which a modality lacks cells, which scvi-tools cannot register."""
    unpaired = [name for name, modality in mdata.mod.items() if modality.n_obs < mdata.n_obs]
    if unpaired:
        whole = next((name for name in mdata.mod if name not in unpaired), "rna")
        raise CellError(
            f"{list_names(unpaired)} lack some of the {mdata.n_obs} cells",
            where="mdata.mod",
            remedy=f"Set up the modality alone, setup_anndata(mdata[{whole!r}]), or keep the cells that all have, "
            "muon.pp.intersect_obs(mdata).",
        )


def check_loaded(data: Data | None, source: DataSource, genes: np.ndarray, fingerprint: str | None) -> None:
    """Refuse data that a saved model cannot be bound to."""
    if isinstance(data, Store):
        check_unchanged(data, fingerprint)
    elif data is not None:
        _check_same_genes(data, source.modality, genes)
    _check_split(data, source)


def _check_same_genes(data: AnnData | MuData, modality: str | None, genes: np.ndarray) -> None:
    """Refuse data with other genes than those of a model, in whatever order, to which scvi-tools would bind it."""
    adata = data.mod.get(modality) if isinstance(data, MuData) else data
    if adata is None:
        return  # what is wrong is said where the modality is read
    shared = int(np.isin(adata.var_names.astype(str), genes.astype(str)).sum())
    if shared < len(genes) or adata.n_vars > len(genes):
        raise GeneError(
            f"the data has {adata.n_vars} genes and the model {len(genes)}, of which {shared} are the same",
            where="load(adata=)",
            remedy="Load the model without data, and pass these cells to predict(adata=), which aligns genes by name.",
        )


def _check_split(data: Data | None, source: DataSource) -> None:
    """Refuse data without the split that a model was trained with, and say how to do without."""
    key = source.design.split_key
    if data is None or key is None:
        return
    adata = data.annotation if isinstance(data, Store) else modality_of(data, source.modality)
    if key not in adata.obs:
        raise UnknownNameError(
            "column",
            [key],
            map(str, adata.obs),
            where="obs",
            remedy="The model was trained with a split. Make it again, with transpert.pp.split, before you load the "
            "model (that of a store is not on disk), or load it without data and pass the cells to predict(adata=): "
            "predictions need no split.",
        )


def open_data(data: Data | str | os.PathLike[str]) -> Data:
    """Open a store that is given by its path; anything else is returned as it is."""
    return Store(data) if isinstance(data, str | os.PathLike) else data


def open_cells(
    data: Data,
    source: DataSource,
    *,
    genes: Sequence[str] | np.ndarray | None = None,
    need_controls: bool = True,
) -> Cells | StoredCells:
    """Read the cells of an AnnData or MuData, or open those of a store."""
    if isinstance(data, Store):
        return StoredCells(data, source, genes=genes, need_controls=need_controls)
    return read_cells(data, source, genes=genes, need_controls=need_controls)


def _columns_of(known: pd.Index, genes: np.ndarray, where: str) -> np.ndarray | None:
    """Return the columns of the genes in the store, or ``None`` for all columns in order."""
    columns = known.get_indexer(pd.Index(genes))
    missing = genes[columns < 0]
    if len(missing):
        raise GeneError(
            f"{len(missing)} of {len(genes)} genes are missing: {list_names(missing)}",
            where=where,
            remedy="Build the store with genes= those of the model.",
        )
    return None if np.array_equal(columns, np.arange(len(known))) else columns


def check_unchanged(store: Store, fingerprint: str | None) -> None:
    """Raise :class:`~transpert.errors.StoreError` if a model was trained on a store that was another then."""
    if fingerprint is not None and store.fingerprint != fingerprint:
        raise StoreError(
            "the store is not the one that the model was trained on, or has changed since",
            where=f"{store.path}, fingerprint {store.fingerprint} instead of {fingerprint}",
            remedy="Load the model without data, and pass other cells to predict(adata=).",
        )
