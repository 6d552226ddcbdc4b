"""The effect of every condition in every context, with its sampling error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.conditions import Condition
from transpert.groups import ControlMatching, Groups

from .options import EffectSpace
from .statistics import PooledStatistics, pooled_statistics

# a dense product of so many rows costs less than a sparse one if one weight in so many is not 0
_ROWS_AT_ONCE, _DENSE = 128, 20


@dataclass(frozen=True, slots=True, eq=False)
class PopulationMeans:
    """Means of populations with the sampling variance of each mean.

    Parameters
    ----------
    n_cells : (P,)
        Number of cells behind each mean.
    mean_rate, error_rate : (P, G)
        Mean counts per 10k and the variance of that mean.
    mean_log, error_log : (P, G)
        Mean log1p counts per 10k and the variance of that mean.
    """

    n_cells: np.ndarray
    mean_rate: np.ndarray
    error_rate: np.ndarray
    mean_log: np.ndarray
    error_log: np.ndarray

    @classmethod
    def of_rows(cls, statistics: PooledStatistics, rows: slice) -> PopulationMeans:
        """Take neighbouring rows as they are, each of them one population of several batches."""
        return cls(
            statistics.cells_of_rows[rows],
            statistics.mean_rate[rows],
            statistics.error_rate[rows],
            statistics.mean_log[rows],
            statistics.error_log[rows],
        )

    @classmethod
    def weighted(cls, statistics: PooledStatistics, rows: slice, weights: sparse.csr_array) -> PopulationMeans:
        """Average neighbouring rows, each of them one group, with the given weights, ``(Q, P)``; each sums to 1."""
        of_each = statistics.cells_of_rows[rows]
        # of the cells of a group, of which the variance of its mean was made
        per_cell = sparse.diags_array(np.maximum(of_each - 1, 1) / np.maximum(of_each, 1))
        squared = ((weights**2) @ per_cell).tocsr()
        n_cells = (weights > 0) @ of_each
        free = n_cells - (weights > 0) @ (of_each > 0).astype(float)
        unbiased = sparse.diags_array(n_cells / np.maximum(free, 1))
        squared = unbiased @ squared
        return cls(
            n_cells,
            _summed(weights, statistics.mean_rate[rows]),
            _summed(squared, statistics.error_rate[rows]),
            _summed(weights, statistics.mean_log[rows]),
            _summed(squared, statistics.error_log[rows]),
        )

    def __getitem__(self, rows: np.ndarray) -> PopulationMeans:
        return PopulationMeans(*(getattr(self, name)[rows] for name in self.__slots__))


def _summed(weights: sparse.csr_array, values: np.ndarray) -> np.ndarray:
    """Multiply weights ``(Q, P)`` with values ``(P, G)``, densely where neighbouring rows have the same columns."""
    summed = np.empty((weights.shape[0], values.shape[1]), values.dtype)
    for start in range(0, len(summed), _ROWS_AT_ONCE):
        block = weights[start : start + _ROWS_AT_ONCE]
        columns = np.unique(block.indices)
        dense = _DENSE * block.nnz > block.shape[0] * len(columns)
        own = block[:, columns].toarray() if dense else block[:, columns]
        summed[start : start + _ROWS_AT_ONCE] = own @ values[columns]
    return summed


@dataclass(frozen=True, slots=True, eq=False)
class GroupEffects:
    """Treated populations and the controls they are compared with, one row a (context, condition).

    Parameters
    ----------
    contexts : (P,)
        Context of each row.
    conditions
        Condition of each row.
    treated, control
        Means of the treated cells, and of their controls in the same proportions of batches.
    statistics
        What is known of all cells together, without its rows.
    """

    contexts: np.ndarray
    conditions: tuple[Condition, ...]
    treated: PopulationMeans
    control: PopulationMeans
    statistics: PooledStatistics

    def __len__(self) -> int:
        return len(self.contexts)

    def __getitem__(self, rows: np.ndarray) -> GroupEffects:
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return GroupEffects(
            self.contexts[rows],
            tuple(self.conditions[row] for row in rows),
            self.treated[rows],
            self.control[rows],
            self.statistics,
        )

    def shift(self) -> np.ndarray:
        """Return the difference of mean log1p, ``(P, G)``."""
        return self.treated.mean_log - self.control.mean_log

    def error_log(self, means: PopulationMeans) -> np.ndarray:
        """Return the sampling variance of the mean log1p of ``treated`` or ``control``, ``(P, G)``.

        A gene seen in no cell, or in one cell alone, still has the error of one molecule.
        """
        molecule = np.log1p(np.average(self.statistics.mean_inverse_library))
        return np.maximum(means.error_log, (molecule / np.maximum(means.n_cells, 1)[:, None]) ** 2)

    def in_space(self, space: EffectSpace, pseudo_rate: float) -> tuple[np.ndarray, np.ndarray]:
        """Return effects and their sampling variances in one space.

        Parameters
        ----------
        space
            ``"log_fold"``: ``log(mu1 + e) - log(mu0 + e)`` of the mean counts per 10k; ``"log1p"``: the difference of
            mean log1p.
        pseudo_rate
            ``e``, in counts per 10k.

        Returns
        -------
        Effects and variances, each ``(P, G)``.
        """
        values = np.empty((2, *self.treated.mean_log.shape), self.treated.mean_log.dtype)
        for start in range(0, len(self), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            values[:, rows] = self[np.arange(len(self))[rows]]._in_space(space, pseudo_rate)
        return values[0], values[1]

    def _in_space(self, space: EffectSpace, pseudo_rate: float) -> tuple[np.ndarray, np.ndarray]:
        """Compute effects and variances of all rows at once."""
        treated, control = self.treated, self.control
        if space == "log1p":
            return self.shift(), self.error_log(treated) + self.error_log(control)
        effect = np.log(treated.mean_rate + pseudo_rate) - np.log(control.mean_rate + pseudo_rate)
        # the delta method; a gene seen in no cell still has the error of one molecule
        variance = sum(
            (means.error_rate + pseudo_rate / np.maximum(means.n_cells, 1)[:, None])
            / (means.mean_rate + pseudo_rate) ** 2
            for means in (treated, control)
        )
        return effect, variance


@as_annotated(counts="N G")
@fill_docstring
def group_effects(
    counts: sparse.csr_matrix, library_size: np.ndarray, groups: Groups, matching: ControlMatching
) -> GroupEffects:
    """Compare every condition in every context with its matched controls.

    The controls are averaged in the proportions in which the batches occur among the treated cells, so that a
    difference between batches is not taken for an effect.

    Parameters
    ----------
    %(counts_and_library_sizes)s
    %(groups_and_controls)s

    Returns
    -------
    One row for each pair of context and condition.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=2, n_perturbations=3, n_genes=20, n_cells=30)
    >>> groups = tp.groups.make_groups(adata.obs, tp.groups.Design("perturbation", "control", ("context",)))
    >>> matching = tp.groups.match_controls(groups)
    >>> len(tp.transport.group_effects(adata.layers["counts"], adata.obs["library_size"], groups, matching))
    6
    """
    library = np.asarray(library_size, dtype=float)
    statistics = pooled_statistics(counts, library, groups.codes, rows_of_groups(groups))
    return effects_from_statistics(statistics, groups, matching)


@as_annotated()
def rows_of_groups(groups: Groups) -> np.ndarray:
    """Say which groups are pooled: the batches of a condition in a context, while every control group is kept.

    Parameters
    ----------
    groups
        The groups of the cells.

    Returns
    -------
    The row of each group, ``(P,)``: first those of the conditions, as :func:`group_effects` orders them.
    """
    rows = np.empty(len(groups), dtype=np.int64)
    conditions = groups_by_condition(groups)
    for row, members in enumerate(conditions.values()):
        rows[members] = row
    rows[groups.control_groups] = len(conditions) + np.arange(len(groups.control_groups))
    return rows


@as_annotated()
@fill_docstring
def effects_from_statistics(statistics: PooledStatistics, groups: Groups, matching: ControlMatching) -> GroupEffects:
    """Compare every condition in every context with its matched controls, from the statistics of the groups.

    Parameters
    ----------
    statistics
        Statistics of the rows that :func:`rows_of_groups` names.
    %(groups_and_controls)s

    Returns
    -------
    As :func:`group_effects`.
    """
    rows = groups_by_condition(groups)
    treated_rows, control_rows = slice(len(rows)), slice(len(rows), len(statistics.mean_rate))
    return GroupEffects(
        np.array([context for context, _ in rows], dtype=object),
        tuple(condition for _, condition in rows),
        PopulationMeans.of_rows(statistics, treated_rows),
        PopulationMeans.weighted(statistics, control_rows, _control_weights(statistics, list(rows.values()), matching)),
        statistics.without_rows(),
    )


def _control_weights(
    statistics: PooledStatistics, rows: Sequence[Sequence[int]], matching: ControlMatching
) -> sparse.csr_array:
    """Weigh control groups as the batches of each row have cells; sparse, zeros would outweigh the statistics."""
    sizes, members = [len(own) for own in rows], np.concatenate([np.asarray(own, dtype=int) for own in rows])
    row, n_cells = np.repeat(np.arange(len(rows)), sizes), statistics.n_cells
    share = n_cells[members] / np.bincount(row, weights=n_cells[members])[row]
    matched = [matching.control_groups[member] for member in members]
    of_member = np.repeat(np.arange(len(members)), [len(own) for own in matched])
    control = np.concatenate(matched)
    weight = share[of_member] * n_cells[control] / np.bincount(of_member, weights=n_cells[control])[of_member]
    column = statistics.rows[control] - len(rows)
    shape = (len(rows), len(statistics.mean_rate) - len(rows))
    return sparse.csr_array((weight, (row[of_member], column)), shape=shape)  # those of the same place are summed


def groups_by_condition(groups: Groups) -> dict[tuple[str, Condition], list[int]]:
    """Return the perturbed groups, which are batches, of every condition in every context."""
    contexts = groups.table["context"].to_numpy()
    found: dict[tuple[str, Condition], list[int]] = {}
    for group in groups.perturbed_groups:
        found.setdefault((contexts[group], groups.conditions[group]), []).append(int(group))
    return found
