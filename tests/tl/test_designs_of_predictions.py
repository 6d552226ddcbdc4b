"""What is assumed of predictions whose design is lost, or whose contexts a test does not tell apart."""

from __future__ import annotations

import warnings

import anndata
import pytest
from anndata import AnnData

import transpert as tp
from transpert.errors import AssumptionWarning

QUICK = {"metrics": ["mse_delta"], "progress": False}
PLACES = [("context_0", "P0"), ("context_1", "P1")]


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=40, n_cells=30)


@pytest.fixture(scope="module")
def model(cells) -> tp.NoChange:
    tp.NoChange.setup_anndata(cells, perturbation_key="perturbation", context_keys=["context"], layer="counts")
    model = tp.NoChange(cells)
    model.train()
    return model


@pytest.fixture
def parts(model) -> list[AnnData]:
    return [model.predict({"context": context}, [label], progress=False) for context, label in PLACES]


def test_predictions_that_lost_their_design_are_told(parts, cells, tmp_path) -> None:
    joined = anndata.concat(parts, index_unique="-")
    with pytest.warns(AssumptionWarning, match="no longer says its design.*context_keys=.*uns_merge='same'"):
        scores = tp.tl.evaluate(joined, cells, **QUICK)
    assert "all" in set(scores["context"])
    for use in (tp.tl.effects, lambda pred: tp.tl.audit(pred, cells, n_bootstrap=0, **QUICK)):
        with pytest.warns(AssumptionWarning, match="no longer says its design"):
            use(joined)
    with pytest.warns(AssumptionWarning, match="no longer says its design"):
        tp.tl.to_cell_eval(joined, cells, tmp_path)


def test_designs_that_are_known_are_not_asked_for(parts, cells) -> None:
    joined, kept = (anndata.concat(parts, index_unique="-", **merge) for merge in ({}, {"uns_merge": "same"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", AssumptionWarning)
        warnings.filterwarnings("ignore", message=".*are not predicted, and not scored")
        scores = tp.tl.evaluate(joined, cells, context_keys="context", **QUICK)
        assert {"context_0", "context_1"} < set(scores["context"])
        assert tp.tl.evaluate(kept, cells, **QUICK)["context"].tolist() == scores["context"].tolist()
        tp.tl.evaluate(cells, cells, **QUICK)  # cells of others say nothing, and one context is the default


def test_tests_against_controls_of_other_contexts_are_told(model) -> None:
    pooled = model.predict_populations(PLACES)
    message = "2 perturbations are not of the same contexts as the controls.*'P0', 'P1'.*one context after the other"
    with pytest.warns(AssumptionWarning, match=message):
        tp.tl.rank_genes_groups(pooled)
    # in one context after the other nothing differs
    for context, _ in PLACES:
        alone = pooled[pooled.obs["context"] == context].copy()
        with warnings.catch_warnings():
            warnings.simplefilter("error", AssumptionWarning)
            tp.tl.rank_genes_groups(alone)
        assert (alone.uns["rank_genes_groups"]["pvals_adj"].tolist()[0][0]) > 0.05


def test_tests_of_the_same_contexts_are_not_told(model) -> None:
    pred = model.predict({"context": ["context_0", "context_1"]}, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AssumptionWarning)
        tp.tl.rank_genes_groups(pred)
