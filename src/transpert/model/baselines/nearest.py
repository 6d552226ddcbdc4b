"""The shift of the nearest measured group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import override

import numpy as np

from transpert._amounts import amount_gap
from transpert._docstrings import fill_docstring
from transpert.conditions import Condition, Embedding

from .closed_form import ShiftRule


@fill_docstring
class NearestPerturbation(ShiftRule):
    """Copy the shift of the nearest measured group: same perturbation, nearest dose and time, most similar context.

    A group of the other direction is copied only where there is none of the same. A perturbation that was never
    measured gets the shift of the perturbation that shares most parts with it; else of the one whose embedding is
    nearest, where there are embeddings; else of the one whose shifts are most like those of all others.

    Parameters
    ----------
    %(registered_data)s
    %(readout_added)s
    embeddings
        As for :class:`KernelTransport`; the nearest perturbation is that of the largest cosine.

    Examples
    --------
    >>> import transpert as tp
    >>> adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=30)
    >>> tp.NearestPerturbation.setup_anndata(
    ...     adata, perturbation_key="perturbation", context_keys="context", layer="counts"
    ... )
    >>> model = tp.NearestPerturbation(adata)
    >>> model.train()
    >>> model.predict(progress=False).n_vars
    20
    """

    _place = 5

    @override
    def _shift(self, condition: Condition, context: str, before: np.ndarray) -> np.ndarray:
        table = self._fitted.table
        shared = table.n_shared_parts(condition)
        elsewhere = ~(table.of_context(context) & table.of_action(condition))
        candidates = (shared == shared[elsewhere].max(initial=0)) & elsewhere
        if not candidates.any():
            candidates = np.ones_like(elsewhere)
        if shared.any():
            candidates = _nearest_amounts(condition, table.conditions, candidates)
        distance = np.linalg.norm(table.profiles - before, axis=1)
        if not shared.any() and self.embedding is not None:
            candidates = _most_similar(self.embedding, condition, table.conditions)
        elif not shared.any():
            # nothing in common with anything: the most typical effect of the nearest context
            distance = distance + np.linalg.norm(self._shifts - self._shifts.mean(axis=0), axis=1)
        return self._shifts[np.flatnonzero(candidates)[np.argmin(distance[candidates])]]


def _nearest_amounts(condition: Condition, known: Sequence[Condition], candidates: np.ndarray) -> np.ndarray:
    """Return the candidates of the same directions if there are any, and of these the nearest in dose and time."""
    rows = np.flatnonzero(candidates).tolist()
    apart = {other: _distance(condition, other) for other in {known[row] for row in rows}}
    nearest = min(apart.values())
    chosen = np.zeros_like(candidates)
    chosen[[row for row in rows if apart[known[row]] == nearest]] = True
    return chosen


def _distance(condition: Condition, other: Condition) -> tuple[int, float]:
    """Return how many directions differ, and how far doses and times are apart on log scales."""
    own = dict(zip(condition.parts, zip(condition.directions, condition.doses, strict=True), strict=True))
    opposed, distance = 0, 0.0
    for part, direction, dose in zip(other.parts, other.directions, other.doses, strict=True):
        asked = own.get(part)
        if asked is None:
            continue
        opposed += direction is not None and asked[0] is not None and direction != asked[0]
        if dose is not None and asked[1] is not None:
            distance += amount_gap(dose, asked[1])
    if condition.time is not None and other.time is not None:
        distance += amount_gap(condition.time, other.time)
    return opposed, distance


def _most_similar(embedding: Embedding, condition: Condition, known: Sequence[Condition]) -> np.ndarray:
    """Return which conditions have the most similar embedding, by the cosine of the means of their parts."""
    vectors = np.array([embedding.lookup(other.parts).mean(axis=0) for other in known], dtype=np.float64)
    centre = vectors.mean(axis=0)
    target = embedding.lookup(condition.parts).mean(axis=0) - centre
    lengths = np.linalg.norm(vectors - centre, axis=1)
    cosine = (vectors - centre) @ target / np.maximum(lengths, 1e-12)
    return cosine >= cosine.max() - 1e-9
