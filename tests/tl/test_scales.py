"""Truth, counts and predictions on one scale, whatever genes are kept of them."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import transpert as tp
from transpert.errors import AssumptionWarning, CountsError, MetricInputError, OptionError, UnknownNameError

QUICK = {"metrics": ["energy_distance"], "ceiling": False, "n_bootstrap": 0, "progress": False}
SETUP = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts", "split_key": "split"}


@pytest.fixture
def part(screen) -> AnnData:
    """A third of the genes of a screen, whose library sizes are known under another name."""
    tp.pp.split(screen, holdout={"context": "context_0"})
    total = np.asarray(screen.layers["counts"].sum(axis=1)).ravel()
    some = screen[:, :26].copy()
    some.obs = some.obs.drop(columns="library_size").assign(n_umis=total)
    some.X = tp.pp.log1p_per_10k(some.layers["counts"], total)
    return some


def normalised_by_its_own_genes(part: AnnData) -> AnnData:
    own = part.copy()
    own.X = tp.pp.log1p_per_10k(own.layers["counts"], tp.pp.library_sizes(own.layers["counts"]))
    return own


def no_change(part: AnnData, **more) -> AnnData:
    tp.NoChange.setup_anndata(part, **SETUP, library_size_key="n_umis")
    model = tp.NoChange(part)
    model.train()
    return model.predict({"context": "context_0"}, progress=False, **more)


def test_no_change_is_near_its_controls_and_the_floor_is_on_its_scale(part) -> None:
    pred = no_change(part)
    assert pred.uns["transpert"]["library_size_key"] == "n_umis"
    scores = tp.tl.evaluate(pred, part, baselines=["NoChange", "MeanShift"], **QUICK)
    table = scores[scores["context"] == "mean"].set_index("model")["value"]
    # the column is not named to evaluate: baselines learn it from the prediction
    assert table["NoChange"] == pytest.approx(table["prediction"], abs=0.02)
    controls = part[part.obs["perturbation"] == "control"]
    assert tp.metrics.energy_distance(pred[pred.obs["source"] == "control"].X, controls.X.toarray()) < 1
    assert table["MeanShift"] < 2


def test_a_truth_of_another_scale_is_refused_by_the_controls_that_both_have(part) -> None:
    pred = no_change(part)
    with pytest.raises(CountsError, match="control cells that the truth has too have .* times its values") as caught:
        tp.tl.evaluate(pred, normalised_by_its_own_genes(part), **QUICK)
    assert "obs['n_umis']" in str(caught.value)


def test_a_truth_of_another_scale_is_refused_by_the_library_sizes_of_predicted_cells(part) -> None:
    pred = no_change(part, include_controls=False)
    tp.tl.evaluate(pred, part, **QUICK)
    with pytest.raises(CountsError, match="control cells that it was made of have other library sizes in the truth"):
        tp.tl.evaluate(pred, normalised_by_its_own_genes(part), **QUICK)


def test_baselines_are_not_trained_on_another_scale_than_they_are_scored_on(part) -> None:
    foreign = no_change(part)
    foreign.uns = {}  # as from elsewhere: nothing says the column
    foreign.obs = foreign.obs[["perturbation", "context"]]
    with pytest.raises(CountsError, match=r"Pass library_size_key='n_umis'"):
        tp.tl.evaluate(foreign, part, context_keys="context", baselines="NoChange", **QUICK)
    tp.tl.evaluate(foreign, part, context_keys="context", baselines="NoChange", library_size_key="n_umis", **QUICK)


def test_totals_that_have_nothing_to_do_with_the_truth_are_told(part) -> None:
    foreign = AnnData(no_change(part).X * 0.5, obs=no_change(part).obs[["perturbation", "context"]], var=part.var)
    foreign.obs_names = [f"n{i}" for i in range(foreign.n_obs)]
    with pytest.warns(AssumptionWarning, match="times the total of real cells"):
        tp.tl.evaluate(foreign, part, context_keys="context", **QUICK)


@pytest.mark.parametrize("target", [None, 1e6])
def test_a_model_is_not_set_up_with_values_of_another_scale(part, target) -> None:
    import scanpy as sc

    own = part.copy()
    own.X = own.layers["counts"].copy()
    sc.pp.normalize_total(own, target_sum=target)
    sc.pp.log1p(own)
    before = own.obs.columns.tolist(), dict(own.uns)
    with pytest.raises(CountsError, match=r"in X.*(library_size_key|log1p_per_10k)"):
        tp.MeanShift.setup_anndata(own, **SETUP, library_size_key="n_umis")
    assert (own.obs.columns.tolist(), dict(own.uns)) == before
    own.X = own.X.toarray() - 1.0  # scaled values are not read, and nothing is said of them
    tp.MeanShift.setup_anndata(own, **SETUP, library_size_key="n_umis")


def test_what_wants_counts_is_left_out_where_there_are_none(part) -> None:
    pred = no_change(part)
    part.layers["umis"] = part.layers.pop("counts")
    asked = {**QUICK, "metrics": "all"}
    with pytest.warns(AssumptionWarning, match="Left out") as told:
        scores = tp.tl.evaluate(pred, part, baselines="all", **asked)
    said = [str(one.message) for one in told if "Left out" in str(one.message)]
    assert len(said) == 1
    assert all(word in said[0] for word in ("nmse", "MeanShift", "counts_layer=", "'umis'"))
    assert set(scores["model"]) == {"prediction"}
    assert set(scores["metric"]) == {name for name, metric in tp.metrics.METRICS.items() if not metric.counts}
    with pytest.raises(MetricInputError, match=r"MeanShift' are trained on raw counts.*counts_layer=.*'umis'"):
        tp.tl.evaluate(pred, part, baselines="MeanShift", **QUICK)
    with pytest.raises(UnknownNameError, match="umi"):
        tp.tl.evaluate(pred, part, counts_layer="umi", **QUICK)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Left out")
        tp.tl.evaluate(pred, part, baselines="NoChange", counts_layer="umis", **QUICK)


def test_counts_in_x_beside_values_in_a_layer_are_found(part) -> None:
    pred = no_change(part)
    pred.layers["log1p"] = pred.X.copy()
    turned = AnnData(part.layers["counts"], obs=part.obs, var=part.var, layers={"log1p": part.X})
    scores = tp.tl.evaluate(pred, turned, layer="log1p", baselines="NoChange", **QUICK)
    usual = tp.tl.evaluate(pred, part, baselines="NoChange", **QUICK)
    pd.testing.assert_series_equal(scores["value"], usual["value"])


def test_swapped_arguments_are_noticed(part) -> None:
    pred = no_change(part)
    with pytest.raises(OptionError, match=r"they are swapped.*\(pred, truth\)"):
        tp.tl.evaluate(part, pred, **QUICK)
    foreign = AnnData(pred.X, obs=pred.obs[["perturbation", "context"]], var=pred.var)
    with pytest.raises(MetricInputError, match=r"are they swapped\? It is \(pred, truth\)"):
        tp.tl.evaluate(part, foreign, context_keys="context", **QUICK)


def test_populations_that_only_the_truth_has_are_named(part) -> None:
    pred = no_change(part)
    fewer = pred[pred.obs["perturbation"] != "P1"].copy()
    with pytest.warns(AssumptionWarning, match="1 held-out populations .* not scored: 'context_0: P1'"):
        scores = tp.tl.evaluate(fewer, part, **QUICK)
    assert "context_0: P1" in scores.attrs["not_predicted"] and "context_1: P0" in scores.attrs["not_predicted"]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*not predicted")
        tp.tl.evaluate(pred, part, **QUICK)  # what was trained on is not asked for
    with pytest.warns(AssumptionWarning, match="not scored"):
        tp.tl.evaluate(pred, part, options=tp.tl.EvaluationOptions(split_key=None), **QUICK)


@pytest.mark.parametrize("with_counts", [True, False])
def test_a_denoised_truth_is_reported_and_one_of_other_logarithms_refused(with_counts: bool) -> None:
    adata = tp.datasets.simulate(n_contexts=1, n_perturbations=2, n_genes=60, n_cells=20)
    pred = adata[adata.obs["perturbation"] == "P0"].copy()
    right = adata.X.toarray()
    if not with_counts:
        del adata.layers["counts"], pred.layers["counts"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", AssumptionWarning)
        warnings.filterwarnings("ignore", message=".*not predicted")
        tp.tl.evaluate(pred, adata, metrics="mae", n_bootstrap=0, progress=False)
    adata.X = (0.5 * right + 0.5 * right.mean(axis=0)).astype(np.float32)
    with pytest.warns(AssumptionWarning, match="log1p of no counts: they look denoised.*Give measured cells"):
        tp.tl.evaluate(pred, adata, metrics="mae", n_bootstrap=0, progress=False)
    adata.X = np.log10(1 + np.expm1(right)).astype(np.float32)
    with pytest.raises(CountsError, match=r"the values are log10\(1 \+ x\) of counts, not log1p.*Normalise the truth"):
        tp.tl.evaluate(pred, adata, metrics="mae", n_bootstrap=0, progress=False)


def test_values_of_other_counts_are_reported_by_setup_and_by_evaluate(part) -> None:
    other = part.copy()
    thinned = np.random.default_rng(0).binomial(part.layers["counts"].toarray().astype(int), 0.5)
    other.layers["counts"] = thinned.astype(np.float32)
    with pytest.warns(
        AssumptionWarning, match=r"X holds log1p values of other counts than those in layers\['counts'\]"
    ):
        tp.NoChange.setup_anndata(other, **SETUP, library_size_key="n_umis")
        tp.NoChange(other)
    pred = no_change(part)
    with pytest.warns(
        AssumptionWarning, match="the truth \\(X\\) are log1p values of other counts than those in layers"
    ):
        tp.tl.evaluate(pred, other, baselines="NoChange", **QUICK)
