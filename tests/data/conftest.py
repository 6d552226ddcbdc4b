"""Small experiments with contexts, batches and doses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from transpert.data import MemorySource
from transpert.groups import Design, Groups, make_groups, match_controls

DESIGN = Design("perturbation", "control", ("cell_type",), batch_key="donor")


def halved(groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """Return two masks that divide the perturbed cells of every group."""
    first, second = np.zeros(len(groups.codes), dtype=bool), np.zeros(len(groups.codes), dtype=bool)
    for group in groups.perturbed_groups.tolist():
        first[groups.cells(group)[::2]] = True
        second[groups.cells(group)[1::2]] = True
    return first, second


def make_experiment(seed: int = 0, n_obs: int = 900, n_vars: int = 40) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Return counts and obs; the cells are in no order."""
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "perturbation": rng.choice(["control", "A", "B", "A+B"], n_obs, p=[0.4, 0.3, 0.2, 0.1]),
            "cell_type": rng.choice(["T", "NK"], n_obs),
            "donor": rng.choice(["d1", "d2"], n_obs),
        },
        index=[f"cell{i}" for i in range(n_obs)],
    )
    counts = rng.poisson(0.4, (n_obs, n_vars)).astype(np.float32)
    counts[:, 0] += 1
    return sparse.csr_matrix(counts), obs


@pytest.fixture
def experiment():
    """Groups, matching, source and obs of one experiment."""
    counts, obs = make_experiment()
    groups = make_groups(obs, DESIGN)
    return groups, match_controls(groups), MemorySource.from_matrix(counts), obs
