from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transpert import pp
from transpert.errors import OptionError, SplitError, UnknownNameError


def make(labels=("A", "B", "C", "A+B", "B+C"), contexts=("x", "y", "z")) -> anndata.AnnData:
    rows = [(label, context) for context in contexts for label in ("control", *labels) for _ in range(3)]
    obs = pd.DataFrame(rows, columns=["perturbation", "context"])
    obs.index = [f"c{i}" for i in range(len(obs))]
    return anndata.AnnData(np.zeros((len(obs), 1)), obs=obs)


def found(adata, check) -> int:
    table = adata.uns["split"]["leakage"]
    return int(table.loc[table["check"] == check, "found"].iloc[0])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["context", "perturbation", "pair", "combination"]),
    st.floats(0.05, 0.9),
    st.sampled_from([0.0, 0.3]),
    st.integers(0, 99),
)
def test_no_random_split_leaks(by, fraction, validation, seed) -> None:
    adata = make()
    try:
        pp.split(adata, by=by, fraction=fraction, validation=validation, context_keys="context", seed=seed)
    except SplitError:
        return  # nothing would be left to train on, and it says so
    leaks = adata.uns["split"]["leakage"].set_index("check")["found"]
    if by != "perturbation":
        # pairs drawn one by one may leave a perturbation in combinations only; the report says so
        leaks = leaks.drop("held-out perturbations seen in a combination")
    assert (leaks == 0).all()
    assert (adata.obs.loc[adata.obs["perturbation"] == "control", "split"] == "train").all()
    per_group = adata.obs.groupby(["perturbation", "context"])["split"].nunique()
    assert (per_group == 1).all()


def test_a_held_out_perturbation_takes_its_combinations_along() -> None:
    adata = make()
    pp.split(adata, holdout={"perturbation": "B"})
    held = set(adata.obs.loc[adata.obs["split"] == "test", "perturbation"])
    assert held == {"B", "A+B", "B+C"}
    assert adata.uns["split"]["kind"] == "perturbation"


def test_a_held_out_combination_leaves_its_parts() -> None:
    adata = make()
    pp.split(adata, holdout={"perturbation": ["B+A"]})
    assert set(adata.obs.loc[adata.obs["split"] == "test", "perturbation"]) == {"A+B"}
    assert adata.uns["split"]["kind"] == "combination"


def test_kinds_are_read_off_what_is_left() -> None:
    for holdout, kind in [
        ({"context": "x"}, "context"),
        ({"context": "x", "perturbation": "A"}, "pair"),
        ({"perturbation": ["A", "B", "C"]}, None),
    ]:
        adata = make(labels=("A", "B", "C"))
        if kind is None:
            with pytest.raises(SplitError, match="no perturbed group would be left"):
                pp.split(adata, holdout=holdout)
            continue
        pp.split(adata, holdout=holdout)
        assert adata.uns["split"]["kind"] == kind


def test_twins_are_kept_together_or_reported() -> None:
    for seed in range(5):
        adata = make(labels=("A", "B", "C", "D"))
        pp.split(adata, by="perturbation", fraction=0.5, together=[["A", "B"]], context_keys="context", seed=seed)
        split = adata.obs.groupby("perturbation")["split"].first()
        assert split["A"] == split["B"]
    adata = make(labels=("A", "B", "C"))
    pp.split(adata, holdout={"perturbation": "A"}, together=[["A", "B"]])
    assert found(adata, "held-out perturbations whose twin is in training") == 1


def test_bad_requests_are_refused_and_nothing_is_written() -> None:
    adata = make()
    for error, arguments in [
        (UnknownNameError, {"holdout": {"context": "w"}}),
        (UnknownNameError, {"holdout": {"perturbation": "Z"}}),
        (UnknownNameError, {"holdout": {"celltype": "x"}}),
        (OptionError, {}),
        (OptionError, {"by": "pair", "fraction": 1.5}),
        (OptionError, {"holdout": "x"}),
        (OptionError, {"holdout": ["x", "y"]}),
        (OptionError, {"holdout": {"context": "x"}, "validation": "y"}),
        (SplitError, {"holdout": {"context": "x"}, "validation": {"context": "x"}}),
    ]:
        with pytest.raises(error):
            pp.split(adata, **arguments)
    assert "split" not in adata.obs and "split" not in adata.uns


def test_the_report_survives_a_file(tmp_path) -> None:
    adata = make()
    pp.split(adata, holdout={"context": "x"})
    adata.write_h5ad(tmp_path / "split.h5ad")
    again = anndata.read_h5ad(tmp_path / "split.h5ad")
    assert again.uns["split"]["kind"] == "context"
    assert len(again.uns["split"]["groups"]) == 18


def test_a_split_can_be_made_again_from_its_report() -> None:
    adata = make(labels=("A", "B", "C"))
    adata.obs["donor"] = pd.Categorical(np.resize([1, 2, 3], adata.n_obs))
    pp.split(adata, holdout={"donor": 1}, validation={"donor": [2]}, together=[("A", "B")], seed=np.int64(3))
    arguments = json.loads(adata.uns["split"]["arguments"])
    assert arguments["holdout"] == {"donor": ["1"]} and arguments["seed"] == 3
    pp.split(adata, key_added="again", **arguments)
    assert adata.obs["again"].tolist() == adata.obs["split"].tolist()
    assert set(adata.obs.loc[adata.obs["split"] == "test", "donor"]) == {1}
