from __future__ import annotations

import gc
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

import transpert as tp
from transpert.errors import (
    ControlError,
    CountsError,
    GeneError,
    MetricInputError,
    OptionError,
    SplitError,
    UnknownNameError,
)
from transpert.metrics.rank_tests import SortedCells

KEYS = {"context_keys": ["context"]}


@pytest.fixture
def judged(screen):
    """A prediction of an unseen context, and the truth."""
    tp.pp.split(screen, holdout={"context": "context_0"})
    tp.RidgeTransport.setup_anndata(
        screen, perturbation_key="perturbation", context_keys="context", layer="counts", split_key="split"
    )
    model = tp.RidgeTransport(screen)
    model.train()
    return model.predict({"context": "context_0"}, ["P0", "P1"], progress=False), screen


def test_scores_lie_between_floor_and_ceiling(judged) -> None:
    pred, truth = judged
    scores = tp.tl.evaluate(pred, truth, baselines="all", progress=False)
    table = tp.tl.score_table(scores)
    # RidgeTransport is both the prediction and a baseline
    assert set(table.index) == {"prediction", *tp.model.BASELINES, "ceiling"}
    assert table.loc["NoChange", "overlap_at_n"] == 0
    assert table.loc["ceiling", "pearson_delta"] > 0.9
    assert np.isnan(table.loc["NoChange", "pearson_delta"])
    means = scores[(scores["context"] == "mean") & (scores["metric"] == "pearson_delta")].set_index("model")
    best = table.loc[list(tp.model.BASELINES), "pearson_delta"].max()
    assert means["baseline"].iloc[0] == pytest.approx(best)
    span = scores["ceiling"] - scores["baseline"]
    upward = scores["metric"].map(lambda name: {"higher": 1, "lower": -1}.get(tp.metrics.METRICS[name].direction, 0))
    apart = upward * span > 0.05 * scores[["ceiling", "baseline"]].abs().max(axis=1)
    assert 0.1 < apart.mean() < 0.9
    expected = ((scores["value"] - scores["baseline"]) / span).where(apart)
    np.testing.assert_allclose(scores["normalised"], expected, rtol=1e-6)
    assert truth.uns["transpert"]["scores"] is not None


def test_baselines_leave_the_users_registration_and_memory_alone(judged) -> None:
    pred, truth = judged
    before, keys = set(truth.uns), truth.uns["_scvi_uuid"]
    gc.collect()
    alive = sum(isinstance(thing, AnnData) for thing in gc.get_objects())
    for split_key in (None, "split"):
        tp.tl.evaluate(
            pred, truth, metrics=["pearson_delta"], baselines=["MeanShift", "RidgeTransport"], ceiling=False,
            options=tp.tl.EvaluationOptions(split_key=split_key), progress=False,
        )  # fmt: skip
    gc.collect()
    assert sum(isinstance(thing, AnnData) for thing in gc.get_objects()) == alive
    assert set(truth.uns) == before | {"transpert"} and truth.uns["_scvi_uuid"] == keys
    assert tp.RidgeTransport(truth).design.split_key == "split"


def test_a_split_that_lets_baselines_see_what_is_scored_is_told(judged) -> None:
    pred, truth = judged
    asked = {"metrics": ["mse_delta"], "ceiling": False, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", tp.errors.AssumptionWarning)
        warnings.filterwarnings("ignore", message=".*are not predicted, and not scored")
        tp.tl.evaluate(pred, truth, baselines="MeanShift", **asked)
    for stale in ("train", "validation"):
        truth.obs["split"] = np.where(truth.obs["perturbation"] == "P1", stale, "test")
        truth.obs.loc[truth.obs["perturbation"].isin(["control", "P2", "P0+P1"]), "split"] = "train"
        with pytest.warns(tp.errors.AssumptionWarning, match="trained on 1 of .*'context_0: P1'. Pass") as told:
            tp.tl.evaluate(pred, truth, baselines=["MeanShift", "NoChange"], **asked)
        told = [one for one in told if "not scored" not in str(one.message)]
        assert len([one for one in told if issubclass(one.category, tp.errors.AssumptionWarning)]) == 1
        assert told[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error", tp.errors.AssumptionWarning)
            warnings.filterwarnings("ignore", message=".*are not predicted, and not scored")
            tp.tl.evaluate(pred, truth, **asked)


def test_baselines_that_have_nothing_to_learn_from_are_said_to(screen) -> None:
    asked = {"metrics": ["mse_delta"], "ceiling": False, "progress": False, **KEYS}
    with pytest.raises(SplitError, match="all 20 populations of the truth are predicted.*in the design, or predict"):
        tp.tl.evaluate(screen, screen, baselines="all", **asked)
    some = screen[screen.obs["perturbation"] != "P0"].copy()
    assert "MeanShift" in set(tp.tl.evaluate(some, screen, baselines="MeanShift", **asked)["model"])


def test_the_scores_that_are_kept_are_a_copy(judged) -> None:
    pred, truth = judged
    scores = tp.tl.evaluate(pred, truth, metrics=["mse_delta"], progress=False)
    scores["value"] = 0
    assert (truth.uns["transpert"]["scores"]["value"] != 0).all()


def test_undefined_values_are_counted(judged) -> None:
    pred, truth = judged
    still = pred.copy()
    control = still.X[(still.obs["source"] == "control").to_numpy()]
    still.X[(still.obs["perturbation"] == "P0").to_numpy()] = control
    scores = tp.tl.evaluate({"still": still}, truth, metrics=["pearson_delta"], ceiling=False, progress=False)
    mean = scores[scores["context"] == "mean"].iloc[0]
    assert mean["n_undefined"] == 1 and mean["n"] == 2 and np.isfinite(mean["value"])


def test_evaluation_does_not_mind_order_of_genes_or_of_parts(judged) -> None:
    pred, truth = judged
    scores = tp.tl.evaluate(pred, truth, ceiling=False, progress=False)
    shuffled = pred[:, np.random.default_rng(0).permutation(pred.n_vars)].copy()
    again = tp.tl.evaluate(shuffled, truth, ceiling=False, progress=False)
    pd.testing.assert_series_equal(scores["value"], again["value"], atol=1e-5)


def test_predictions_of_other_tools_need_only_labels(judged) -> None:
    pred, truth = judged
    foreign = anndata.AnnData(pred.X, obs=pred.obs[["perturbation", "context"]].copy(), var=pred.var.copy())
    ours = tp.tl.evaluate(pred, truth, ceiling=False, progress=False)
    theirs = tp.tl.evaluate(foreign, truth, ceiling=False, progress=False, **KEYS)
    np.testing.assert_allclose(ours["value"], theirs["value"])
    csr = tp.tl.evaluate(
        foreign, truth, ceiling=False, progress=False, options=tp.tl.EvaluationOptions(reference="predicted"), **KEYS
    )
    assert set(csr["metric"]) == set(ours["metric"])


def test_bad_predictions_are_refused(judged) -> None:
    pred, truth = judged
    with pytest.raises(GeneError, match="missing"):
        tp.tl.evaluate(pred[:, :50].copy(), truth, progress=False)
    counts = pred.copy()
    counts.X = counts.layers["counts"].toarray()
    with pytest.raises(CountsError, match="no log1p"):
        tp.tl.evaluate(counts, truth, progress=False)
    renamed = pred.copy()
    renamed.obs["perturbation"] = renamed.obs["perturbation"].astype(str).replace("P0", "P9")
    with pytest.raises(MetricInputError, match="P9"):
        tp.tl.evaluate(renamed, truth, progress=False)
    with pytest.raises(UnknownNameError, match="MeanShfit"):
        tp.tl.evaluate(pred, truth, baselines=["MeanShfit"], progress=False)
    with pytest.raises(OptionError):
        tp.tl.evaluate(pred, truth, options=tp.tl.EvaluationOptions(reference="none"))
    only = pred[pred.obs["perturbation"] != "P1"].copy()
    with pytest.raises(MetricInputError, match="different populations"):
        tp.tl.evaluate({"a": pred, "b": only}, truth, progress=False)


@pytest.mark.parametrize("method", ["wilcoxon", "t-test"])
def test_differential_expression_is_in_scanpys_slot(judged, tmp_path, method) -> None:
    pred, _ = judged
    tp.tl.rank_genes_groups(pred, method=method)
    slot = pred.uns["rank_genes_groups"]
    kinds = {
        name: slot[name].dtype["P0"].kind + str(slot[name].dtype["P0"].itemsize) for name in slot if name != "params"
    }
    assert kinds["scores"] == kinds["logfoldchanges"] == "f4" and kinds["pvals"] == kinds["pvals_adj"] == "f8"
    table = sc.get.rank_genes_groups_df(pred, group="P0")
    assert table["scores"].is_monotonic_decreasing
    reference = pred.copy()
    sc.tl.rank_genes_groups(
        reference, "perturbation", groups=["P0"], reference="control", method=method, tie_correct=True
    )
    theirs = sc.get.rank_genes_groups_df(reference, group="P0").set_index("names").loc[table["names"]]
    np.testing.assert_allclose(table["logfoldchanges"], theirs["logfoldchanges"], rtol=1e-4, atol=1e-5)
    assert np.corrcoef(theirs["scores"], table["scores"])[0, 1] > 0.999
    pred.write_h5ad(tmp_path / "x.h5ad")
    again = sc.get.rank_genes_groups_df(anndata.read_h5ad(tmp_path / "x.h5ad"), group="P1")
    assert len(again) == pred.n_vars
    for draw in (sc.pl.rank_genes_groups, sc.pl.rank_genes_groups_dotplot, sc.pl.rank_genes_groups_matrixplot):
        draw(pred, n_genes=3, show=False)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_fold_changes_of_both_tests_are_those_of_scanpy_where_means_disagree(make) -> None:
    # one cell of ten thousand counts: the arithmetic mean goes up, the geometric one down
    values = np.log1p(np.r_[np.full((20, 2), 5.0), np.zeros((19, 2)), [[900.0, 0.0]]]).astype(np.float32)
    obs = pd.DataFrame({"perturbation": pd.Categorical(["control"] * 20 + ["P0"] * 20)})
    adata = AnnData(make(values), obs=obs.set_index(obs.index.astype(str)))
    for method in ("wilcoxon", "t-test"):
        tp.tl.rank_genes_groups(adata, method=method)
        ours = sc.get.rank_genes_groups_df(adata, group="P0").set_index("names")["logfoldchanges"]
        sc.tl.rank_genes_groups(adata, "perturbation", groups=["P0"], reference="control", method=method)
        theirs = sc.get.rank_genes_groups_df(adata, group="P0").set_index("names")["logfoldchanges"]
        assert ours["0"] < 0
        np.testing.assert_allclose(ours, theirs[ours.index], rtol=1e-4)


def test_controls_are_sorted_once_for_all_perturbations(screen, monkeypatch) -> None:
    alone = {
        name: tp.metrics.differential_expression(
            screen.X[(screen.obs["perturbation"] == name).to_numpy()],
            screen.X[(screen.obs["perturbation"] == "control").to_numpy()],
        )
        for name in ("P0", "P1", "P2", "P0+P1")
    }
    calls = []
    original = SortedCells.of
    monkeypatch.setattr(SortedCells, "of", lambda cells: calls.append(cells.shape[0]) or original(cells))
    tp.tl.rank_genes_groups(screen)
    assert calls == [(screen.obs["perturbation"] == "control").sum()]
    for name, tests in alone.items():
        table = sc.get.rank_genes_groups_df(screen, group=name).set_index("names").loc[screen.var_names]
        np.testing.assert_allclose(table["pvals"], tests.p_value)
        np.testing.assert_allclose(table["scores"], tests.z_score, rtol=1e-6)
    calls.clear()
    tp.pl.calibration({"one": screen, "other": screen}, screen, show=False, **KEYS)
    assert len(calls) == screen.obs["context"].nunique()


def test_differential_expression_needs_controls(judged) -> None:
    pred, _ = judged
    with pytest.raises(ControlError, match="0 cells"):
        tp.tl.rank_genes_groups(pred[pred.obs["source"] == "predicted"].copy())


def test_one_perturbation_may_be_named_alone(judged) -> None:
    pred, _ = judged
    tp.tl.rank_genes_groups(pred, groups="P0")
    assert pred.uns["rank_genes_groups"]["names"].dtype.names == ("P0",)
    with pytest.raises(UnknownNameError, match="unknown perturbation: 'P9'"):
        tp.tl.rank_genes_groups(pred, groups="P9")


def test_effects_fill_varm(judged) -> None:
    pred, truth = judged
    table = tp.tl.effects(pred)
    pd.testing.assert_frame_equal(pred.varm["effects"], table)
    real = tp.tl.effects(truth, **KEYS)
    assert table.columns.tolist() == ["context_0: P0", "context_0: P1"]
    assert np.corrcoef(table["context_0: P0"], real["context_0: P0"])[0, 1] > 0.5


def smooth_prediction(truth, context="context_0"):
    """A perfect mean with cells that do not vary, as many models predict."""
    rows = ((truth.obs["context"] == context) & (truth.obs["perturbation"] == "P0")).to_numpy()
    mean = np.asarray(truth.X[rows].mean(axis=0)).ravel()
    return rows, mean


@pytest.mark.parametrize("form", ["cells", "means"])
def test_counts_for_any_prediction(screen, form) -> None:
    rows, mean = smooth_prediction(screen)
    here = screen[screen.obs["context"] == "context_0"].copy()
    if form == "cells":
        pred = anndata.AnnData(
            np.repeat(mean[None].astype(np.float32), rows.sum(), axis=0),
            obs=screen.obs.loc[rows, ["perturbation", "context"]].copy(),
            var=pd.DataFrame(index=screen.var_names),
        )
        result = tp.tl.to_counts(pred, here, **KEYS)
    else:
        result = tp.tl.to_counts(pd.DataFrame([mean], index=["P0"], columns=screen.var_names), here, **KEYS)
    tp.pp.check_counts(result.layers["counts"], where="counts")
    made = result.X[(result.obs["source"] == "predicted").to_numpy()]
    np.testing.assert_allclose(made.mean(axis=0), mean, atol=0.05)
    controls = np.asarray(here.X[(here.obs["perturbation"] == "control").to_numpy()].todense())
    real = tp.metrics.differential_expression(screen.X[rows], controls).n_significant
    flat = tp.metrics.differential_expression(np.repeat(mean[None], rows.sum(), axis=0), controls).n_significant
    counted = tp.metrics.differential_expression(made, controls).n_significant
    assert flat > 1.3 * real
    assert counted < 1.35 * real


def test_counts_need_controls_and_genes(screen) -> None:
    means = pd.DataFrame([[0.1, 0.2]], index=["P0"], columns=["gene_0", "other"])
    with pytest.raises(UnknownNameError, match="gene"):
        tp.tl.to_counts(means, screen, **KEYS)


def test_embedding_is_that_of_the_real_cells(judged) -> None:
    pred, truth = judged
    together = tp.tl.embed_together(pred, truth, n_components=5, n_neighbors=5)
    assert set(together.obs["source"]) == {"observed", "predicted", "control"}
    assert together.obsm["X_umap"].shape == (together.n_obs, 2)
    # predicted cells do not move the components
    spoiled = pred.copy()
    spoiled.X[(spoiled.obs["source"] == "predicted").to_numpy()] = 1.0
    other = tp.tl.embed_together(spoiled, truth, n_components=5, umap=False)
    real = (together.obs["source"] != "predicted").to_numpy()
    np.testing.assert_allclose(together.obsm["X_pca"][real], other.obsm["X_pca"][real], atol=1e-4)
    sc.pl.umap(together, color=["perturbation", "source"], show=False)


def test_an_embedding_does_not_say_how_its_layout_began(judged, monkeypatch, recwarn) -> None:
    monkeypatch.setattr(
        sc.tl, "umap", lambda *_, **__: warnings.warn("Spectral initialisation failed! ...", stacklevel=2)
    )
    tp.tl.embed_together(*judged, n_components=5, n_neighbors=5)
    assert not [warning for warning in recwarn if "Spectral" in str(warning.message)]


def test_all_baselines_share_the_statistics_of_the_truth_and_read_its_cells_once(judged, monkeypatch) -> None:
    from transpert.model import setup
    from transpert.model.cells.in_memory import Cells

    pred, truth = judged
    calls, reads = [], []
    read_cells = setup.read_cells
    monkeypatch.setattr(setup, "read_cells", lambda *given: reads.append(1) or read_cells(*given))
    original = Cells.statistics
    monkeypatch.setattr(Cells, "statistics", lambda *given: calls.append(1) or original(*given))
    together = tp.tl.evaluate(pred, truth, baselines="all", ceiling=False, progress=False)
    assert len(calls) == len(reads) == 1
    alone = tp.tl.evaluate(pred, truth, baselines="MeanShift", ceiling=False, progress=False)
    # the best baseline of a metric depends on which there are, the scores of each do not
    mine, same = (table.loc[table["model"] == "MeanShift", "value"].to_numpy() for table in (alone, together))
    np.testing.assert_array_equal(mine, same)


def test_few_cells_of_each_kind_are_put_together() -> None:
    cells = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=30, n_cells=40)
    found = tp.tl.embed_together(cells, cells, n_components=4, umap=False, max_cells=25)
    assert found.obs["source"].value_counts().to_dict() == {"control": 25, "observed": 25, "predicted": 25}
    again = tp.tl.embed_together(cells, cells, n_components=4, umap=False, max_cells=25)
    assert list(found.obs_names) == list(again.obs_names) and found.obs_names.is_unique
