"""The baseline that copies the nearest group looks at everything that was done to the cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import transpert as tp

KEYS = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}


def fitted(adata, **more):
    tp.NearestPerturbation.setup_anndata(adata, **KEYS, **more)
    model = tp.NearestPerturbation(adata)
    model.train()
    return model


def test_the_nearest_dose_is_copied() -> None:
    adata = tp.datasets.simulate(
        n_contexts=3, n_perturbations=2, n_genes=40, n_cells=60, doses=(0.1, 1.0, 10.0), moved=0.5, seed=0
    )
    held = (adata.obs["context"] == "context_0") & (adata.obs["perturbation"] != "control")
    adata.obs["split"] = np.where(held, "test", "train")
    model = fitted(adata, dose_key="dose", split_key="split")
    effects = model.get_effects({"context": "context_0"}, "P0", doses=[0.1, 1.0, 9.0, 10.0])
    strength = effects.abs().mean().to_numpy()
    assert strength[0] < strength[1] < strength[3]
    np.testing.assert_allclose(effects.iloc[:, 2], effects.iloc[:, 3], atol=1e-6)  # 9 has the shift of 10


@pytest.mark.parametrize("asked", ["CRISPRa", "CRISPRi"])
def test_the_other_direction_is_not_copied(asked) -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=40, n_cells=60, moved=0.5, seed=0)
    where = adata.obs["context"] == "context_0"
    treated = adata.obs["perturbation"] != "control"
    # in one context only genes switched on, in the other only genes switched off
    adata.obs["direction"] = pd.Series(np.where(where, "CRISPRa", "CRISPRi"), index=adata.obs_names).where(treated)
    model = fitted(adata, direction_key="direction")
    own, other = ("context_0", "context_1") if asked == "CRISPRa" else ("context_1", "context_0")
    shift = {}
    for context in (own, other):
        after = model.get_effects({"context": context}, "P0", directions=asked).to_numpy().ravel()
        shift[context] = after
    rows = adata.obs["context"].astype(str)
    truth = {
        context: adata.X[((rows == context) & (adata.obs["perturbation"] == "P0")).to_numpy()].mean(axis=0)
        - adata.X[((rows == context) & ~treated).to_numpy()].mean(axis=0)
        for context in (own, other)
    }
    copied = np.corrcoef(shift[other], np.asarray(truth[own]).ravel())[0, 1]
    assert copied > np.corrcoef(shift[other], np.asarray(truth[other]).ravel())[0, 1]
