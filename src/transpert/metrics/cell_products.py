"""Products of cells with cells: dense for genes that most cells have, over the values that are not 0 for the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numba import njit
from scipy import sparse


@dataclass(frozen=True, slots=True, eq=False)
class GeneParts:
    """Sparse cells, by genes that are often above 0 and those that seldom are.

    Parameters
    ----------
    often : (G,)
        Which genes are in the dense part.
    mean : (D,)
        The mean of these, around which they are taken.
    centred : (N, D)
        Their values, dense.
    rare : (N, G - D)
        Values of the other genes, as they are.
    by_gene : (N, G - D)
        The same by gene.
    squares : (N,)
        Squared length of each cell, both parts together.
    """

    often: np.ndarray
    mean: np.ndarray
    centred: np.ndarray
    rare: sparse.csr_matrix
    by_gene: sparse.csc_matrix
    squares: np.ndarray

    @classmethod
    def of(cls, cells: Any, often: np.ndarray, mean: np.ndarray) -> Self:
        """Divide cells ``(N, G)``."""
        centred, rare, squares = _divided(cells, often, mean[often], cells.dtype)
        by_gene = rare.tocsc()
        by_gene.sort_indices()
        return cls(often, mean[often], centred, rare, by_gene, squares)

    def of_others(self, cells: Any) -> tuple[np.ndarray, sparse.csr_matrix, np.ndarray]:
        """Divide other sparse cells in the same way: the centred and the rare part, and squared lengths."""
        return _divided(cells, self.often, self.mean, self.centred.dtype)

    def add_rare(self, products: np.ndarray, rare: sparse.csr_matrix, cells: slice) -> None:
        """Add the products of the rare genes of other cells with some of these."""
        start, stop, _ = cells.indices(len(self.centred))
        _add_products(
            rare.indptr, rare.indices, rare.data, self.by_gene.indptr, self.by_gene.indices, self.by_gene.data,
            start, stop, products,
        )  # fmt: skip


def _divided(
    cells: Any, often: np.ndarray, mean: np.ndarray, dtype: Any
) -> tuple[np.ndarray, sparse.csr_matrix, np.ndarray]:
    """The dense part around a mean, the rare part, and the squared length of each cell."""
    dtype = np.float32 if dtype == np.float32 else np.float64
    cells = cells.tocsr()
    centred = cells[:, np.flatnonzero(often)].toarray().astype(dtype, copy=False) - mean.astype(dtype)
    rare = sparse.csr_matrix(cells[:, np.flatnonzero(~often)], dtype=dtype)
    squares = np.einsum("ij,ij->i", centred, centred)
    return centred, rare, squares + np.asarray(rare.multiply(rare).sum(axis=1)).ravel().astype(dtype)


@njit(cache=True, nogil=True)
def _add_products(
    starts, genes, values, gene_starts, cells, others, first_cell, last_cell, products
):  # pragma: no cover - compiled
    n_genes = len(gene_starts) - 1
    first, last = gene_starts[:-1].copy(), gene_starts[1:].copy()
    for gene in range(n_genes):
        while first[gene] < last[gene] and cells[first[gene]] < first_cell:
            first[gene] += 1
        while last[gene] > first[gene] and cells[last[gene] - 1] >= last_cell:
            last[gene] -= 1
    for row in range(len(starts) - 1):
        into = products[row]
        for entry in range(starts[row], starts[row + 1]):
            gene, value = genes[entry], values[entry]
            for place in range(first[gene], last[gene]):
                into[cells[place] - first_cell] += value * others[place]
