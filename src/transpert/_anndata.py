"""Parts of an AnnData, whose own types leave open what they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.experimental.backed import Dataset2D

from transpert import _keys

__all__ = ["PREDICTION_COLUMNS", "frame", "layer_names", "predicted_cells"]

PREDICTION_COLUMNS = (_keys.SOURCE, _keys.MODEL, _keys.CONTROL_ID)


def frame(annotation: pd.DataFrame | Dataset2D) -> pd.DataFrame:
    """Return ``obs`` or ``var`` as a DataFrame; that of a lazy AnnData is read."""
    return annotation if isinstance(annotation, pd.DataFrame) else annotation.to_memory()


def predicted_cells(obs: pd.DataFrame) -> np.ndarray:
    """Return which cells were predicted by this package, ``(n_obs,)`` bool.

    Their ``library_size`` is that of the control cell that they were made from, by which their values were normalised:
    they can have more counts.
    """
    if not set(PREDICTION_COLUMNS) <= set(obs.columns):  # other data has a column "source" too
        return np.zeros(len(obs), dtype=bool)
    return (obs[_keys.SOURCE].astype(str) == _keys.PREDICTED).to_numpy(dtype=bool)


def layer_names(adata: AnnData) -> list[str]:
    """Return the names of the layers; anndata lists ``X`` among them, as ``None``."""
    return [name for name in adata.layers.keys() if name is not None]
