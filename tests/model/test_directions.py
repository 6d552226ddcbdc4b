"""CRISPRi and CRISPRa of one gene are different conditions, for every part of a prediction."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.conditions import Condition, Embedding, parse_condition
from transpert.errors import ConditionError, UnknownNameError
from transpert.model import TrainingOptions
from transpert.model.prediction.requests import Request
from transpert.model.scale.gate import gate_applies_to

SETUP = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}


@pytest.fixture(scope="module")
def _both_ways():
    """Every gene is switched off and switched on, with opposite effects."""
    halves = []
    for name in ("CRISPRi", "CRISPRa"):
        half = tp.datasets.simulate(
            n_contexts=1, n_perturbations=14, n_genes=80, n_cells=60, embedding_dimension=3, embedding_noise=0.05,
            context_dependence="none", moved=0.5, seed=3,
        )  # fmt: skip
        half.obs["direction"] = np.where(half.obs["perturbation"] == "control", None, name)
        halves.append(half)
    off, on = halves
    # the counts of one half move the other way: down by as much as up
    effects = on.varm["true_effects"]
    rates = np.exp(-2 * np.array([effects[f"context_0: {p}"] if p != "control" else np.zeros(80) for p in
                                  on.obs["perturbation"].astype(str)]))  # fmt: skip
    counts = np.random.default_rng(0).poisson(on.layers["counts"].toarray() * rates).astype(np.float32)
    on.layers["counts"] = counts
    off.layers["counts"] = off.layers["counts"].toarray()

    both = anndata.concat([off, on[on.obs["perturbation"] != "control"]], index_unique="-")
    both.obs["library_size"] = np.maximum(both.layers["counts"].sum(axis=1), 1)
    both.X = tp.pp.log1p_per_10k(both.layers["counts"], both.obs["library_size"].to_numpy())
    return both, Embedding.from_frame(off.uns["simulation"]["embedding"]), effects


@pytest.fixture
def both_ways(_both_ways):
    adata, embedding, effects = _both_ways
    return adata.copy(), embedding, effects


def correlation(table: pd.DataFrame, column: str, effects: pd.DataFrame, name: str) -> float:
    return float(np.corrcoef(table[column], effects[f"context_0: {name}"])[0, 1])


def test_a_direction_belongs_to_its_part_in_any_order() -> None:
    one = parse_condition("B+A", control="control", direction="CRISPRa+CRISPRi")
    assert one == parse_condition("A+B", control="control", direction=["CRISPRi", "CRISPRa"])
    assert one.action == (("A", "CRISPRi"), ("B", "CRISPRa")) and str(one) == "A+B, direction CRISPRi+CRISPRa"
    assert one != parse_condition("A+B", control="control") and one.singles()[1] == Condition(
        ("B",), directions=("CRISPRa",)
    )
    assert parse_condition("A", control="control", direction=np.nan) == Condition(("A",))
    with pytest.raises(ConditionError, match="3 directions for 2 perturbations"):
        parse_condition("A+B", control="control", direction="x+y+z")


def test_opposite_directions_have_opposite_effects(both_ways, tmp_path) -> None:
    adata, embedding, effects = both_ways
    adata.obs["split"] = np.where(adata.obs["perturbation"].isin(["P0", "P1"]), "test", "train")
    tp.RidgeTransport.setup_anndata(adata, **SETUP, direction_key="direction", split_key="split")
    model = tp.RidgeTransport(adata, embeddings=embedding)
    model.train()
    # seen in both directions, and in neither
    for name in ("P2", "P0"):
        found = model.get_effects(perturbations=name, directions=["CRISPRi", "CRISPRa"])
        assert correlation(found, f"context_0: {name}, direction CRISPRi", effects, name) > 0.6
        assert correlation(found, f"context_0: {name}, direction CRISPRa", effects, name) < -0.6
    with pytest.raises(ConditionError, match="several directions: 'CRISPRa', 'CRISPRi'.*directions="):
        model.predict(perturbations="P2")
    pred = model.predict(perturbations="P0", directions="CRISPRa", progress=False)
    assert set(pred.obs.loc[pred.obs["source"] == "predicted", "direction"]) == {"CRISPRa"}
    pred.write_h5ad(tmp_path / "x.h5ad")
    scores = tp.tl.evaluate(pred, adata, metrics=["pearson_delta"], baselines=["MeanShift"], progress=False)
    own = scores[~scores["model"].isin(["MeanShift", "ceiling"]) & scores["perturbation"].str.startswith("P0")]
    assert own["perturbation"].tolist() == ["P0, direction CRISPRa"] and own["value"].iloc[0] > 0.6
    model.save(tmp_path / "m")
    again = tp.RidgeTransport.load(tmp_path / "m", adata)
    np.testing.assert_array_equal(
        again.predict(perturbations="P0", directions="CRISPRa", progress=False).to_df(), pred.to_df()
    )


def test_the_network_knows_the_direction(both_ways) -> None:
    adata, embedding, effects = both_ways
    tp.SCALE.setup_anndata(adata, **SETUP, direction_key="direction")
    model = tp.SCALE(
        adata,
        preset="tiny",
        anchor=None,
        embeddings=embedding,
        joining=tp.model.JoiningOptions(folds=1, gate=1.0),
        training=TrainingOptions(steps=200, steps_per_epoch=50, set_size=24, sets_per_batch=8),
    )
    model.train(enable_progress_bar=False, accelerator="cpu")
    found = model.get_effects(perturbations="P2", directions=["CRISPRi", "CRISPRa"])
    up, down = (found[f"context_0: P2, direction {name}"] for name in ("CRISPRi", "CRISPRa"))
    assert correlation(found, "context_0: P2, direction CRISPRi", effects, "P2") > 0.3
    assert np.corrcoef(up, down)[0, 1] < 0
    with pytest.raises(UnknownNameError, match="direction: 'CRISPRoff'.*'CRISPRi'|direction: 'CRISPRoff'"):
        model.predict(perturbations="P2", directions="CRISPRoff", progress=False)


def test_a_direction_that_all_share_need_not_be_said(both_ways) -> None:
    adata, _, _ = both_ways
    off = adata[adata.obs["direction"].isna() | (adata.obs["direction"] == "CRISPRi")].copy()
    tp.MeanShift.setup_anndata(off, **SETUP, direction_key="direction")
    model = tp.MeanShift(off)
    model.train()
    pred = model.predict(perturbations="P3", progress=False)
    assert set(pred.obs["direction"].dropna()) == {"CRISPRi"}
    tp.MeanShift.setup_anndata(off, **SETUP)
    without = tp.MeanShift(off)
    without.train()
    with pytest.raises(ConditionError, match="a direction is given, but the data have none"):
        without.predict(perturbations="P3", directions="CRISPRi")


def test_a_gene_that_was_only_measured_in_the_other_direction_is_unseen(both_ways) -> None:
    adata, embedding, _ = both_ways
    # P0 is never switched on, P1 never off; everything else is known in both directions
    gone = (adata.obs["perturbation"].astype(str) + adata.obs["direction"].astype(str)).isin(["P0CRISPRa", "P1CRISPRi"])
    adata = adata[~gone].copy()
    tp.KernelTransport.setup_anndata(adata, **SETUP, direction_key="direction")
    for table in (None, embedding):
        model = tp.KernelTransport(adata, embeddings=table)
        model.train()
        asked = {"perturbations": ["P0", "P1", "P2"], "directions": ["CRISPRa"]}
        found = model.get_uncertainty({"context": "context_0"}, **asked).conditions.set_index("perturbation")
        assert found["situation"].tolist() == ["perturbation", "seen", "seen"]
        assert found["perturbation_distance"].tolist()[1:] == [0, 0]
        distance = found.loc["P0, direction CRISPRa", "perturbation_distance"]
        assert distance == np.inf if table is None else 0 < distance < np.inf


def test_the_gate_says_nothing_about_another_direction(both_ways) -> None:
    adata, _, _ = both_ways
    adata = adata[~((adata.obs["perturbation"] == "P0") & (adata.obs["direction"] == "CRISPRa")).to_numpy()].copy()
    tp.KernelTransport.setup_anndata(adata, **SETUP, direction_key="direction")
    model = tp.KernelTransport(adata)
    model.train()
    for direction, tried in (("CRISPRa", False), ("CRISPRi", True), (None, True)):
        request = Request("elsewhere", {"context": "elsewhere"}, Condition(("P0",), directions=(direction,)), "P0")
        assert gate_applies_to(model.anchor, request, None, "pair") is tried
