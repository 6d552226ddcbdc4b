"""Which cells are one population: doses, times and directions of anybody's prediction, and labels that are missing."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.errors import ConditionError, OptionError, UnknownNameError

KEYS = {"context_keys": "context"}
QUICK = {**KEYS, "metrics": ["mse_delta"], "progress": False}
POPULATIONS = ["P0, dose 0.1", "P0, dose 1"]


@pytest.fixture(scope="module")
def doses() -> anndata.AnnData:
    """One perturbation at two doses of opposite effect, without a word about it in ``uns``."""
    adata = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=30, n_cells=30, doses=(0.1, 1.0))
    cells = adata.X.toarray()
    cells[(adata.obs["dose"] == 1.0).to_numpy(), :10] += 1
    cells[(adata.obs["dose"] == 0.1).to_numpy(), 10:20] += 1
    adata.X = cells
    adata.uns.clear()
    return adata


def test_doses_of_other_packages_are_populations_of_their_own(doses, tmp_path) -> None:
    pooled = tp.tl.evaluate(doses, doses, ceiling=False, **QUICK)
    assert pooled["perturbation"].unique().tolist() == ["P0", "mean"]
    scores = tp.tl.evaluate(doses, doses, design=tp.Design(dose_key="dose"), ceiling=False, **QUICK)
    assert scores["perturbation"].unique().tolist() == [*POPULATIONS, "mean"]
    audited = tp.tl.audit(doses, doses, design=tp.Design(dose_key="dose"), n_bootstrap=0, **QUICK)
    assert (audited["n"] == 2).all()
    assert tp.tl.effects(doses.copy(), design=tp.Design(dose_key="dose"), **KEYS).columns.tolist() == [
        f"context_0: {name}" for name in POPULATIONS
    ]
    paths = tp.tl.to_cell_eval(doses, doses, tmp_path, design=tp.Design(dose_key="dose"), **KEYS)
    assert set(anndata.read_h5ad(paths[0]).obs["target_gene"]) == {"non-targeting", *POPULATIONS}
    together = tp.tl.embed_together(doses, doses, design=tp.Design(dose_key="dose"), n_components=3, umap=False, **KEYS)
    assert "dose" in together.obs


@pytest.mark.parametrize("role", ["time", "direction"])
def test_times_and_directions_are_named_as_doses_are(doses, role) -> None:
    values = {"time": [6, 24], "direction": ["CRISPRa", "CRISPRi"]}[role]
    adata = doses.copy()
    adata.obs[role] = adata.obs["dose"].map(dict(zip([0.1, 1.0], values, strict=True)))
    scores = tp.tl.evaluate(adata, adata, design=tp.Design(**{f"{role}_key": role}), ceiling=False, **QUICK)
    assert set(scores["perturbation"]) == {*(f"P0, {role} {value}" for value in values), "mean"}


def test_arguments_come_before_what_a_prediction_says(doses) -> None:
    pred = doses.copy()
    pred.uns["transpert"] = {"design": {"dose_key": "amount", "context_keys": ["context"]}}
    scores = tp.tl.evaluate(pred, doses, design=tp.Design(dose_key="dose"), ceiling=False, **QUICK)
    assert scores["perturbation"].unique().tolist() == [*POPULATIONS, "mean"]
    # what it says is not there is not left out in silence
    with pytest.raises(UnknownNameError, match="amount"):
        tp.tl.evaluate(pred, doses, ceiling=False, **QUICK)
    with pytest.raises(OptionError, match="two roles"):
        tp.tl.evaluate(pred, doses, design=tp.Design(dose_key="context"), ceiling=False, **QUICK)


@pytest.fixture
def pair_of_drugs(doses) -> anndata.AnnData:
    """A combination that is spelled "B+A", one dose for each part."""
    pred = doses[doses.obs["dose"].notna().to_numpy()].copy()
    rare = (pred.obs["dose"] == 0.1).to_numpy()
    pred.obs["perturbation"] = np.where(rare, "B+A", "P0")
    pred.obs["dose"] = np.where(rare, "0.1+10", "1")
    pred.obs["time"] = 24.0
    pred.obs["direction"] = np.where(rare, "CRISPRa+CRISPRi", "CRISPRi")
    return pred


def test_counts_keep_perturbations_doses_times_and_directions(pair_of_drugs, doses) -> None:
    columns = {f"{role}_key": role for role in ("dose", "time", "direction")}
    controls = doses[(doses.obs["perturbation"] == "control").to_numpy()].copy()
    del controls.obs["dose"]
    result = tp.tl.to_counts(pair_of_drugs, controls, design=tp.Design(**columns), **KEYS)
    made = result.obs[(result.obs["source"] == "predicted").to_numpy()].astype(str)
    rows = made[["perturbation", "dose", "time", "direction"]].drop_duplicates().to_numpy().tolist()
    assert sorted(rows) == [["B+A", "0.1+10", "24.0", "CRISPRa+CRISPRi"], ["P0", "1", "24.0", "CRISPRi"]]
    # what is made can be compared with what it was made from
    real = anndata.concat([pair_of_drugs, controls], join="outer")
    scores = tp.tl.evaluate(result, real, ceiling=False, **QUICK)
    assert scores["value"].notna().all() and len(scores) == 3


def test_dose_curves_read_what_counts_were_made(doses) -> None:
    counted = tp.tl.to_counts(doses, doses, design=tp.Design(dose_key="dose"), **KEYS)
    axes = tp.pl.dose_response(counted, doses, perturbation="P0", show=False)
    assert len(axes.get_lines()) > 2


@pytest.mark.parametrize("column", ["perturbation", "context"])
@pytest.mark.parametrize("kind", ["object", "category"])
def test_cells_without_a_label_are_refused(doses, column, kind) -> None:
    torn = doses.copy()
    values = torn.obs[column].astype(object)
    values.iloc[:3] = np.nan
    torn.obs[column] = values.astype(kind)
    with pytest.raises(ConditionError, match=f"3 cells have no value .in obs..{column}.. of the truth"):
        tp.tl.evaluate(doses, torn, ceiling=False, **QUICK)
    with pytest.raises(ConditionError, match=f"3 cells have no value .in obs..{column}.. of the prediction"):
        tp.tl.evaluate(torn, doses, ceiling=False, **QUICK)
    with pytest.raises(ConditionError, match="3 cells"):
        tp.tl.effects(torn, **KEYS)
    with pytest.raises(ConditionError, match="3 cells"):
        tp.pl.dose_response(doses, torn, design=tp.Design(dose_key="dose"), **KEYS)
    if column == "perturbation":
        with pytest.raises(ConditionError, match="3 cells"):
            tp.tl.rank_genes_groups(torn)


def test_the_control_label_may_be_zero(doses) -> None:
    coded = doses.copy()
    coded.obs["perturbation"] = pd.Series(coded.obs["perturbation"].astype(str) != "control").astype(int).to_numpy()
    assert tp.tl.effects(coded, control=0, **KEYS).columns.tolist() == ["context_0: 1"]


@pytest.fixture
def called_as_ours() -> anndata.AnnData:
    """Cells whose contexts are called as columns of our predictions are."""
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=30, n_cells=30)
    adata.obs["source"] = adata.obs["context"].astype(str).map({"context_0": "marrow", "context_1": "blood"})
    adata.obs["model"] = adata.obs["source"]
    adata.X = adata.X.toarray()
    adata.uns.clear()
    return adata


def test_columns_of_other_packages_may_be_called_as_ours_where_nothing_is_lost(called_as_ours) -> None:
    adata, renamed = called_as_ours, called_as_ours.copy()
    renamed.obs = renamed.obs.rename(columns={"source": "organ", "model": "line"})
    asked = {"metrics": ["mse_delta"], "baselines": "all", "ceiling": False, "progress": False}
    pred, same = (cells[(cells.obs["context"] == "context_0").to_numpy()].copy() for cells in (adata, renamed))
    scores = tp.tl.evaluate(pred, adata, context_keys=["source", "model"], **asked)
    expected = tp.tl.evaluate(same, renamed, context_keys=["organ", "line"], **asked)
    pd.testing.assert_frame_equal(scores, expected)
    assert "blood | blood: P0" in tp.tl.effects(adata, context_keys=["source", "model"])
    assert set(adata.obs["source"]) == {"marrow", "blood"}


def test_contexts_are_not_read_as_library_sizes_by_baselines(called_as_ours) -> None:
    cells = called_as_ours.copy()
    cells.obs["library_size"] = cells.obs["source"]
    total = np.asarray(cells.layers["counts"].sum(axis=1)).ravel()
    cells.obs["total"] = total
    cells.X = tp.pp.log1p_per_10k(cells.layers["counts"], total).toarray()
    pred = cells[(cells.obs["context"] == "context_0").to_numpy()].copy()
    asked = {"context_keys": "library_size", "metrics": ["mse_delta"], "baselines": "NoChange", "progress": False}
    scores = tp.tl.evaluate(pred, cells, **asked)
    assert set(scores["context"]) == {"marrow", "mean"}


def test_columns_that_a_tool_would_overwrite_are_refused(called_as_ours) -> None:
    for name in ("source", "model"):
        with pytest.raises(OptionError, match=f"would be overwritten: '{name}'"):
            tp.tl.to_counts(called_as_ours, called_as_ours, context_keys=name)
    with pytest.raises(OptionError, match="would be overwritten: 'source'"):
        tp.tl.embed_together(called_as_ours, called_as_ours, context_keys="source", n_components=3, umap=False)
    together = tp.tl.embed_together(called_as_ours, called_as_ours, context_keys="model", n_components=3, umap=False)
    assert set(together.obs["model"]) == {"marrow", "blood"}
