"""Sums over the cells of groups in one pass, in which batches are pooled as they come."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from scipy import sparse

# columns of the sums over the cells of one group, and numbers of the tables of sums
RATE, RATE_SQUARED, LOG, LOG_SQUARED = range(4)
# columns of what is summed over all groups: squares, what is more than Poisson noise, and squared means
_RATES_SQUARED, _LOGS_SQUARED, _EXCESS, _SQUARED_MEAN = range(4)
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
    dtype
        Precision of what is kept of each row; cells are always summed in double precision.
    """

    def __init__(
        self, n_cells: np.ndarray, mean_inverse_library: np.ndarray, rows: np.ndarray, n_genes: int, dtype: type
    ) -> None:
        self.n_cells, self.mean_inverse_library, self.rows = n_cells.astype(float), mean_inverse_library, rows
        self.sums = tuple(np.zeros((rows.max(initial=-1) + 1, n_genes), dtype) for _ in range(4))
        # one line of each for a gene lies together in memory, where a cell adds to it
        self._of_group, self._of_row, self._of_all = (np.zeros((n_genes, 4)) for _ in range(3))
        self._touched = np.zeros(n_genes, dtype=np.int32)
        self._is_touched = np.zeros(n_genes, dtype=np.bool_)
        # the group and the row whose cells came last, and how many genes of the group are touched
        self._open = np.array([-1, -1, 0])

    def add(
        self, counts: sparse.csr_matrix, factor: np.ndarray, codes: np.ndarray, cells: np.ndarray | None = None
    ) -> None:
        """Add cells; those of a group are neighbours, over all calls.

        Parameters
        ----------
        counts : (M, G)
            Raw counts.
        factor : (N,)
            ``1e4 / library size`` of the cells that are added.
        codes : (N,)
            Their groups.
        cells : (N,)
            The rows of ``counts`` that are added, in order; all by default.
        """
        cells = np.arange(counts.shape[0]) if cells is None else cells
        matrix = counts.indptr, counts.indices, counts.data
        of_group = self._of_group, self._touched, self._is_touched
        groups = self.n_cells, self.mean_inverse_library, self.rows
        _add_cells(matrix, cells, factor, codes, self._open, of_group, self._of_row, self._of_all, groups, self.sums)

    def add_known(self, group: int, sums: np.ndarray) -> None:
        """Add sums ``(4, G)`` over cells of a group, beside cells of it that are added right before or after."""
        nothing = sparse.csr_matrix((1, len(self._touched)))
        # a cell without counts opens the group, and ends the one before
        self.add(nothing, np.zeros(1), np.array([group]))
        self._of_group += sums.T
        self._touched[:] = np.arange(len(self._touched))
        self._is_touched[:] = True
        self._open[2] = len(self._touched)

    def close(self) -> None:
        """End the group whose cells came last."""
        nothing = sparse.csr_matrix((1, len(self._touched)))
        # a cell of no group ends the one before, and its row
        self.add(nothing, np.zeros(1), np.full(1, -1, dtype=np.int64))

    @property
    def total(self) -> np.ndarray:
        """Sums over all cells of closed groups: of the rates, their squares, the log1p values and their squares."""
        rates, logs = (self.sums[kind].sum(axis=0, dtype=float) for kind in (RATE, LOG))
        squares = self._of_all.T
        return np.stack([rates, squares[_RATES_SQUARED], logs, squares[_LOGS_SQUARED]])

    @property
    def overdispersion(self) -> np.ndarray:
        """What is more than Poisson noise, and squared means, of which a dispersion is made, ``(2, G)``."""
        return self._of_all.T[_EXCESS:].copy()


@njit(cache=True, nogil=True)
def _add_cells(
    matrix, cells, factor, codes, opened, of_group, of_row, of_all, groups, sums
):  # pragma: no cover - compiled
    """Add cells to the sums of their group, row and all cells."""
    starts, genes, counts = matrix
    in_group, touched, is_touched = of_group
    n_cells = groups[0]
    log_of = np.empty(_SMALL_COUNTS)
    rate_of = np.empty(_SMALL_COUNTS)
    for number in range(len(cells)):
        group = codes[number]
        if group != opened[0]:
            _open_group(group, opened, of_group, of_row, of_all, groups, sums)
        alone = group >= 0 and n_cells[group] == 1
        log_of[:] = -1.0
        for entry in range(starts[cells[number]], starts[cells[number] + 1]):
            gene, count = genes[entry], counts[entry]
            small = np.int64(count)
            if small == count and small < _SMALL_COUNTS:
                if log_of[small] < 0:
                    log_of[small] = np.float32(np.log1p(count * factor[number]))
                    rate_of[small] = np.expm1(log_of[small])
                log, rate = log_of[small], rate_of[small]
            else:
                log = np.float64(np.float32(np.log1p(count * factor[number])))
                rate = np.expm1(log)
            if alone:  # its own mean is all that there is of a group of one cell
                of_row[gene, RATE] += rate
                of_row[gene, LOG] += log
                of_all[gene, _RATES_SQUARED] += rate * rate
                of_all[gene, _LOGS_SQUARED] += log * log
                continue
            if not is_touched[gene]:
                is_touched[gene] = True
                touched[opened[2]] = gene
                opened[2] += 1
            in_group[gene, RATE] += rate
            in_group[gene, RATE_SQUARED] += rate * rate
            in_group[gene, LOG] += log
            in_group[gene, LOG_SQUARED] += log * log


@njit(cache=True, nogil=True)
def _open_group(group, opened, of_group, of_row, of_all, groups, sums):  # pragma: no cover - compiled
    if opened[0] >= 0:
        _end_group(opened, of_group, of_row, of_all, groups)
    row = groups[2][group] if group >= 0 else -1
    if row != opened[1]:
        if opened[1] >= 0:
            for kind in range(4):
                into = sums[kind][opened[1]]
                for gene in range(len(of_row)):
                    into[gene] += of_row[gene, kind]
            of_row[:] = 0.0
        opened[1] = row
    opened[0] = group


@njit(cache=True, nogil=True)
def _end_group(opened, of_group, of_row, of_all, groups):  # pragma: no cover - compiled
    """Add the sums of a group to those of its row and of all cells."""
    in_group, touched, is_touched = of_group
    n, inverse = groups[0][opened[0]], groups[1][opened[0]]
    for entry in range(opened[2]):
        gene = touched[entry]
        is_touched[gene] = False
        mean = in_group[gene, RATE] / n
        around = max(in_group[gene, RATE_SQUARED] - in_group[gene, RATE] * mean, 0.0) if n > 1 else 0.0
        around_log = max(in_group[gene, LOG_SQUARED] - in_group[gene, LOG] * in_group[gene, LOG] / n, 0.0)
        of_row[gene, RATE] += in_group[gene, RATE]
        of_row[gene, LOG] += in_group[gene, LOG]
        of_all[gene, _RATES_SQUARED] += in_group[gene, RATE_SQUARED]
        of_all[gene, _LOGS_SQUARED] += in_group[gene, LOG_SQUARED]
        if n > 1:
            of_row[gene, RATE_SQUARED] += around
            of_row[gene, LOG_SQUARED] += around_log
            of_all[gene, _EXCESS] += (n - 1) * (around / n - mean * inverse)
            of_all[gene, _SQUARED_MEAN] += (n - 1) * mean * mean
        for kind in range(4):
            in_group[gene, kind] = 0.0
    opened[2] = 0
