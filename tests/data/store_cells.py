"""Cells for stores, and whether a store holds them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from transpert.data import Store
from transpert.groups import Design

N_GENES = 25
DESIGN = Design("perturbation", "control", ("cell_type",), batch_key="donor")


def make_cells(seed: int, n_obs: int = 200, genes: list[str] | None = None) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "perturbation": rng.choice(["control", "A", "B"], n_obs),
            "cell_type": pd.Categorical(rng.choice(["T", "NK"], n_obs)),
            "donor": rng.choice(["d1", "d2"], n_obs),
            "score": rng.normal(size=n_obs),
        },
        index=[f"s{seed}c{i}" for i in range(n_obs)],
    )
    counts = rng.poisson(0.5, (n_obs, N_GENES)).astype(np.float32)
    counts[:, 0] += 1
    var = pd.DataFrame(index=genes or [f"g{i}" for i in range(N_GENES)])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


def assert_holds(store: Store, cells: list[ad.AnnData]) -> None:
    """The store has exactly these cells, with their counts, labels and library sizes."""
    stored = store.to_anndata()
    joined = ad.concat([adata[:, stored.var_names.to_list()] for adata in cells])
    totals = np.concatenate([np.asarray(adata.X.sum(axis=1)).ravel() for adata in cells])
    assert stored.obs_names.is_unique and set(stored.obs_names) == set(joined.obs_names)
    where = joined.obs_names.get_indexer(stored.obs_names)
    assert (stored.X != joined.X[where]).nnz == 0
    np.testing.assert_array_equal(stored.obs["library_size"], totals[where])
    for column in DESIGN.columns:
        assert stored.obs[column].astype(str).tolist() == joined.obs[column].astype(str).iloc[where].tolist()
