"""The genes that a perturbation moves most, and how sure that is."""

from __future__ import annotations

import numpy as np
import pytest

import transpert as tp
from transpert.errors import NotTrainedError, OptionError
from transpert.tl.tail_report import _chance, _specific

KEYS = {"perturbation_key": "perturbation", "context_keys": "context", "layer": "counts"}


@pytest.fixture(scope="module")
def cells():
    return tp.datasets.simulate(n_contexts=6, n_perturbations=4, n_genes=100, n_cells=60, effect_size=0.8)


@pytest.fixture(scope="module")
def model(cells):
    held = cells[cells.obs["context"] != "context_0"].copy()
    tp.KernelTransport.setup_anndata(held, **KEYS)
    model = tp.KernelTransport(held)
    model.train()
    return model


def test_genes_of_the_tail_are_those_that_truly_move_and_the_surer_the_more_so(cells, model) -> None:
    report = tp.tl.rare_tails(model, adata=cells, contexts={"context": "context_0"}, share=0.1)
    assert report.groupby("perturbation").size().tolist() == [10] * 4
    true = cells.varm["true_effects"]
    top = {
        name: set(true[f"context_0: {name}"].abs().nlargest(10).index.astype(str)) for name in report["perturbation"]
    }
    hit = np.array([row.gene in top[row.perturbation] for row in report.itertuples()])
    assert hit.mean() > 0.5  # a tenth by chance
    sure = report["in_tail"] > report["in_tail"].median()
    assert hit[sure].mean() > hit[~sure].mean()
    assert (report["ci_low"] <= report["effect"]).all() and (report["effect"] <= report["ci_high"]).all()
    assert (report.groupby("perturbation")["effect"].apply(lambda e: e.abs().is_monotonic_decreasing)).all()
    assert set(report["situation"]) == {"context"}


def test_what_others_do_too_is_not_specific() -> None:
    effects = np.array([[1.0, 1.0, 5.0], [0.0, 2.0, 5.0]])
    apart = _specific(effects, np.array(["x", "x", "y"]))
    np.testing.assert_array_equal(apart[:, :2], [[0.0, 0.0], [-2.0, 2.0]])
    assert np.isnan(apart[:, 2]).all()


def test_the_chance_to_be_in_the_tail_is_counted() -> None:
    rng = np.random.default_rng(0)
    assert _chance(np.array([9.0, 0.0, 0.1]), np.zeros(3), 1, rng).tolist() == [1.0, 0.0, 0.0]
    equal = _chance(np.zeros(4), np.ones(4), 2, rng)
    assert equal.sum() == pytest.approx(2) and (abs(equal - 0.5) < 0.12).all()


def test_models_without_intervals_and_shares_of_nothing_are_refused(cells, model) -> None:
    tp.MeanShift.setup_anndata(cells, **KEYS)
    mean = tp.MeanShift(cells)
    mean.train()
    with pytest.raises(NotTrainedError, match="MeanShift has no intervals"):
        tp.tl.rare_tails(mean)
    with pytest.raises(OptionError, match="share is 0"):
        tp.tl.rare_tails(model, share=0.0)
