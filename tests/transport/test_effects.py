"""Effects of groups and their sampling variances."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from transpert.groups import Design, make_groups, match_controls
from transpert.transport import GroupEffects, group_effects

LIBRARY = 4000.0


def effects_of(sizes: dict[str, list[int]], rate: float, *, n_genes: int = 400, seed: int = 0) -> GroupEffects:
    """Perturbations without effect; of each the cells in every batch."""
    rows = [("control", batch, 100) for batch in range(4)]
    rows += [(name, batch, n) for name, own in sizes.items() for batch, n in enumerate(own)]
    obs = pd.DataFrame([(name, f"b{batch}") for name, batch, n in rows for _ in range(n)], columns=["p", "batch"])
    counts = np.random.default_rng(seed).poisson(rate, size=(len(obs), n_genes))
    groups = make_groups(obs, Design("p", "control", batch_key="batch"))
    library = np.full(len(obs), LIBRARY)
    return group_effects(sparse.csr_matrix(counts), library, groups, match_controls(groups, warn=False))


@pytest.mark.parametrize("own", [[2], [3], [20], [2, 2, 2, 2], [1, 3, 2, 1]])
def test_sampling_variances_of_small_groups_are_not_too_small(own) -> None:
    effects = effects_of({f"P{i}": own for i in range(60)}, rate=3.0)
    true = np.log1p(np.random.default_rng(1).poisson(3.0, size=100_000) / LIBRARY * 1e4).var() / sum(own)
    assert effects.treated.error_log.mean() == pytest.approx(true, rel=0.05)
    # what the means of the groups really do
    assert effects.treated.mean_log.var(axis=0).mean() == pytest.approx(true, rel=0.05)


def test_a_gene_seen_in_no_treated_cell_is_not_known_exactly() -> None:
    effects = effects_of({"P0": [5], "P1": [50]}, rate=0.0)
    _, variances = effects.in_space("log1p", 1.0)
    molecule = np.log1p(1e4 / LIBRARY)
    expected = [(molecule / 5) ** 2 + (molecule / 100) ** 2, (molecule / 50) ** 2 + (molecule / 100) ** 2]
    np.testing.assert_allclose(variances[:, 0], expected)
