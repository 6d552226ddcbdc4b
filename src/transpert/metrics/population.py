"""One population of cells, and what many metrics compute from it, computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.errors import MetricInputError

from ._inputs import check_cells, dense, same_values
from .cell_products import GeneParts
from .differential_expression import (
    TRANSPERT,
    Convention,
    DifferentialExpression,
    assemble,
    mean_rate,
)
from .pseudobulk import bulk_noise, bulk_profile
from .rank_tests import RankSums, SortedCells

type Matrix = np.ndarray | sparse.spmatrix

_PER = 1e4
_CELLS_AT_ONCE = 16
# share of cells with a gene from which a dense product costs less than one over the values that are not 0
_OFTEN = 0.1


@dataclass(eq=False)
@fill_docstring
class Population:
    """A population of cells with what metrics share.

    Give one object to every comparison it takes part in (the controls of a context, the real cells that several
    models predict), and its means, tests and distances are computed once.

    Parameters
    ----------
    cells : (N, G)
        Log1p counts per 10k, dense or sparse.
    counts : (N, G)
        Raw counts of the same cells, for the metrics that need them.
    where
        What to call it in an error.

    %(raises_bad_matrices)s

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import Population
    >>> Population(np.array([[0.0, 1.0], [2.0, 1.0]])).mean.tolist()
    [1.0, 1.0]
    """

    cells: Matrix
    counts: Matrix | None = None
    where: str = "the cells"
    distance_sum: float | None = field(default=None, init=False, repr=False)  # over all pairs, kept by energy_distance
    _tests: dict[tuple[int, bool], tuple[Population, RankSums]] = field(default_factory=dict, init=False, repr=False)
    _sorted: dict[bool, SortedCells] = field(default_factory=dict, init=False, repr=False)
    _tables: dict[tuple[int, Convention], DifferentialExpression] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.cells = check_cells(self.cells, where=self.where)
        if self.counts is not None:
            self.counts = check_cells(self.counts, where=f"the counts of {self.where}", n_genes=self.n_genes)
            if self.counts.shape[0] != self.n_cells:
                raise MetricInputError(
                    f"{self.counts.shape[0]} cells have counts, {self.n_cells} have log1p values",
                    where=self.where,
                    remedy="Give counts of the same cells, in the same order.",
                )

    @classmethod
    def of(cls, cells: Matrix | Population, *, where: str = "the cells") -> Population:
        """Return ``cells`` as a population, itself if it is one."""
        return cells if isinstance(cells, Population) else cls(cells, where=where)

    def check_genes(self, n_genes: int) -> None:
        """Check the number of genes.

        Raises
        ------
        transpert.errors.MetricInputError
            If it is another.
        """
        if self.n_genes != n_genes:
            hint = "It may be transposed." if self.n_cells == n_genes else "Align the genes by name."
            raise MetricInputError(f"the matrix has {self.n_genes} genes, not {n_genes}", where=self.where, remedy=hint)

    def same_as(self, other: Population) -> bool:
        """Return whether the cells, and their counts, are those of another population in the same order."""
        pairs = ((self.cells, other.cells), (self.counts, other.counts))
        return all(a is b or (a is not None and b is not None and same_values(a, b)) for a, b in pairs)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.cells.shape[0]

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.cells.shape[1]

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean log1p, ``(G,)``."""
        if not sparse.issparse(self.cells):
            return self._summed(lambda cells: cells) / self.n_cells
        # scipy averages float32 in float32, whatever dtype is asked for
        return np.asarray(self.cells.astype(np.float64).mean(axis=0)).ravel()

    @cached_property
    def variance(self) -> np.ndarray:
        """Variance of log1p over the cells, ``(G,)``."""
        if not sparse.issparse(self.cells):
            return self._summed(lambda cells: np.square(cells - self.mean)) / self.n_cells
        squares: Any = self.cells.astype(np.float64)
        squares.data **= 2
        return np.maximum(np.asarray(squares.mean(axis=0)).ravel() - self.mean**2, 0)

    def _summed(self, values_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Sum values made of dense cells in double precision, a few cells in the cache at a time."""
        total = np.zeros(self.n_genes)
        for start in range(0, self.n_cells, _CELLS_AT_ONCE):
            total += values_of(np.asarray(self.cells[start : start + _CELLS_AT_ONCE], dtype=np.float64)).sum(axis=0)
        return total

    @cached_property
    def share_above_zero(self) -> np.ndarray:
        """Share of the cells in which each gene is not 0, ``(G,)``."""
        if sparse.issparse(self.cells):  # without stored zeros, once it was checked
            matrix: Any = self.cells
            return np.bincount(matrix.tocsr().indices, minlength=self.n_genes) / self.n_cells
        return np.count_nonzero(self.cells, axis=0) / self.n_cells

    @cached_property
    def mean_rate(self) -> np.ndarray:
        """Mean counts per 10k, ``(G,)``."""
        return mean_rate(self.cells)

    @cached_property
    def dense(self) -> np.ndarray:
        """The cells as a dense matrix of their own floating type."""
        return dense(self.cells)

    @cached_property
    def centred(self) -> np.ndarray:
        """The cells around their mean, dense."""
        return self.dense - self.mean.astype(self.dense.dtype)

    @cached_property
    def parts(self) -> GeneParts | None:
        """The cells by genes that are often and seldom above 0; ``None`` for dense cells."""
        if not sparse.issparse(self.cells):
            return None
        return GeneParts.of(self.cells, self.share_above_zero >= _OFTEN, self.mean)

    @cached_property
    def centred_squares(self) -> np.ndarray:
        """Squared distances of the cells to their mean, ``(N,)``."""
        return np.einsum("ij,ij->i", self.centred, self.centred)

    @cached_property
    def mean_square(self) -> float:
        """Mean squared length of a cell."""
        values = self.cells.data if sparse.issparse(self.cells) else np.asarray(self.cells)
        return float(np.sum(np.square(values, dtype=np.float64)) / self.n_cells)

    @cached_property
    def rates(self) -> Matrix:
        """Counts per 10k in double precision, from the raw counts."""
        counts = self.required_counts()
        counts = counts.astype(np.float64) if sparse.issparse(counts) else np.asarray(counts, dtype=np.float64)
        totals = np.asarray(counts.sum(axis=1)).ravel() / _PER
        totals[totals == 0] = 1.0
        if not sparse.issparse(counts):
            return counts / totals[:, None]
        rates = sparse.csr_matrix(counts)
        rates.data = rates.data / np.repeat(totals, np.diff(rates.indptr))
        return rates

    @cached_property
    def bulk(self) -> np.ndarray:
        """Profile of the summed counts, ``(G,)``."""
        return bulk_profile(self.required_counts())

    @cached_property
    def bulk_noise(self) -> float:
        """Sampling variance of that profile, summed over genes."""
        return bulk_noise(self.required_counts())

    def required_counts(self) -> Matrix:
        """Return the raw counts.

        Raises
        ------
        transpert.errors.MetricInputError
            If there are none.
        """
        if self.counts is None:
            raise MetricInputError(
                "the metric is computed from raw counts, and there are none",
                where=self.where,
                remedy="Pass Population(cells, counts=...), or leave the metrics of the 'vcc2026' panel out.",
            )
        return self.counts

    def differential_expression(
        self, controls: Population, convention: Convention = TRANSPERT
    ) -> DifferentialExpression:
        """Test every gene against the controls; done once for each pair of controls and convention."""
        key = (id(controls), convention)
        if key not in self._tables:
            rank_sums_together([self], controls, from_counts=convention.from_counts)
            tests = self._tests[id(controls), convention.from_counts][1]
            arithmetic = Convention(from_counts=convention.from_counts)
            self._tables[key] = assemble(
                tests, self._means(convention), controls._means(convention), controls._means(arithmetic), convention
            )
        return self._tables[key]

    def _means(self, convention: Convention) -> np.ndarray:
        if convention.mean == "geometric":
            return np.expm1(self.mean)
        return np.asarray(self.rates.mean(axis=0)).ravel() if convention.from_counts else self.mean_rate

    def sorted_values(self, from_counts: bool = False) -> SortedCells:
        """Return the values that rank-sum tests compare, sorted gene by gene; done once for the cells."""
        if from_counts not in self._sorted:
            self._sorted[from_counts] = SortedCells.of(self._ranked_values(from_counts))
        return self._sorted[from_counts]

    def _ranked_values(self, from_counts: bool) -> Matrix:
        if not from_counts:
            return self.cells
        # per million, as the challenge has it: the logarithm may make ties
        per_million: Any = self.rates * (1e6 / _PER)
        return per_million.log1p() if sparse.issparse(per_million) else np.log1p(per_million)


@as_annotated(error=MetricInputError)
def rank_sums_together(populations: Sequence[Population], controls: Population, *, from_counts: bool = False) -> None:
    """Run the rank-sum tests of several populations against the same controls at once, and keep them with each.

    Parameters
    ----------
    populations
        Those that are not tested yet are.
    controls
        Their controls.
    from_counts
        Test values computed from the raw counts.

    Returns
    -------
    Nothing; the tests are kept with each population, for :meth:`Population.differential_expression`.

    Raises
    ------
    transpert.errors.MetricInputError
        If the populations have other genes than the controls.

    Examples
    --------
    >>> import numpy as np
    >>> from transpert.metrics import Population, rank_sums_together
    >>> rng = np.random.default_rng(0)
    >>> controls, same, shifted = (Population(rng.random((50, 1)) + shift) for shift in (0, 0, 1))
    >>> rank_sums_together([same, shifted], controls)
    >>> [cells.differential_expression(controls).n_significant for cells in (same, shifted)]
    [0, 1]
    """
    key = (id(controls), from_counts)
    wanted = [population for population in dict.fromkeys(populations) if key not in population._tests]
    if not wanted:
        return  # the controls would be checked, or computed from counts, for nothing
    known = controls.sorted_values(from_counts)
    for population in wanted:
        population.check_genes(controls.n_genes)
        # keeping the controls keeps their id theirs
        population._tests[key] = (controls, known.test(population._ranked_values(from_counts)))
