"""Means and variances of groups of cells: all that the anchor ever looks at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy import sparse

from transpert import _keys
from transpert._arguments import check_whole, refused
from transpert._counts import check_library_sizes, library_of_each
from transpert._docstrings import fill_docstring
from transpert._matrices import canonical
from transpert._signatures import as_annotated

from .moments import LOG, LOG_SQUARED, RATE, RATE_SQUARED, MomentSums

CELLS_AT_ONCE = 16_384  # cells that are read at a time


@dataclass(frozen=True, slots=True, eq=False)
class GroupStatistics:
    """Means and variances of groups of cells, gene by gene.

    Parameters
    ----------
    n_cells : (P,)
        Number of cells.
    mean_rate, var_rate : (P, G)
        Mean and variance of the counts per 10k.
    mean_log, var_log : (P, G)
        Mean and variance of log1p counts per 10k.
    mean_inverse_library : (P,)
        Mean of ``1e4 / library size``: the Poisson variance of a rate is the rate times this.
    """

    n_cells: np.ndarray
    mean_rate: np.ndarray
    var_rate: np.ndarray
    mean_log: np.ndarray
    var_log: np.ndarray
    mean_inverse_library: np.ndarray

    def __len__(self) -> int:
        return len(self.n_cells)

    def overdispersion(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what is more than Poisson noise and squared means, each summed over the groups, ``(G,)``."""
        weight = np.maximum(self.n_cells - 1, 0)[:, None]
        # Poisson noise of a rate is rate * E[1e4 / library]; what is left over is biological
        excess = self.var_rate - self.mean_rate * self.mean_inverse_library[:, None]
        return (weight * excess).sum(axis=0), (weight * self.mean_rate**2).sum(axis=0)


@dataclass(frozen=True, slots=True, eq=False)
class PooledStatistics:
    """Means and variances of rows of groups: of each condition in a context, whose groups are batches.

    Parameters
    ----------
    n_cells, mean_inverse_library : (P,)
        Number of cells of each group, and the mean of ``1e4 / library size``.
    rows : (P,)
        The row of each group.
    mean_rate, mean_log : (Q, G)
        Means of each row.
    error_rate, error_log : (Q, G)
        Variances of these means, of cells around the mean of their own group.
    total : (4, G)
        Sums over all cells: of the rates, their squares, the log1p values and their squares.
    excess, squared_mean : (G,)
        As :meth:`GroupStatistics.overdispersion` returns them of the groups.
    """

    n_cells: np.ndarray
    mean_inverse_library: np.ndarray
    rows: np.ndarray
    mean_rate: np.ndarray
    error_rate: np.ndarray
    mean_log: np.ndarray
    error_log: np.ndarray
    total: np.ndarray
    excess: np.ndarray
    squared_mean: np.ndarray

    @classmethod
    def of(cls, moments: MomentSums) -> Self:
        """Make them of sums to which nothing is added any more."""
        moments.close()
        total = moments.total  # before the sums become means
        n_cells = np.bincount(moments.rows, weights=moments.n_cells, minlength=len(moments.sums[RATE]))
        n_groups = np.bincount(moments.rows, weights=moments.n_cells > 0, minlength=len(n_cells))
        # each group has taken its own mean from its cells; one of two cells has half of the variance left
        divided_by = np.maximum(n_cells, 1), np.maximum(n_cells * np.maximum(n_cells - n_groups, 1), 1)
        for kind, divisor in zip((RATE, RATE_SQUARED, LOG, LOG_SQUARED), 2 * divided_by, strict=True):
            moments.sums[kind][:] /= divisor[:, None].astype(moments.sums[kind].dtype)
        mean_rate, error_rate, mean_log, error_log = moments.sums
        excess, squared_mean = moments.overdispersion
        return cls(
            moments.n_cells, moments.mean_inverse_library, moments.rows,
            mean_rate, error_rate, mean_log, error_log, total, excess, squared_mean,
        )  # fmt: skip

    @property
    def cells_of_rows(self) -> np.ndarray:
        """Number of cells of each row, ``(Q,)``."""
        return np.bincount(self.rows, weights=self.n_cells, minlength=len(self.mean_rate))

    def overdispersion(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what is more than Poisson noise and squared means, each summed over the groups, ``(G,)``."""
        return self.excess, self.squared_mean

    def mean_and_spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the log1p values of all cells, each ``(G,)``."""
        mean, square = self.total[LOG:] / max(self.n_cells.sum(), 1)
        return mean, np.sqrt(np.maximum(square - mean**2, 0))

    def without_rows(self) -> Self:
        """Return what is known of all cells together."""
        nothing = np.zeros((0, self.mean_rate.shape[1]))
        return replace(self, mean_rate=nothing, error_rate=nothing, mean_log=nothing, error_log=nothing)

    def by_group(self) -> GroupStatistics:
        """Return the statistics of the groups, where each is a row of its own."""
        free = np.maximum(self.n_cells - 1, 1)[:, None]
        return GroupStatistics(
            self.n_cells.astype(int), self.mean_rate, self.error_rate * free, self.mean_log,
            self.error_log * free, self.mean_inverse_library,
        )  # fmt: skip


@as_annotated(counts="N G", codes="N")
@fill_docstring
def group_statistics(
    counts: sparse.csr_matrix | np.ndarray, library_size: np.ndarray, codes: np.ndarray, n_groups: int
) -> GroupStatistics:
    """Compute the statistics of groups in one pass over the stored values.

    Parameters
    ----------
    %(counts_and_library_sizes)s
    codes : (N,)
        The group of each cell; cells with -1 are left out.
    n_groups
        Number of groups ``P``.

    Returns
    -------
    The statistics; groups without cells are zero.

    Raises
    ------
    transpert.errors.CountsError
        If there is not one library size for each cell, or that of a cell in a group is not above 0, or not finite.
    transpert.errors.OptionError
        If a code is not the number of a group.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.transport import group_statistics
    >>> counts = np.array([[1, 0], [3, 0]])
    >>> group_statistics(counts, np.array([1e4, 1e4]), np.array([0, 0]), 1).mean_rate.round(3).tolist()
    [[2.0, 0.0]]
    """
    codes = np.asarray(codes)
    check_whole(n_groups, name="n_groups", least=1)
    if codes.dtype.kind not in "iu" or (len(codes) and not -1 <= codes.min() <= codes.max() < n_groups):
        raise refused("codes", codes, f"Give the number of a group, from 0 to {n_groups - 1}, for each cell, or -1.")
    return pooled_statistics(counts, library_size, codes, np.arange(n_groups), dtype=np.float64).by_group()


def pooled_statistics(
    counts: sparse.csr_matrix | np.ndarray,
    library_size: np.ndarray,
    codes: np.ndarray,
    rows: np.ndarray,
    *,
    dtype: type = np.float32,
) -> PooledStatistics:
    """Compute the statistics of rows of groups, as :func:`group_statistics`; ``rows`` is the row of each group."""
    library = library_of_each(counts, library_size)
    moments = moments_of_groups(library, codes, rows, counts.shape[1], dtype=dtype)
    used = np.flatnonzero(codes >= 0)
    used = used[np.argsort(codes[used], kind="stable")]
    matrix = sparse.csr_matrix(canonical(counts, where="counts"))
    moments.add(matrix, _keys.SCALE_FACTOR / library[used], codes[used], cells=used)
    return PooledStatistics.of(moments)


def moments_of_groups(
    library_size: np.ndarray, codes: np.ndarray, rows: np.ndarray, n_genes: int, *, dtype: type = np.float32
) -> MomentSums:
    """Begin sums over cells.

    Parameters
    ----------
    library_size : (N,)
        Total counts of each cell.
    codes : (N,)
        The group of each cell; -1 for none.
    rows : (P,)
        The row of each group, of which the sums are kept.
    n_genes
        Number of genes.
    dtype
        Precision of what is kept of each row: single, which is more than counts tell of a mean.

    Returns
    -------
    Sums to which no cell is added yet.

    Raises
    ------
    transpert.errors.CountsError
        If the library size of a cell in a group is not above 0, or not finite.
    """
    used = codes >= 0
    library = np.asarray(library_size, dtype=float)[used]
    check_library_sizes(library, where="library_size")
    n_cells = np.bincount(codes[used], minlength=len(rows))
    inverse = np.bincount(codes[used], weights=_keys.SCALE_FACTOR / library, minlength=len(rows))
    return MomentSums(n_cells, inverse / np.maximum(n_cells, 1), rows, n_genes, dtype)
