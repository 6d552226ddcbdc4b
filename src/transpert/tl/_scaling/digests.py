"""What the result of a run depends on, in a few letters."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from anndata import AnnData
from scipy import sparse

from transpert import __version__, _keys
from transpert._anndata import frame, matrix_of
from transpert.groups import Design


def digest(*parts: object) -> str:
    """Return a short digest of plain data and arrays."""
    found = hashlib.sha256(__version__.encode())
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(str(part.dtype).encode() + str(part.shape).encode())
            found.update(np.ascontiguousarray(part).tobytes() if part.dtype != object else "\n".join(part).encode())
        else:
            found.update(json.dumps(part, sort_keys=True, default=repr).encode())
    return found.hexdigest()[:24]


def digest_of_cells(adata: AnnData, design: Design, layer: str | None) -> str:
    """Return a digest of the counts, genes and labels of cells."""
    counts = sparse.csr_matrix(matrix_of(adata, layer)[0])
    obs = frame(adata.obs)
    used = [*design.columns, *(name for name in (_keys.LIBRARY_SIZE,) if name in obs)]
    columns = [obs[name].astype(str).to_numpy(dtype=object) for name in used]
    names = adata.var_names.to_numpy(dtype=object).astype(str)
    return digest(counts.data, counts.indices, counts.indptr, names, *[column.astype(str) for column in columns])
