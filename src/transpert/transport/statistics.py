"""Means and variances of groups of cells: all that the anchor ever looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from transpert import _keys
from transpert._counts import check_library_sizes, library_of_each, log1p_per_10k


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

    def __getitem__(self, groups: np.ndarray | slice) -> GroupStatistics:
        return GroupStatistics(
            self.n_cells[groups],
            self.mean_rate[groups],
            self.var_rate[groups],
            self.mean_log[groups],
            self.var_log[groups],
            self.mean_inverse_library[groups],
        )

    def pool(self, members: np.ndarray) -> GroupStatistics:
        """Merge groups as if their cells had been one.

        Parameters
        ----------
        members : (Q, P)
            For each new group which old groups it is made of (0 or 1).

        Returns
        -------
        Statistics of the Q new groups.
        """
        weight = sparse.csr_matrix(members, dtype=np.float64).multiply(self.n_cells[None, :]).tocsr()
        n_cells = np.asarray(weight.sum(axis=1)).ravel()
        share = sparse.diags(1 / np.maximum(n_cells, 1)) @ weight

        def moments(mean: np.ndarray, var: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            pooled = share @ mean
            return pooled, share @ (var + mean**2) - pooled**2

        mean_rate, var_rate = moments(self.mean_rate, self.var_rate)
        mean_log, var_log = moments(self.mean_log, self.var_log)
        return type(self)(
            n_cells.astype(int), mean_rate, var_rate, mean_log, var_log, share @ self.mean_inverse_library
        )

    @classmethod
    def stack(cls, parts: list[Self]) -> Self:
        """Put the groups of several statistics one below the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))


def group_statistics(
    counts: sparse.csr_matrix | np.ndarray, library_size: np.ndarray, codes: np.ndarray, n_groups: int
) -> GroupStatistics:
    """Compute the statistics of groups in one pass over the stored values.

    Parameters
    ----------
    counts : (N, G)
        Raw counts.
    library_size : (N,)
        Total counts of each cell over all measured genes.
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

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.transport import group_statistics
    >>> counts = np.array([[1, 0], [3, 0]])
    >>> group_statistics(counts, np.array([1e4, 1e4]), np.array([0, 0]), 1).mean_rate.round(3).tolist()
    [[2.0, 0.0]]
    """
    library = library_of_each(counts, library_size)
    used = np.flatnonzero(codes >= 0)
    check_library_sizes(library[used], where="library_size")
    n_cells = np.bincount(codes[used], minlength=n_groups)
    indicator = sparse.csr_matrix(
        (1 / np.maximum(n_cells, 1)[codes[used]], (codes[used], used)), shape=(n_groups, len(codes))
    )
    logs = sparse.csr_matrix(log1p_per_10k(counts, library), dtype=np.float64)
    rates = logs.copy()
    rates.data = np.expm1(rates.data)

    def moments(matrix: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
        mean = (indicator @ matrix).toarray()
        squared = (indicator @ matrix.multiply(matrix)).toarray()
        return mean, np.maximum(squared - mean**2, 0)

    mean_rate, var_rate = moments(rates)
    mean_log, var_log = moments(logs)
    inverse = indicator @ np.divide(_keys.SCALE_FACTOR, library, out=np.zeros_like(library), where=codes >= 0)
    return GroupStatistics(n_cells, mean_rate, var_rate, mean_log, var_log, inverse)
