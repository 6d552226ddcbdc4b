"""Parts of an AnnData, whose own types leave open what they are."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData
from anndata.experimental.backed import Dataset2D

from transpert.errors import OptionError

__all__ = ["check_kind", "frame", "layer_names", "writable_name"]


def check_kind(
    data: object,
    kinds: tuple[type, ...] = (AnnData,),
    *,
    name: str,
    wanted: str = "an AnnData",
    several: bool = False,
) -> None:
    """Refuse cells that come as something else, such as a list of AnnData.

    Parameters
    ----------
    data
        What was given.
    kinds
        What it may be.
    name
        What to call it in the error.
    wanted
        What to call what it may be.
    several
        Whether several may be given by name.

    Raises
    ------
    transpert.errors.OptionError
        If it is none of these.

    Examples
    --------
    >>> from transpert._anndata import check_kind
    >>> check_kind(AnnData(), name="the truth")
    """
    if not isinstance(data, kinds):
        more = ", or several by name: {'mine': prediction}" if several else ""
        raise OptionError(f"{name} is of type {type(data).__name__}", remedy=f"Give {wanted}{more}.")


def frame(annotation: pd.DataFrame | Dataset2D) -> pd.DataFrame:
    """Return ``obs`` or ``var`` as a DataFrame; that of a lazy AnnData is read."""
    return annotation if isinstance(annotation, pd.DataFrame) else annotation.to_memory()


def layer_names(adata: AnnData) -> list[str]:
    """Return the names of the layers; anndata lists ``X`` among them, as ``None``."""
    return [name for name in adata.layers.keys() if name is not None]


def writable_name(name: str) -> str:
    """Return a name under which a file can hold something.

    Parameters
    ----------
    name
        Any name; in h5ad and zarr a ``/`` would open a folder, and anndata refuses it.

    Returns
    -------
    The name with U+2215, a division slash, in place of every ``/``.

    Examples
    --------
    >>> from transpert._anndata import writable_name
    >>> writable_name("GSK/J4")
    'GSK∕J4'
    """
    return name.replace("/", "\u2215")
