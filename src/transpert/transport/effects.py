"""The effect of every condition in every context, with its sampling error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from transpert._docstrings import fill_docstring
from transpert._signatures import as_annotated
from transpert.conditions import Condition
from transpert.groups import ControlMatching, Groups

from .options import EffectSpace
from .statistics import PooledStatistics, pooled_statistics


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
        n_cells = statistics.cells_of_rows[rows]
        # each group has taken its own mean from its cells; one of two cells has half of the variance left
        free = n_cells - statistics.groups_of_rows[rows]
        per_cell = (1 / np.maximum(n_cells * np.maximum(free, 1), 1))[:, None]
        return cls(
            n_cells,
            statistics.mean_rate[rows],
            statistics.within_rate[rows] * per_cell,
            statistics.mean_log[rows],
            statistics.within_log[rows] * per_cell,
        )

    @classmethod
    def weighted(cls, statistics: PooledStatistics, rows: slice, weights: sparse.csr_array) -> PopulationMeans:
        """Average neighbouring rows, each of them one group, with the given weights, ``(Q, P)``; each sums to 1."""
        of_each = statistics.cells_of_rows[rows]
        per_cell = sparse.diags_array(1 / np.maximum(of_each, 1))
        squared = ((weights @ per_cell) ** 2).tocsr()
        n_cells = (weights > 0) @ of_each
        free = n_cells - (weights > 0) @ (of_each > 0).astype(float)
        unbiased = sparse.diags_array(n_cells / np.maximum(free, 1))
        squared = unbiased @ squared
        return cls(
            n_cells,
            weights @ statistics.mean_rate[rows],
            squared @ statistics.within_rate[rows],
            weights @ statistics.mean_log[rows],
            squared @ statistics.within_log[rows],
        )

    def __getitem__(self, rows: np.ndarray) -> PopulationMeans:
        return PopulationMeans(*(getattr(self, name)[rows] for name in self.__slots__))


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
    control: list[tuple[int, np.ndarray, np.ndarray]] = []
    for row, members in enumerate(rows.values()):
        share = statistics.n_cells[members] / statistics.n_cells[members].sum()
        for weight, member in zip(share, members, strict=True):
            matched = matching.control_groups[member]
            n_cells = statistics.n_cells[matched]
            control.append((row, statistics.rows[matched] - len(rows), weight * n_cells / n_cells.sum()))
    treated_rows, control_rows = slice(len(rows)), slice(len(rows), len(statistics.mean_rate))
    shape = (len(rows), len(groups.control_groups))
    return GroupEffects(
        np.array([context for context, _ in rows], dtype=object),
        tuple(condition for _, condition in rows),
        PopulationMeans.of_rows(statistics, treated_rows),
        PopulationMeans.weighted(statistics, control_rows, _weights(control, shape)),
        statistics.without_rows(),
    )


def _weights(entries: list[tuple[int, np.ndarray, np.ndarray]], shape: tuple[int, int]) -> sparse.csr_array:
    """The weights of groups in rows; sparse, because with many groups the zeros would outweigh the statistics."""
    row = np.concatenate([np.full(len(groups), number) for number, groups, _ in entries])
    column = np.concatenate([groups for _, groups, _ in entries])
    weight = np.concatenate([weights for _, _, weights in entries])
    return sparse.csr_array((weight, (row, column)), shape=shape)  # entries of the same place are summed


def groups_by_condition(groups: Groups) -> dict[tuple[str, Condition], list[int]]:
    """Return the perturbed groups, which are batches, of every condition in every context."""
    contexts = groups.table["context"].to_numpy()
    found: dict[tuple[str, Condition], list[int]] = {}
    for group in groups.perturbed_groups:
        found.setdefault((contexts[group], groups.conditions[group]), []).append(int(group))
    return found
