"""Effects at doses and times between those that were measured."""

from __future__ import annotations

import numpy as np
import pytest

import transpert as tp
from transpert.conditions import Condition
from transpert.transport.dose import interpolate_over


def at(condition: Condition) -> tuple[np.ndarray, np.ndarray]:
    """The effect is the dose, 100 where none is recorded."""
    return np.array([condition.doses[0] or 100.0]), np.ones(1)


def test_a_dose_that_is_not_recorded_stands_beside_those_that_are() -> None:
    known = [Condition(("A",), (dose,), time) for dose in (None, 1.0, 10.0) for time in (None, 6.0)]
    found, _ = interpolate_over(Condition(("A",), (10.0,), 6.0), known, at)
    assert found == pytest.approx([10.0])
    none, _ = interpolate_over(Condition(("A",), (None,), 6.0), known, at)
    assert none == pytest.approx([np.mean([100.0, 1.0, 10.0])])


def test_models_train_where_a_drug_has_no_dose_in_some_cells() -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=20, n_cells=30, doses=(1.0, 10.0))
    some = (adata.obs["perturbation"] == "P0").to_numpy() & (np.arange(adata.n_obs) % 3 == 0)
    adata.obs.loc[some, "dose"] = np.nan
    keys = {"perturbation_key": "perturbation", "context_keys": "context", "dose_key": "dose", "layer": "counts"}
    tp.KernelTransport.setup_anndata(adata, **keys)
    model = tp.KernelTransport(adata)
    model.train()
    assert np.isfinite(model.get_effects({"context": "context_0"}, "P0").to_numpy()).all()
