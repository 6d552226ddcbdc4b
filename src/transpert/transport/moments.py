"""Sums over the cells of groups in one pass, in which batches are pooled as they come."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from scipy import sparse

# rows of the sums over the cells of one group
RATE, RATE_SQUARED, LOG, LOG_SQUARED = range(4)
# counts of which rate and logarithm are looked up
_SMALL_COUNTS: Final = 32


class MomentSums:
    """Sums over cells that come group after group; only sums over rows of groups are kept.

    A row is what is kept apart: a condition in a context, whose groups are batches. Of every row there are the sums of
    the rates and log1p values, and the sums of squares around the mean of each cell's own group.

    Parameters
    ----------
    n_cells : (P,)
        Number of cells of each group.
    mean_inverse_library : (P,)
        Mean of ``1e4 / library size`` of each group.
    rows : (P,)
        The row of each group.
    n_genes
        Number of genes.
    """

    def __init__(self, n_cells: np.ndarray, mean_inverse_library: np.ndarray, rows: np.ndarray, n_genes: int) -> None:
        self.n_cells, self.mean_inverse_library, self.rows = n_cells.astype(float), mean_inverse_library, rows
        self.sums = tuple(np.zeros((rows.max(initial=-1) + 1, n_genes)) for _ in range(4))
        self.total = np.zeros((4, n_genes))
        # what is more than Poisson noise, and squared means, of which a dispersion is made
        self.overdispersion = np.zeros((2, n_genes))
        self._open = -1
        self._of_group = np.zeros((n_genes, 4))
        self._touched = np.zeros(n_genes, dtype=np.int32)
        self._is_touched = np.zeros(n_genes, dtype=np.bool_)
        self._n_touched = 0

    def add(self, counts: sparse.csr_matrix, factor: np.ndarray, codes: np.ndarray) -> None:
        """Add cells; those of a group are neighbours, over all calls.

        Parameters
        ----------
        counts : (N, G)
            Raw counts.
        factor : (N,)
            ``1e4 / library size``.
        codes : (N,)
            The group of each cell.
        """
        matrix = counts.indptr, counts.indices, counts.data
        group = self._of_group, self._touched, self._is_touched
        groups = self.n_cells, self.mean_inverse_library, self.rows
        totals = self.sums, self.total, self.overdispersion
        self._open, self._n_touched = _add_cells(
            matrix, factor, codes, self._open, self._n_touched, group, groups, totals
        )

    def add_known(self, group: int, sums: np.ndarray) -> None:
        """Add sums ``(4, G)`` over cells of a group, beside cells of it that are added right before or after."""
        if group != self._open:
            self.close()
            self._open = group
        self._of_group += sums.T
        self._touched[:] = np.arange(len(self._touched))
        self._is_touched[:] = True
        self._n_touched = len(self._touched)

    def close(self) -> None:
        """End the group whose cells came last."""
        nothing = sparse.csr_matrix((1, len(self._touched)))
        # a cell without counts of no group ends the one before
        self.add(nothing, np.zeros(1), np.full(1, -1, dtype=np.int64))


@njit(cache=True, nogil=True)
def _add_cells(matrix, factor, codes, opened, n_touched, group, groups, totals):  # pragma: no cover - compiled
    starts, genes, counts = matrix
    of_group, touched, is_touched = group
    log_of = np.empty(_SMALL_COUNTS)
    rate_of = np.empty(_SMALL_COUNTS)
    for cell in range(len(codes)):
        if codes[cell] != opened:
            if opened >= 0:
                _end_group(opened, n_touched, group, groups, totals)
            n_touched = 0
            opened = codes[cell]
        log_of[:] = -1.0
        for entry in range(starts[cell], starts[cell + 1]):
            gene, count = genes[entry], counts[entry]
            small = np.int64(count)
            if small == count and small < _SMALL_COUNTS:
                if log_of[small] < 0:
                    log_of[small] = np.float32(np.log1p(count * factor[cell]))
                    rate_of[small] = np.expm1(log_of[small])
                log, rate = log_of[small], rate_of[small]
            else:
                log = np.float64(np.float32(np.log1p(count * factor[cell])))
                rate = np.expm1(log)
            if not is_touched[gene]:
                is_touched[gene] = True
                touched[n_touched] = gene
                n_touched += 1
            of_group[gene, RATE] += rate
            of_group[gene, RATE_SQUARED] += rate * rate
            of_group[gene, LOG] += log
            of_group[gene, LOG_SQUARED] += log * log
    return opened, n_touched


@njit(cache=True, nogil=True)
def _end_group(number, n_touched, group, groups, totals):  # pragma: no cover - compiled
    of_group, touched, is_touched = group
    n, inverse, row = groups[0][number], groups[1][number], groups[2][number]
    sums, total, overdispersion = totals
    for entry in range(n_touched):
        gene = touched[entry]
        is_touched[gene] = False
        for kind in (RATE, LOG):
            around = of_group[gene, kind + 1] - of_group[gene, kind] * of_group[gene, kind] / n
            sums[kind][row, gene] += of_group[gene, kind]
            if n > 1 and around > 0:
                sums[kind + 1][row, gene] += around
            else:
                around = 0.0
            total[kind, gene] += of_group[gene, kind]
            total[kind + 1, gene] += of_group[gene, kind + 1]
            if kind == RATE and n > 1:
                mean = of_group[gene, RATE] / n
                overdispersion[0, gene] += (n - 1) * (around / n - mean * inverse)
                overdispersion[1, gene] += (n - 1) * mean * mean
        for kind in range(4):
            of_group[gene, kind] = 0.0
