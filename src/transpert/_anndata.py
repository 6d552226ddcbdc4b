"""Parts of an AnnData, whose own types leave open what they are."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData
from anndata.experimental.backed import Dataset2D

__all__ = ["frame", "layer_names"]


def frame(annotation: pd.DataFrame | Dataset2D) -> pd.DataFrame:
    """Return ``obs`` or ``var`` as a DataFrame; that of a lazy AnnData is read."""
    return annotation if isinstance(annotation, pd.DataFrame) else annotation.to_memory()


def layer_names(adata: AnnData) -> list[str]:
    """Return the names of the layers; anndata lists ``X`` among them, as ``None``."""
    return [name for name in adata.layers.keys() if name is not None]
