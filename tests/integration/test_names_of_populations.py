"""A population has one name: what one function writes, every other reads."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

import transpert as tp
from transpert.conditions import Condition
from transpert.conditions.text import population_text, split_population

KEYS = {"perturbation_key": "gene", "context_keys": ["cell", "donor"], "dose_key": "dose", "time_key": "time"}
ROLES = {**KEYS, "direction_key": "way", "combination_separator": "_", "control": "NT"}
_NAMES = {"P0": "A/B", "P1": "(+)-C", "P0+P1": "A/B_(+)-C", "control": "NT"}


@pytest.fixture(scope="module")
def screen() -> anndata.AnnData:
    """Names that are hard to write: slashes, brackets, separators, contexts of two columns."""
    adata = tp.datasets.simulate(
        n_contexts=4,
        n_perturbations=2,
        n_combinations=1,
        n_genes=30,
        n_cells=40,
        doses=(1.0, 10.0),
        times=(6.0,),
        effect_size=2.0,
    )
    adata.obs["gene"] = adata.obs["perturbation"].astype(str).map(_NAMES)
    cells = {"context_0": "CD4: naive", "context_1": "CD4: naive", "context_2": "B | NK", "context_3": "B"}
    adata.obs["cell"] = adata.obs["context"].astype(str).map(cells)
    adata.obs["donor"] = adata.obs["context"].astype(str).map(dict(zip(cells, "xyxy", strict=True)))
    adata.obs["way"] = np.where(adata.obs["gene"] == "NT", None, "CRISPRi, twice")
    adata.uns.clear()
    return adata


@pytest.fixture(scope="module")
def model(screen) -> tp.KernelTransport:
    tp.KernelTransport.setup_anndata(screen, layer="counts", **ROLES)
    model = tp.KernelTransport(screen)
    model.train()
    return model


@pytest.fixture(scope="module")
def predicted(model) -> anndata.AnnData:
    return model.predict(interval=0.9, n_cells=10, progress=False)


def read(names) -> set[tuple[str, Condition]]:
    """Read the names of populations."""
    pairs = [split_population(str(name)) for name in names]
    return {(context, Condition.read(label)) for context, label in pairs}


def test_every_table_calls_a_population_the_same(screen, model, predicted) -> None:
    found = model.get_uncertainty()
    names = set(model.get_effects())
    assert set(found.effects) == names
    said = found.conditions[["context", "perturbation"]].to_numpy()
    assert {population_text(*row) for row in said} == names
    assert set(tp.tl.effects(screen.copy(), design=model.design)) == names
    scores = tp.tl.evaluate(predicted, screen, metrics=["mse_delta"], ceiling=False, n_bootstrap=0, progress=False)
    scored = scores.loc[scores["context"] != "mean", ["context", "perturbation"]].to_numpy()
    assert {population_text(*row) for row in scored} == names
    # files hold no slashes: these are the same names without them
    table = predicted.uns["transpert"]["uncertainty"]["conditions"]
    assert read(predicted.varm["effect"]) == read(table.index) == read(names)


def test_every_name_is_accepted_by_what_reads_one(screen, model, predicted, tmp_path) -> None:
    effects = model.get_effects()
    names = list(effects)
    wanted = [split_population(name) for name in [*names, *predicted.varm["effect"]]]
    again = model.predict_populations(wanted, n_cells=5)
    assert int((again.obs["source"] == "predicted").sum()) == 5 * len(wanted)
    labels = sorted({label for _, label in wanted[: len(names)]})
    np.testing.assert_allclose(model.get_effects(perturbations=labels)[names], effects)
    asked = {"candidates": labels, "contexts": wanted[0][0], "progress": False}
    for _ in range(2):
        ranked = tp.tl.rank_targets(model, effects[names[0]], **asked)
        assert set(ranked["perturbation"]) == set(labels)
        asked |= {"candidates": list(ranked["perturbation"]), "contexts": list(ranked["context"].unique())}
    for name in names[:2]:
        assert tp.pl.overlap_curve(predicted, screen, population=name, show=False).get_title() == name
        assert name in tp.pl.effects_scatter(predicted, screen, population=name, show=False).get_title()
    tp.tl.register_prediction(predicted, tmp_path / "registered")
    scored = tp.tl.score_registered(tmp_path / "registered", screen)
    assert set(scored.index) == set(names) and not scored.attrs["not_measured"]
