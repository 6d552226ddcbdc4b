"""Another unit of doses and times changes nothing, and perturbations that were not trained on are no silent means."""

from __future__ import annotations

import numpy as np
import pytest

import transpert as tp
from transpert.conditions import Condition
from transpert.errors import ConditionError, OptionError
from transpert.groups import Design, make_groups
from transpert.model.scale.condition_codes import ConditionTable
from transpert.transport.novelty import amount_distance

UNITS = [1.0, 1e-9, 1e-3, 60.0, 1e6]
KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}


def dosed(unit: float):
    """Cells at three doses and two times, in a unit."""
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=36, n_control_cells=36)
    number = np.arange(adata.n_obs)
    perturbed = (adata.obs["perturbation"] != "control").to_numpy()
    adata.obs["dose"] = np.where(perturbed, unit * np.array([0.1, 1.0, 10.0])[number % 3], np.nan)
    adata.obs["time"] = unit * np.array([6.0, 24.0])[number // 3 % 2]
    return adata


def measured(unit: float):
    """What the network reads, and what the anchor and the novelty say of doses and times that were not measured."""
    adata = dosed(unit)
    design = Design("perturbation", "control", ("context",), dose_key="dose", time_key="time")
    table = ConditionTable.of(make_groups(adata.obs, design), ["P0", "P1"])
    asked = [Condition(("P0",), (dose * unit,), time * unit) for dose in (0.03, 0.5, 100.0) for time in (3.0, 12.0)]
    read = table.encode(asked, [{"context": "context_0"}] * len(asked), [None] * len(asked))
    tp.KernelTransport.setup_anndata(adata, **KEYS, dose_key="dose", time_key="time")
    model = tp.KernelTransport(adata)
    model.train()
    effects = model.get_effects(
        {"context": "context_0"}, "P0", doses=[0.3 * unit, 30 * unit], times=[12.0 * unit]
    ).to_numpy()
    known = [Condition(("P0",), (dose * unit,), 6 * unit) for dose in (0.1, 1.0, 10.0)]
    novelty = [amount_distance(condition, known) for condition in asked]
    return read.dose.numpy(), read.time.numpy(), effects, np.array(novelty)


@pytest.fixture(scope="module")
def expected():
    return measured(1.0)


@pytest.mark.parametrize("unit", UNITS[1:])
def test_network_anchor_and_novelty_do_not_depend_on_the_unit(unit, expected) -> None:
    for found, known in zip(measured(unit), expected, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-5)


def test_doses_that_differ_are_read_differently_in_any_unit(expected) -> None:
    dose, time, *_ = expected
    assert len(np.unique(dose[:, 0])) == 3 and len(np.unique(time)) == 2


def held_out():
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=3, n_genes=20, n_cells=20)
    tp.pp.split(adata, holdout={"perturbation": "P2"}, context_keys="context")
    return adata


def trained(cls, adata):
    cls.setup_anndata(adata, **KEYS, split_key="split")
    model = cls(adata)
    model.train()
    return model


def test_a_perturbation_without_training_cells_or_embedding_is_an_error(tmp_path) -> None:
    adata = held_out()
    trained(tp.KernelTransport, adata).save(tmp_path / "model")
    model = tp.KernelTransport.load(tmp_path / "model", adata)  # which remembers what it was trained on
    for ask in (model.predict, model.get_effects, model.get_uncertainty):
        with pytest.raises(ConditionError, match="'P2' were not trained on.*unseen='mean'"):
            ask(perturbations=["P0", "P2"])
    with pytest.raises(OptionError, match="unseen is 'zero'"):
        model.predict(perturbations="P0", unseen="zero", progress=False)
    pred = model.predict(perturbations=["P0", "P2"], unseen="mean", progress=False, n_cells=5)
    assert list(pred.uns["transpert"]["unseen"]) == ["P2"]
    assert "unseen" not in model.predict(perturbations="P0", n_cells=5, progress=False).uns["transpert"]


def test_models_that_ignore_the_perturbation_predict_any() -> None:
    adata = held_out()
    pred = trained(tp.MeanShift, adata).predict(perturbations="P2", n_cells=5, progress=False)
    assert set(pred.obs["perturbation"]) == {"P2", "control"}


def test_several_controls_are_pooled_and_remembered(tmp_path) -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=20, n_control_cells=40)
    tp.MeanShift.setup_anndata(adata.copy(), **KEYS)
    names = adata.obs["perturbation"].astype(str).to_numpy(dtype=object)
    controls = np.flatnonzero(names == "control")
    names[controls[::2]], names[controls[1::2]] = "NT-1", "NT-2"
    adata.obs["perturbation"] = names
    tp.MeanShift.setup_anndata(adata, **KEYS, control=["NT-1", "NT-*"])
    model = tp.MeanShift(adata)
    model.train()
    model.save(tmp_path / "model")
    pred = tp.MeanShift.load(tmp_path / "model", adata).predict(progress=False)
    assert set(pred.obs["perturbation"]) == {"NT-1", "P0", "P1"}
    assert (pred.obs["perturbation"] == "NT-1").sum() == len(controls)
    scores = tp.tl.evaluate(pred, adata, metrics=["pearson_delta"], ceiling=False, progress=False)
    assert set(scores["perturbation"]) == {"P0", "P1", "mean"}
