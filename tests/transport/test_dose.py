"""Effects at doses and times between those that were measured."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

import transpert as tp
from transpert.conditions import Condition
from transpert.transport.dose import given_parts, interpolate_over


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


def separate(condition: Condition) -> tuple[np.ndarray, np.ndarray]:
    """X moves the first gene and Y the second, each by how often its dose is ten times 0.01."""
    moved = [np.log10(max(dose, 0.01) / 0.01) for dose in condition.doses]
    return np.array(moved), np.ones(2)


def test_a_matrix_of_doses_is_not_one_dose() -> None:
    pairs = [(0.01, 100.0), (1.0, 1.0), (100.0, 0.01), (0.0, 100.0)]
    known = [Condition(("X", "Y"), pair) for pair in pairs]
    for pair, own in zip(pairs, known, strict=True):  # what was measured is known, though the products are the same
        np.testing.assert_allclose(interpolate_over(Condition(("X", "Y"), pair), known, separate)[0], separate(own)[0])
    between, variance = interpolate_over(Condition(("X", "Y"), (0.1, 50.0)), known, separate)
    # nearest to little X and much Y
    assert between[1] > 3 > 2 > between[0]
    assert (variance > 0).all() and (variance < 1).all()


def test_doses_that_rise_together_are_one_dose() -> None:
    known = [Condition(("X", "Y"), (dose, 10 * dose)) for dose in (0.1, 1.0, 10.0)]
    found = [interpolate_over(Condition(("X", "Y"), (dose, 10 * dose)), known, separate)[0] for dose in (0.1, 0.5, 5.0)]
    assert (np.diff(found, axis=0) > 0).all()


@pytest.mark.parametrize("doses", [(10.0,), (1.0, 10.0)])
def test_nothing_happens_at_dose_zero(doses) -> None:
    known = [Condition(("A",), (dose,)) for dose in doses]
    effect, variance = interpolate_over(Condition(("A",), (0.0,)), known, at)
    assert effect == pytest.approx([0]) and variance == pytest.approx([0])


def test_what_was_only_measured_at_dose_zero_is_what_it_is() -> None:
    known = [Condition(("A",), (0.0,))]
    assert interpolate_over(Condition(("A",), (0.0,)), known, at)[0] == pytest.approx([100.0])


def test_a_part_that_is_not_given_is_no_part() -> None:
    both = Condition(("X", "Y"), (0.0, 3.0), 6.0, ("activation", "repression"))
    assert given_parts(both) == Condition(("Y",), (3.0,), 6.0, ("repression",))
    assert given_parts(Condition(("X", "Y"), (1.0, 3.0))) == Condition(("X", "Y"), (1.0, 3.0))
    # of a combination that was measured at other doses, what the single perturbation does is better known
    rng = np.random.default_rng(0)
    rows = [(p, d) for p, d in [("control", ""), ("X", "10"), ("Y", "10"), ("X+Y", "1+1"), ("X+Y", "10+10")]]
    obs = [(p, d) for p, d in rows for _ in range(80)]
    rate = np.full((len(obs), 12), 20.0)
    for cell, (perturbation, _) in enumerate(obs):
        rate[cell, :4] *= 3.0 if "X" in perturbation else 1
        rate[cell, 4:8] *= 3.0 if "Y" in perturbation else 1
    adata = AnnData(rng.poisson(rate).astype(np.float32))
    adata.obs["perturbation"], adata.obs["dose"] = zip(*obs, strict=True)
    adata.obs["context"] = "c"
    adata.obs.loc[adata.obs["dose"] == "", "dose"] = None
    adata.obs["total"] = adata.X.sum(axis=1)
    keys = {"perturbation_key": "perturbation", "context_keys": "context", "dose_key": "dose"}
    tp.KernelTransport.setup_anndata(adata, **keys, library_size_key="total")
    model = tp.KernelTransport(adata)
    model.train()
    found, alone = (
        model.get_effects({"context": "c"}, label, doses=dose).to_numpy().ravel()
        for label, dose in (("X+Y", ["0+10"]), ("Y", ["10"]))
    )
    np.testing.assert_allclose(found, alone, atol=1e-6)
    assert found[4:8].min() > found[:4].max() + 0.5
