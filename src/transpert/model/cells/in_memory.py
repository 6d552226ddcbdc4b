"""The cells of an AnnData or MuData as plain arrays, checked once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from transpert import _keys, pp
from transpert._anndata import frame, matrix_of, modality_of, predicted_cells
from transpert._counts import (
    check_library_sizes,
    library_size_column,
    library_sizes,
    log1p_per_10k,
    read_counts,
    read_library_sizes,
)
from transpert._matrices import as_dense, canonical, is_in_memory
from transpert._scale import check_same_scale, evenly_spread_rows, unlike_counts
from transpert.data import MemorySource
from transpert.errors import CountsError, check_known, list_names, warn_user
from transpert.groups import Design
from transpert.pp.alignment import match_genes, take_columns
from transpert.transport import GroupStatistics, PooledStatistics, group_statistics
from transpert.transport.statistics import pooled_statistics

# what library sizes are: numbers from a column, or sums over the genes at hand
type LibraryFrom = Literal["column", "genes"]

LIBRARY_FROM = "library_from"  # where a registry says what the library sizes of the training cells are

# below this many genes the counts of a cell are taken for a selection, whose sum is not a library size
_SELECTION_OF_GENES = 10_000


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where in an AnnData or MuData the counts and their annotation are."""

    design: Design
    layer: str | None = None
    library_size_key: str | None = None
    modality: str | None = None
    embedding_key: str | None = None
    library_from: LibraryFrom | None = None
    n_top_genes: int | None = None

    @property
    def library_column(self) -> str | None:
        """Column that the library sizes of the training cells came from; None for sums over genes."""
        return self.library_size_key or (_keys.LIBRARY_SIZE if self.library_from == "column" else None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return {
            "design": self.design.to_dict(),
            "layer": self.layer,
            "library_size_key": self.library_size_key,
            "modality": self.modality,
            "embedding_key": self.embedding_key,
            "library_from": self.library_from,
            "n_top_genes": self.n_top_genes,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a source from what :meth:`to_dict` returned."""
        return cls(**{**values, "design": Design.from_dict(values["design"])})


class Caching:
    """Cells that remember what was made of them."""

    __slots__ = ()
    _cache: dict[Hashable, Any]

    def cached[Value](self, name: Hashable, make: Callable[[], Value]) -> Value:
        """Return what ``make`` made of these cells at the first call; nobody may write into it."""
        if name not in self._cache:
            self._cache[name] = make()
        return self._cache[name]


@dataclass(frozen=True, slots=True, eq=False)
class Cells(Caching):
    """Counts of cells with what is known about them."""

    counts: sparse.csr_matrix
    library_size: np.ndarray
    obs: pd.DataFrame
    genes: np.ndarray
    embedding: np.ndarray | None = None
    library_from: LibraryFrom | None = None
    _cache: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return self.counts.shape[0]

    @property
    def slice_size(self) -> int:
        """Neighbouring cells that a sampler draws together: 1, memory answers single cells as fast."""
        return 1

    def source(self) -> MemorySource:
        """Return the cells for a :class:`~transpert.data.SetDataModule`."""
        return MemorySource(self.counts, self.library_size, self.embedding)

    def statistics(self, codes: np.ndarray, rows: np.ndarray) -> PooledStatistics:
        """Compute the statistics of rows of groups.

        Of many cells a block at a time: rates, logarithms and their squares would take several times their memory.
        """
        return pooled_statistics(self.counts, self.library_size, codes, rows)

    def log1p(self) -> np.ndarray:
        """Return log1p counts per 10k, ``(N, G)`` dense float32."""
        return self.cached(
            "log1p",
            lambda: np.asarray(log1p_per_10k(self.counts, self.library_size).toarray(), dtype=np.float32),
        )

    def as_one_group(self) -> GroupStatistics:
        """Return the statistics of all cells as those of one group."""
        return self.cached(
            "statistics",
            lambda: group_statistics(self.counts, self.library_size, np.zeros(len(self), dtype=int), 1),
        )

    def with_genes(self, genes: np.ndarray) -> Cells:
        """Return the same cells with all their genes in this order."""
        position = pd.Index(self.genes.astype(str)).get_indexer(pd.Index(genes.astype(str)))
        if np.array_equal(position, np.arange(len(self.genes))):
            return self
        counts = sparse.csr_matrix(take_columns(self.counts, position, 0.0))
        counts.sort_indices()
        return replace(self, counts=counts, genes=genes)

    def uncached(self) -> Cells:
        """Return the same cells without what was kept of them."""
        return replace(self)

    def __getitem__(self, positions: np.ndarray) -> Cells:
        embedding = None if self.embedding is None else self.embedding[positions]
        return Cells(
            self.counts[positions], self.library_size[positions], self.obs.iloc[positions], self.genes, embedding
        )


def repeated(cells: Cells, n_cells: int | None, seed: int) -> Cells:
    """Return at least so many cells: every one equally often, up to one."""
    if n_cells is None or n_cells <= len(cells):
        return cells
    whole, rest = divmod(n_cells, len(cells))
    drawn = np.random.default_rng(seed).choice(len(cells), size=rest, replace=False)
    return cells[np.sort(np.concatenate([np.tile(np.arange(len(cells)), whole), drawn]))]


def read_cells(
    data: AnnData | MuData,
    source: DataSource,
    *,
    genes: Sequence[str] | np.ndarray | None = None,
    max_missing: float | None = None,
    need_controls: bool = True,
) -> Cells:
    """Read and check the cells of an AnnData or MuData."""
    adata = modality_of(data, source.modality)
    pp.check_not_backed(adata)
    pp.check_unique_names(adata)
    source.design.check(frame(adata.obs), need_controls=need_controls)
    stored, where = matrix_of(adata, source.layer)
    library, library_from = _library_size(adata, source)
    matrix = read_counts(stored, where=where)
    names = np.asarray(adata.var_names, dtype=object)
    if library is None and source.library_from != "genes":
        # counts of genes that the model does not know are counts of the cell nonetheless
        library = library_sizes(matrix)
    if genes is not None:
        argument = None if max_missing is None else "max_missing_genes"
        position, found = match_genes(adata.var_names, genes, max_missing=max_missing or 0.0, argument=argument)
        if found.missing:
            warn_user(
                f"{len(found.missing)} genes of the model are not in these cells and count as zero: "
                f"{list_names(found.missing)}."
            )
        matrix, names = take_columns(matrix, position, 0.0), np.asarray(genes, dtype=object)
    counts = sparse.csr_matrix(matrix, dtype=np.float32)
    counts.sort_indices()
    if library is None:
        library = library_sizes(counts)
    annotation = frame(adata.obs)
    given = source.library_size_key in (None, _keys.LIBRARY_SIZE)  # the column that predictions have
    check_library_sizes(library, counts, predicted=predicted_cells(annotation) if given else None)
    if genes is None:
        _check_x(adata, source, counts, library, annotation)
    obs = annotation[list(source.design.columns)].copy()
    return Cells(counts, library, obs, names, _embedding(adata, source), library_from)


def _check_x(
    adata: AnnData, source: DataSource, counts: sparse.csr_matrix, library: np.ndarray, obs: pd.DataFrame
) -> None:
    """Refuse log1p values in X that were made with other library sizes, and report what is no log1p of the counts."""
    matrix = adata.X
    if source.layer is None or matrix is None or not is_in_memory(matrix):
        return
    rows = evenly_spread_rows(len(library))
    where = f"layers[{source.layer!r}]"
    values = canonical(matrix, where="X")[rows]
    share = check_same_scale(values, counts[rows], library[rows], obs.iloc[rows], where="X", counts_in=where)
    what = unlike_counts(values, share)
    if what is not None:
        warn_user(
            f"X holds {what} in {where}; predictions are log1p of these counts. Before you compare them, "
            "tp.pp.normalize(adata, layer=...) makes X of the counts."
        )


def _library_size(adata: AnnData, source: DataSource) -> tuple[np.ndarray | None, LibraryFrom]:
    """Library sizes from a column, or ``None`` where they are to be summed; and which of both."""
    key = library_size_column(source.library_size_key, adata.obs)
    if key is not None:
        sizes = read_library_sizes(frame(adata.obs), key)
        if source.library_from == "genes":
            warn_user(
                f"The model was trained on sums over its genes as library sizes; those of these cells are taken from "
                f"obs[{key!r}]. Drop this column if it counts other genes too."
            )
        return sizes, "column"
    if source.library_from == "column":
        warn_user(
            f"The model was trained on library sizes from a column of obs, which these cells lack: the sum over their "
            f"{adata.n_vars} genes is taken. If they are a selection, put the total over all genes into "
            f"obs[{_keys.LIBRARY_SIZE!r}]."
        )
    elif source.library_from is None and adata.n_vars < _SELECTION_OF_GENES:
        warn_user(
            f"The library size of a cell is taken to be the sum over the {adata.n_vars} genes at hand. If they are a "
            "selection, put the total over all genes into a column of obs and name it in library_size_key."
        )
    return None, "genes"


def _embedding(adata: AnnData, source: DataSource) -> np.ndarray | None:
    """Read the embedding of the cells, if the model has one."""
    key = source.embedding_key
    if key is None:
        return None
    check_known("embedding", [key], adata.obsm, where="obsm")
    values = as_dense(adata.obsm[key], np.float32)
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        raise CountsError(
            f"{wrong} values are not finite",
            where=f"obsm[{key!r}]",
            remedy="Compute the embedding again, or drop these cells.",
        )
    return values
