"""The principal components of the training data, so that predictions lie in the space its cells are shown in."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from transpert import _keys
from transpert.errors import warn_user

from .in_memory import Cells

# cells that are looked at: the offset is the same for all, and one that differs shows in a few
_CELLS = 1000
# of the spread of the stored coordinates; float32 and randomised solvers stay far below
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class PrincipalComponents:
    """Loadings of a principal component analysis of log1p counts per 10k."""

    loadings: np.ndarray
    offset: np.ndarray

    def project(self, values: Any) -> np.ndarray:
        """Return the coordinates ``(N, k)`` of cells, from log1p counts per 10k ``(N, G)``."""
        return np.asarray(values @ self.loadings - self.offset, dtype=np.float32)


def read_principal_components(adata: AnnData, cells: Cells) -> PrincipalComponents | None:
    """Read what :func:`scanpy.pp.pca` left in an AnnData."""
    if _keys.LOADINGS not in adata.varm or _keys.PCA not in adata.obsm:
        return None
    rows = np.unique(np.linspace(0, len(cells) - 1, num=_CELLS).astype(int))
    known = np.asarray(adata.obsm[_keys.PCA])[rows]
    genes = adata.var_names.get_indexer(pd.Index(cells.genes))  # a loaded model may have another order
    loadings = np.asarray(adata.varm[_keys.LOADINGS], dtype=np.float32)[genes]
    fits = (genes >= 0).all() and loadings.shape[1] == known.shape[1]
    if fits:
        # the mean that was subtracted is not kept in an AnnData, but it is what is left
        offsets = cells[rows].log1p() @ loadings - known
        offset = offsets.mean(axis=0)
        fits = bool(np.abs(offsets - offset).max() <= _TOLERANCE * known.std())
    if not fits:
        warn_user(
            f"varm[{_keys.LOADINGS!r}] and obsm[{_keys.PCA!r}] are not those of log1p counts per 10k: predictions are "
            f"not projected onto them, and have no obsm[{_keys.PCA!r}]."
        )
        return None
    return PrincipalComponents(loadings, offset.astype(np.float32))


def component_arrays(components: PrincipalComponents | None) -> dict[str, np.ndarray]:
    """Return principal components as arrays by name; none where there are none."""
    return {} if components is None else dataclasses.asdict(components)
