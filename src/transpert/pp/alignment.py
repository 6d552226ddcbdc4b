"""Genes aligned by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from transpert._anndata import frame, layer_names
from transpert.errors import GeneError, OptionError, list_names


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """What was done to align genes.

    Parameters
    ----------
    n_genes
        Number of genes asked for.
    missing
        Genes that the data lacks; they were filled in.
    extra
        Genes of the data that were not asked for; they were dropped.
    reordered
        Whether the genes came in another order.
    """

    n_genes: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    reordered: bool

    def __str__(self) -> str:
        return (
            f"{self.n_genes - len(self.missing)} of {self.n_genes} genes found, {len(self.missing)} missing, "
            f"{len(self.extra)} dropped{', reordered' if self.reordered else ''}"
        )


def align_genes(
    adata: AnnData, genes: Sequence[str] | np.ndarray, *, max_missing: float = 0.0, fill: float = 0.0
) -> tuple[AnnData, AlignmentReport]:
    """Bring the genes of an AnnData into a given order, by name.

    Parameters
    ----------
    adata
        The data; not changed.
    genes : (G,)
        The genes wanted, in order.
    max_missing
        Share of ``genes`` that may be missing, from 0 to 1.
    fill
        Value of missing genes, in ``X`` and every layer.

    Returns
    -------
    The aligned data (``adata`` itself if nothing had to be done) and the report. Where genes are missing, ``varm`` and
    ``varp`` are dropped, for there is nothing to fill them with; all else is copied.

    Raises
    ------
    transpert.errors.OptionError
        If ``max_missing`` is no share.
    transpert.errors.GeneError
        If names are not unique, or more than ``max_missing`` of the genes are missing.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from transpert.pp import align_genes
    >>> adata = anndata.AnnData(np.array([[1.0, 2.0]]), var=pd.DataFrame(index=["b", "a"]))
    >>> aligned, report = align_genes(adata, ["a", "b"])
    >>> aligned.X.tolist(), report.reordered
    ([[2.0, 1.0]], True)
    """
    return align_as_asked(adata, genes, max_missing=max_missing, fill=fill, argument="max_missing")


def align_as_asked(
    adata: AnnData,
    genes: Sequence[str] | np.ndarray,
    *,
    max_missing: float = 0.0,
    fill: float = 0.0,
    argument: str | None = None,
) -> tuple[AnnData, AlignmentReport]:
    """Align genes as :func:`align_genes` does, for a function with an argument of its own for what may be missing."""
    if not 0 <= max_missing <= 1:
        raise OptionError(f"{argument} is {max_missing}", remedy="Give a share of genes, from 0 to 1.")
    wanted = pd.Index(np.asarray(genes, dtype=str).astype(object))
    have = pd.Index(np.asarray(adata.var_names, dtype=str).astype(object))
    for index, where in ((wanted, "genes"), (have, "var_names")):
        if not index.is_unique:
            raise GeneError(
                f"gene names occur more than once: {list_names(index[index.duplicated()].unique())}",
                where=where,
                remedy="Make them unique, for example with adata.var_names_make_unique().",
            )
    position = have.get_indexer(wanted)
    missing = wanted[position < 0]
    found = position[position >= 0]
    report = AlignmentReport(
        len(wanted), tuple(missing), tuple(have.difference(wanted, sort=False)), bool(np.any(np.diff(found) < 0))
    )
    if len(missing) > max_missing * len(wanted) + 1e-9:  # a share such as 0.29 has no exact double
        raise GeneError(
            f"{len(missing)} of {len(wanted)} genes are missing, {max_missing:.0%} may be: {list_names(missing)}",
            where="var_names",
            remedy="Use the same gene names in all data"
            + ("." if argument is None else f", or allow a larger share with {argument}."),
        )
    if len(wanted) == len(have) and np.array_equal(position, np.arange(len(have))):
        return adata, report
    if not len(missing):
        return adata[:, position].copy(), report
    aligned = AnnData(
        None if adata.X is None else _take(adata.X, position, fill),
        obs=frame(adata.obs).copy(),
        var=frame(adata.var).reindex(adata.var_names[found]).reindex(wanted),
        uns=deepcopy(dict(adata.uns)),
        obsm=_copies(adata.obsm),
        obsp=_copies(adata.obsp),
        layers={key: _take(adata.layers[key], position, fill) for key in layer_names(adata)},
    )
    return aligned, report


def _copies(slot: Mapping[str, Any]) -> dict[str, Any]:
    return {key: slot[key].copy() for key in slot}


def _take(matrix: Any, position: np.ndarray, fill: float) -> np.ndarray | sparse.csr_matrix:
    """Take columns, with ``fill`` where the position is negative."""
    present = np.flatnonzero(position >= 0)
    if sparse.issparse(matrix) and fill == 0:
        placement = sparse.csr_matrix(
            (np.ones(len(present), dtype=matrix.dtype), (position[present], present)),
            shape=(matrix.shape[1], len(position)),
        )
        return sparse.csr_matrix(matrix @ placement)
    dense = matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)
    exact = dense.dtype if dense.dtype.kind == "f" or float(fill).is_integer() else np.float64
    taken = np.full((dense.shape[0], len(position)), fill, dtype=exact)
    taken[:, present] = dense[:, position[present]]
    return taken
