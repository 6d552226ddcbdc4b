from __future__ import annotations

import numpy as np
import pytest
from benchmarks.scaling.shares import energies

import transpert as tp
from transpert.errors import AssumptionWarning, GroupSizeError, OptionError
from transpert.groups import Design

PARTS = ["conserved", "context", "interaction", "noise"]
SCREEN = {"n_contexts": 4, "n_perturbations": 8, "n_genes": 120, "n_cells": 40, "dependence": 0.8}


@pytest.fixture(scope="module")
def found():
    return tp.tl.effect_shares(tp.datasets.simulate(**SCREEN), context_keys="context", n_bootstrap=100, n_splits=4)


def test_shares_are_within_five_hundredths_of_those_of_many_cells(found) -> None:
    truth = energies(tp.datasets.simulate(**{**SCREEN, "n_cells": 800}))
    energy = found.shares["energy"]
    response = energy["signal"] + energy["noise"]
    for part in ("conserved", "interaction"):
        assert found.shares.loc[part, "share"] == pytest.approx(truth[part] / response, abs=0.05)
    assert found.shares.loc["noise", "share"] == pytest.approx(1 - truth["signal"] / response, abs=0.05)
    assert found.shares.loc[PARTS, "share"].sum() == pytest.approx(1)
    interaction = found.shares.loc["interaction"]
    assert 0 < interaction["ci_low"] < interaction["share"] < interaction["ci_high"]


def test_a_model_of_contexts_is_advised_only_where_effects_depend_on_them(found) -> None:
    assert "can help" in found.text
    same = tp.datasets.simulate(**{**SCREEN, "context_dependence": "none", "n_cells": 400})
    text = tp.tl.effect_shares(same, context_keys="context", n_bootstrap=100, n_splits=2).text
    assert "MeanShift is enough" in text or "includes 0" in text


def test_a_screen_without_effects_is_called_one() -> None:
    nothing = tp.datasets.simulate(n_contexts=3, n_perturbations=6, n_genes=100, n_cells=40, effect_size=0.0)
    assert "cannot be told from noise" in tp.tl.effect_shares(nothing, context_keys="context").text


def test_what_shared_controls_make_of_nothing_is_no_effect_of_the_context() -> None:
    options = {"n_contexts": 4, "n_perturbations": 6, "n_genes": 100, "n_cells": 24, "effect_size": 0.0}
    screens = [tp.datasets.simulate(**options, seed=seed) for seed in range(8)]
    shares = [tp.tl.effect_shares(screen, context_keys="context", n_bootstrap=0).shares["share"] for screen in screens]
    assert sum(share["context"] == 0 and share["systematic"] == 0 for share in shares) >= 6
    # in two batches it is the same
    batched = tp.datasets.simulate(**{**options, "n_batches": 2, "n_cells": 12})
    design = Design("perturbation", "control", ("context",), batch_key="batch")
    assert tp.tl.effect_shares(batched, design=design, n_bootstrap=0).shares.loc["context", "share"] < 0.03
    # and what perturbations do share is found
    real = tp.datasets.simulate(**{**options, "effect_size": 0.5, "systematic_effect": 1.0, "moved": 1.0})
    assert tp.tl.effect_shares(real, context_keys="context", n_bootstrap=0).shares.loc["systematic", "share"] > 0.2


def test_the_ceiling_that_is_expected_of_a_replicate_is_the_one_that_is_measured() -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=6, n_genes=200, n_cells=40, n_control_cells=2_000)
    found = tp.tl.effect_shares(adata, context_keys="context", metrics=["mse_delta"], n_bootstrap=0)
    # of many controls, which an evaluation shares between the halves, little noise comes
    expected = found.expected.loc["half of the cells (Replicate)", "mse_delta"]
    assert found.ceilings["mse_delta"] == pytest.approx(expected, rel=0.1)


def test_one_context_says_what_is_common_and_not_what_is_conserved() -> None:
    options = {"n_contexts": 1, "n_perturbations": 6, "n_genes": 300, "n_cells": 60, "moved": 1.0}
    found, apart = (
        tp.tl.effect_shares(tp.datasets.simulate(**options, systematic_effect=size, dependence=0.0))
        for size in (1.0, 0.0)
    )
    assert np.isnan(found.shares.loc["conserved", "share"])
    assert found.shares.loc["systematic", "share"] > 0.5
    # not 0: counts per 10k compete, and all perturbations raise some genes a lot
    assert apart.shares.loc["systematic", "share"] < 0.3
    assert "alike" in found.text


def test_batches_that_differ_are_no_effect() -> None:
    adata = tp.datasets.simulate(n_contexts=1, n_perturbations=4, n_genes=100, n_cells=60, effect_size=0.0, n_batches=2)
    # the second batch has most of the treated cells, and other library-independent rates
    treated = (adata.obs["perturbation"] != "control") & (adata.obs["batch"] == "batch_0")
    unequal = adata[~treated | (np.arange(adata.n_obs) % 6 == 0)].copy()
    values = unequal.X.toarray()
    values[(unequal.obs["batch"] == "batch_1").to_numpy()] += 0.5
    unequal.X = values
    pooled = tp.tl.effect_shares(unequal, design=Design("perturbation", "control"))
    matched = tp.tl.effect_shares(unequal, design=Design("perturbation", "control", batch_key="batch"))
    assert pooled.shares.loc["signal", "share"] > 0.5
    assert abs(matched.shares.loc["signal", "share"]) < 0.2


def test_perturbations_of_one_context_and_small_populations_are_reported() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=3, n_genes=40, n_cells=20)
    lone = (adata.obs["perturbation"] == "P2") & (adata.obs["context"] == "context_1")
    with pytest.warns(AssumptionWarning, match="'P2'"):
        found = tp.tl.effect_shares(adata[~lone].copy(), context_keys="context", n_bootstrap=0)
    assert list(found.perturbations.index) == ["P1", "P0"] or list(found.perturbations.index) == ["P0", "P1"]
    few = adata.obs.groupby(["context", "perturbation"], observed=True).cumcount() < 3
    with pytest.raises(GroupSizeError, match="no population has 4 cells"):
        tp.tl.effect_shares(adata[few.to_numpy()].copy(), context_keys="context")


def test_options_that_cannot_be_are_refused_and_nothing_is_written() -> None:
    adata = tp.datasets.simulate(n_contexts=2, n_perturbations=2, n_genes=20, n_cells=20)
    with pytest.raises(OptionError, match="level"):
        tp.tl.effect_shares(adata, context_keys="context", level=2)
    assert "transpert" not in adata.uns


def test_tables_survive_a_file_and_stand_in_the_summary_of_a_model(tmp_path, found) -> None:
    import anndata

    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=2, n_genes=30, n_cells=30)
    shares = tp.tl.effect_shares(adata, context_keys="context", n_bootstrap=30)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    kept = anndata.read_h5ad(tmp_path / "cells.h5ad").uns["transpert"]["effect_shares"]
    assert kept["shares"]["share"].to_list() == pytest.approx(shares.shares["share"].to_list())
    tp.MeanShift.setup_anndata(adata, perturbation_key="perturbation", context_keys="context", layer="counts")
    assert shares.text in tp.MeanShift(adata).summary()
