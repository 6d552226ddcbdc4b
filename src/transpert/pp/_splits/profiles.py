"""Mean profiles of some cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from transpert._matrices import as_dense, is_in_memory

from ..checks import check_log1p


def mean_profiles(adata: AnnData, codes: np.ndarray, n: int) -> np.ndarray:
    """Return the mean log1p values of the cells of each code, ``(n, G)``; cells of code -1 are left out."""
    check_log1p(adata)
    matrix: Any = adata.X
    rows = np.flatnonzero(codes >= 0)
    counts = np.bincount(codes[rows], minlength=n)
    pick = sparse.csr_matrix((1.0 / counts[codes[rows]], (codes[rows], rows)), shape=(n, adata.n_obs))
    return as_dense(pick @ matrix)


def has_values(adata: AnnData) -> bool:
    """Whether the cells have values in memory."""
    return adata.X is not None and is_in_memory(adata.X)
