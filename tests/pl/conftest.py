"""What the tests of plots share: populations whose scores are known, and a place to close figures."""

from __future__ import annotations

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import transpert as tp


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def score_rows() -> pd.DataFrame:
    """Scores of two models and two baselines in three populations, as ``tp.tl.evaluate`` returns them."""
    means = {
        "NoChange": (np.nan, np.nan, 2.0),
        "MeanShift": (0.4, 1.9, 1.0),
        "mine": (0.7, 1.1, 0.6),
        "other": (0.5, 3.0, 1.4),
        "ceiling": (0.9, 1.0, 0.2),
    }
    names = ("pearson_delta", "n_sig_ratio", "energy_distance")
    rows = []
    for model, values in means.items():
        for metric, value, floor, ceiling in zip(names, values, means["MeanShift"], means["ceiling"], strict=True):
            shared = {"model": model, "metric": metric, "baseline": floor, "ceiling": ceiling}
            normalised = np.nan if metric == "n_sig_ratio" else (value - floor) / (ceiling - floor)
            for context, shift in (("B", -0.1), ("NK", 0.0), ("T", 0.1)):
                place = {"context": context, "perturbation": "IFNB"}
                rows.append({**shared, **place, "value": value + shift, "normalised": normalised + shift})
            interval = {"ci_low": value - 0.08, "ci_high": value + 0.08}
            mean = {"context": "mean", "perturbation": "mean"}
            rows.append({**shared, **mean, "value": value, "normalised": normalised, **interval})
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def truth() -> anndata.AnnData:
    """A screen with strong effects, two contexts, three perturbations, one of which does nothing."""
    return tp.datasets.simulate(
        n_contexts=2, n_perturbations=3, n_genes=120, n_cells=80, effect_size=1.2, null=0.34, seed=3
    )


@pytest.fixture(scope="session")
def predictions(truth) -> dict[str, anndata.AnnData]:
    """Three predictions: the truth itself, the controls unchanged, and cells that are all their population's mean."""
    keep = ["perturbation", "context"]
    control = (truth.obs["perturbation"] == "control").to_numpy()
    still, constant = truth.X.toarray(), truth.X.toarray()
    for _, rows in truth.obs.groupby(keep, observed=True).indices.items():
        context = (truth.obs["context"] == truth.obs["context"].iloc[rows[0]]).to_numpy()
        still[rows] = still[control & context][: len(rows)]
        constant[rows] = constant[rows].mean(axis=0)
    return {
        name: anndata.AnnData(values, obs=truth.obs[keep].copy(), var=pd.DataFrame(index=truth.var_names))
        for name, values in (("replica", truth.X.copy()), ("no change", still), ("constant cells", constant))
    }


@pytest.fixture(scope="session")
def doses() -> anndata.AnnData:
    """One perturbation at four doses in one context."""
    return tp.datasets.simulate(
        n_contexts=1, n_perturbations=1, n_genes=40, n_cells=80, doses=(0.01, 0.1, 1.0, 10.0), effect_size=1.5, seed=1
    )
