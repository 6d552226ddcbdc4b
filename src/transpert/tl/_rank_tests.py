"""Populations tested together, so that their controls are sorted once."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
from scipy import sparse

from transpert.metrics import CONVENTIONS, Convention, DifferentialExpression, Population
from transpert.metrics.population import rank_sums_together

# populations are tested together as long as they have no more values than this
VALUES_PER_BLOCK = 10_000_000


def portions[K: Hashable](names: Sequence[K], sizes: Sequence[int], room: int) -> Iterator[list[K]]:
    """Cut names into runs whose sizes add up to ``room`` at most; a larger one stands alone."""
    portion: list[K] = []
    filled = 0
    for name, size in zip(names, sizes, strict=True):
        if portion and filled + size > room:
            yield portion
            portion, filled = [], 0
        portion.append(name)
        filled += size
    if portion:
        yield portion


def tests_against[K: Hashable](
    controls: np.ndarray | sparse.csr_matrix,
    groups: Mapping[K, tuple[np.ndarray | sparse.csr_matrix, np.ndarray]],
    convention: Convention = CONVENTIONS["transpert"],
) -> dict[K, DifferentialExpression]:
    """Test populations against the same controls with the rank-sum test."""
    reference = Population(controls, where="the control cells")
    names = list(groups)
    room = VALUES_PER_BLOCK // max(reference.n_genes, 1)
    found: dict[K, DifferentialExpression] = {}
    for some in portions(names, [len(groups[name][1]) for name in names], room):
        tested = {name: Population(groups[name][0][groups[name][1]], where=f"the cells of {name}") for name in some}
        rank_sums_together(list(tested.values()), reference)
        found |= {name: cells.differential_expression(reference, convention) for name, cells in tested.items()}
    return found
