"""Checks of an AnnData before anything is done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from transpert.errors import BackedDataError, GeneError, list_names

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["check_not_backed", "check_unique_names"]


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
    """
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
        If a name occurs twice; the names are listed.
    """
    for names, slot, repair in (
        (adata.var_names, "var_names", "var_names_make_unique"),
        (adata.obs_names, "obs_names", "obs_names_make_unique"),
    ):
        index = pd.Index(names)
        if not index.is_unique:
            repeated = index[index.duplicated()].unique()
            raise GeneError(
                f"{len(repeated)} names occur more than once: {list_names(repeated)}",
                where=slot,
                remedy=f"Call adata.{repair}() if they are different {slot.split('_')[0]}s, or merge them.",
            )
