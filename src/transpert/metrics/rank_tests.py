"""Rank-sum tests of many populations against controls that are sorted once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numba import njit
from scipy import sparse
from scipy.special import erfc

type Matrix = np.ndarray | sparse.spmatrix

_MANY = 32  # values of a gene above which numpy sorts faster than insertion
_VALUES_AT_ONCE = 1 << 18  # dense values that are sorted together


@dataclass(frozen=True, slots=True, eq=False)
class RankSums:
    """Two-sided Mann-Whitney rank-sum tests, one a gene.

    Parameters
    ----------
    p_value : (G,)
        Two-sided p-values, 1 for a gene that is constant over all cells.
    z_score : (G,)
        Signed statistics.
    """

    p_value: np.ndarray
    z_score: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class SortedCells:
    """The values of cells that are not 0, gene by gene, sorted.

    Parameters
    ----------
    values : (nnz,)
        Values of the first gene, ascending, then those of the second, and so on.
    starts : (G + 1,)
        Where the values of each gene begin.
    n_cells
        Number of cells.
    ties : (G,)
        Sum of ``t^3 - t`` over the values that are not 0, each of which ``t`` cells share.
    """

    values: np.ndarray
    starts: np.ndarray
    n_cells: int
    ties: np.ndarray

    @classmethod
    def of(cls, cells: Matrix) -> Self:
        """Sort checked cells ``(N, G)``, none of which has a value below 0."""
        values, starts = _sorted_by_gene(cells)
        return cls(values, starts, cells.shape[0], _ties(values, starts))

    def test(self, cells: Matrix) -> RankSums:
        """Test every gene of other cells against these, as :func:`transpert.metrics.rank_sums`."""
        n, m = cells.shape[0], self.n_cells
        dtype = np.result_type(np.float32, cells.dtype, self.values.dtype)
        values, starts = _sorted_by_gene(cells)
        above, ties = _count(
            values.astype(dtype, copy=False),
            starts,
            n,
            self.values.astype(dtype, copy=False),
            self.starts,
            m,
            self.ties,
        )
        total = n + m
        spread = np.sqrt(n * m / 12 * np.maximum(total + 1 - ties / (total * max(total - 1, 1)), 0))
        away = above - n * m / 2
        # within the continuity correction of its mean the statistic says nothing
        corrected = np.sign(away) * np.maximum(np.abs(away) - 0.5, 0)
        z_score = np.divide(corrected, spread, out=np.zeros_like(spread), where=spread > 0)
        return RankSums(np.minimum(erfc(np.abs(z_score) / np.sqrt(2)), 1.0), z_score)


def _sorted_by_gene(cells: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """The values that are not 0, gene by gene and each sorted, and where those of each gene begin."""
    if not sparse.issparse(cells):
        return _dense_by_gene(np.asarray(cells))
    values, starts = _by_gene(cells)
    _sort(values, starts)
    return values, starts


def _dense_by_gene(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_sorted_by_gene`; many rows of one length are sorted at once, a block of genes in the cache."""
    dtype = np.result_type(np.float32, cells.dtype)
    found, sizes = [np.zeros(0, dtype)], [np.zeros(1, dtype=np.int64)]
    step = max(_VALUES_AT_ONCE // max(len(cells), 1), 1)
    for start in range(0, cells.shape[1], step):
        block = np.array(cells[:, start : start + step].T, dtype=dtype, order="C")
        block.sort(axis=1)
        there = block != 0
        found.append(block[there])
        sizes.append(np.count_nonzero(there, axis=1))
    return np.concatenate(found), np.cumsum(np.concatenate(sizes))


def _by_gene(cells: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """The values that are not 0, gene by gene, and where those of each begin."""
    matrix: Any = sparse.csc_matrix(cells, copy=False)
    dtype = np.result_type(np.float32, matrix.dtype)
    values = matrix.data.astype(dtype)
    if not values.all():
        matrix = sparse.csc_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape, copy=True)
        matrix.eliminate_zeros()
        values = matrix.data
    return values, np.asarray(matrix.indptr, dtype=np.int64)


def _sort(values: np.ndarray, starts: np.ndarray) -> None:
    """Sort the values of each gene in place."""
    if len(values) < _MANY * len(starts):
        _sort_few(values, starts)
        return
    for start, stop in itertools.pairwise(starts.tolist()):
        values[start:stop].sort()


@njit(cache=True, nogil=True)
def _sort_few(values, starts):  # pragma: no cover - compiled
    for gene in range(len(starts) - 1):
        first = starts[gene]
        if starts[gene + 1] - first > 2 * _MANY:
            values[first : starts[gene + 1]].sort()
            continue
        for place in range(first + 1, starts[gene + 1]):
            value, before = values[place], place - 1
            while before >= first and values[before] > value:
                values[before + 1] = values[before]
                before -= 1
            values[before + 1] = value


@njit(cache=True, nogil=True)
def _ties(values, starts):  # pragma: no cover - compiled
    ties = np.zeros(len(starts) - 1)
    for gene in range(len(ties)):
        own = values[starts[gene] : starts[gene + 1]]
        same = 1.0
        for place in range(1, len(own) + 1):
            if place < len(own) and own[place] == own[place - 1]:
                same += 1.0
            else:
                ties[gene] += same * same * same - same
                same = 1.0
    return ties


@njit(cache=True, nogil=True)
def _count(values, starts, n, control, control_starts, m, control_ties):  # pragma: no cover - compiled
    """Pairs in which the cell is above the control, ties as halves, and the sum over all ties."""
    n_genes = len(starts) - 1
    above, ties = np.zeros(n_genes), np.zeros(n_genes)
    for gene in range(n_genes):
        own = values[starts[gene] : starts[gene + 1]]
        other = control[control_starts[gene] : control_starts[gene + 1]]
        zeros, control_zeros = float(n - len(own)), float(m - len(other))
        wins = zeros * control_zeros / 2 + len(own) * control_zeros
        both = zeros + control_zeros
        tied = control_ties[gene] + both * both * both - both
        place, below = 0, 0
        while place < len(own):
            stop = place + 1
            while stop < len(own) and own[stop] == own[place]:
                stop += 1
            # the next is not far from the last one: steps that double, then halves
            low, step = below, 1
            while low + step < len(other) and other[low + step] < own[place]:
                low, step = low + step, 2 * step
            high = min(low + step, len(other))
            while low < high:
                middle = (low + high) // 2
                if other[middle] < own[place]:
                    low = middle + 1
                else:
                    high = middle
            below = until = low
            while until < len(other) and other[until] == own[place]:
                until += 1
            here, there = float(stop - place), float(until - below)
            wins += here * (below + there / 2)
            both = here + there
            tied += (both * both * both - both) - (there * there * there - there)
            place = stop
        above[gene], ties[gene] = wins, tied
    return above, ties
