"""Checks of an AnnData before anything is done with it."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from transpert import _counts
from transpert._anndata import check_kind, matrix_of
from transpert._arguments import check_arguments
from transpert._counts import Matrix
from transpert._docstrings import fill_docstring
from transpert.errors import BackedDataError, CellError, GeneError, OptionError, list_names


@fill_docstring
def check_counts(data: AnnData | Matrix, *, layer: str | None = None, where: str | None = None) -> None:
    """Check that data are raw counts.

    Parameters
    ----------
    %(cells_or_matrix)s

    Raises
    ------
    transpert.errors.CountsError
        If values are NaN, infinite, negative or not integers; the message says how many, and whether they look
        like log1p values.
    transpert.errors.UnknownNameError
        If there is no such layer.
    transpert.errors.BackedDataError
        If the AnnData is backed.

    Examples
    --------
    >>> import transpert as tp
    >>> tp.pp.check_counts(tp.datasets.kang18(), layer="counts")
    """
    check_arguments(locals())
    matrix, slot = _matrix_and_slot(data, layer, where)
    _counts.check_counts(matrix, where=slot)


@fill_docstring
def check_log1p(data: AnnData | Matrix, *, layer: str | None = None, where: str | None = None) -> None:
    """Check that data are log1p counts per 10k, and not counts.

    Parameters
    ----------
    %(cells_or_matrix)s

    Raises
    ------
    transpert.errors.CountsError
        If values are NaN, infinite or negative, above ``log1p(1e4)``, or all integers.
    transpert.errors.UnknownNameError
        If there is no such layer.
    transpert.errors.BackedDataError
        If the AnnData is backed.

    Examples
    --------
    >>> import transpert as tp
    >>> tp.pp.check_log1p(tp.datasets.kang18())
    """
    check_arguments(locals())
    matrix, slot = _matrix_and_slot(data, layer, where)
    _counts.check_log1p(matrix, where=slot)


def _matrix_and_slot(data: AnnData | Matrix, layer: str | None, where: str | None) -> tuple[Matrix, str]:
    if not isinstance(data, AnnData):
        if layer is not None:
            raise OptionError(f"layer={layer!r} was given with a matrix", remedy="Pass the AnnData it is a layer of.")
        return data, where or "the matrix"
    check_not_backed(data)
    matrix, slot = matrix_of(data, layer)
    return matrix, where or slot


def check_not_backed(adata: AnnData) -> None:
    """Refuse a backed AnnData.

    Parameters
    ----------
    adata
        The data.

    Raises
    ------
    transpert.errors.BackedDataError
        If ``adata`` is backed: reading its cells in random order is slow, and h5py returns them sorted, so that pairs
        of cells would be torn apart.

    Examples
    --------
    >>> import transpert as tp
    >>> tp.pp.check_not_backed(tp.datasets.simulate(n_contexts=2, n_perturbations=1, n_genes=5, n_cells=5))
    """
    check_kind(adata, name="adata")
    if adata.isbacked:
        raise BackedDataError(
            "a backed AnnData cannot be read in arbitrary order",
            where=str(adata.filename),
            remedy="Read it with adata.to_memory(), or build a transpert.data.Store from the file.",
        )


def check_unique_names(adata: AnnData) -> None:
    """Refuse duplicate names of genes or cells.

    Parameters
    ----------
    adata
        The data.

    Raises
    ------
    transpert.errors.GeneError
        If a name of a gene occurs twice; the names are listed.
    transpert.errors.CellError
        If a name of a cell occurs twice.

    Examples
    --------
    >>> import transpert as tp
    >>> tp.pp.check_unique_names(tp.datasets.simulate(n_contexts=2, n_perturbations=1, n_genes=5, n_cells=5))
    """
    check_kind(adata, name="adata")
    for names, slot, kind, error in (
        (adata.var_names, "var_names", "genes", GeneError),
        (adata.obs_names, "obs_names", "cells", CellError),
    ):
        index = pd.Index(names)
        if not index.is_unique:
            repeated = index[index.duplicated()].unique()
            raise error(
                f"{len(repeated)} names occur more than once: {list_names(repeated)}",
                where=slot,
                remedy=f"Call adata.{slot}_make_unique() if they are different {kind}, or merge them.",
            )
