"""Write the same cells, from a seed, as one h5ad file: counts as CSR, and log1p values as dense ``obsm["X_hvg"]``."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

N_GENES = 2000
DENSITY = 0.15
CONTEXTS, BATCHES, CONTROL = ("a", "b", "c"), ("1", "2"), "non-targeting"
CONTROL_SHARE = 0.25
_CELLS_PER_BLOCK = 20_000


def write_cells(
    path: Path,
    n_cells: int,
    *,
    n_perturbations: int | None = None,
    n_genes: int = N_GENES,
    dense: bool = True,
    seed: int = 0,
) -> None:
    """Write ``n_cells`` cells, a block at a time; the dense values, which only cell-load reads, may be left out."""
    rng = np.random.default_rng(seed)
    n_perturbations = n_perturbations or max(10, n_cells // 2000)
    labels = np.array([CONTROL, *(f"p{i}" for i in range(n_perturbations))])
    drawn = np.where(rng.random(n_cells) < CONTROL_SHARE, 0, rng.integers(1, len(labels), n_cells))
    obs = pd.DataFrame(
        {
            "gem_group": pd.Categorical(rng.choice(BATCHES, n_cells)),
            "cell_type": pd.Categorical(rng.choice(CONTEXTS, n_cells)),
            "gene": pd.Categorical(labels[drawn], categories=labels),
        }
    )
    # sorted, because one of the ways in which cell-load reads asks for it
    obs = obs.sort_values(list(obs), ignore_index=True).set_axis([f"cell{i}" for i in range(n_cells)])
    beside = path.with_suffix(".tmp")
    ad.AnnData(obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(n_genes)])).write_h5ad(beside)
    with h5py.File(beside, "r+") as file:
        if "X" in file:  # how an AnnData without counts is written depends on the version
            del file["X"]
        _write_counts(file, n_cells, n_genes, rng, dense=dense)
    beside.replace(path)


def _write_counts(file: h5py.File, n_cells: int, n_genes: int, rng: np.random.Generator, *, dense: bool) -> None:
    matrix = file.create_group("X")
    matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [n_cells, n_genes]})
    growing = {"shape": (0,), "maxshape": (None,), "chunks": (1 << 18,)}
    data = matrix.create_dataset("data", dtype=np.float32, **growing)
    indices = matrix.create_dataset("indices", dtype=np.int32, **growing)
    written = None
    if dense:
        written = file.require_group("obsm").create_dataset("X_hvg", (n_cells, n_genes), np.float32)
        written.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    starts = [np.zeros(1, dtype=np.int64)]
    for first in range(0, n_cells, _CELLS_PER_BLOCK):
        n_rows = min(_CELLS_PER_BLOCK, n_cells - first)
        block = sparse.csr_matrix(rng.random((n_rows, n_genes), dtype=np.float32) < DENSITY)
        counts = rng.geometric(0.5, block.nnz).astype(np.float32)
        for target, values in ((data, counts), (indices, block.indices)):
            target.resize(len(target) + len(values), axis=0)
            target[-len(values) :] = values
        starts.append(block.indptr[1:].astype(np.int64) + starts[-1][-1])
        if written is None:
            continue
        block = sparse.csr_matrix((counts, block.indices, block.indptr), block.shape)
        totals = np.asarray(block.sum(axis=1)).ravel()
        block.data = np.log1p(block.data * np.repeat(1e4 / totals, np.diff(block.indptr))).astype(np.float32)
        written[first : first + n_rows] = block.toarray()
    row_starts = np.concatenate(starts)
    matrix.create_dataset("indptr", data=row_starts.astype(np.int32 if row_starts[-1] < 2**31 else np.int64))
