from __future__ import annotations

import dataclasses

import anndata
import numpy as np
import pandas as pd
import pytest

import transpert as tp
from transpert.errors import OptionError, UnknownNameError
from transpert.tl import ScalingStudy


@pytest.fixture
def study() -> ScalingStudy:
    """Two models whose scores follow a law, at six sizes, with three seeds and four populations."""
    rng = np.random.default_rng(0)
    rows = []
    for model, best in (("good", 0.9), ("bad", 0.5)):
        for size in (0, 10, 30, 100, 300, 1_000, 3_000):
            for seed in range(3):
                for context in "abcd":
                    value = best - 0.4 * (size / 10) ** -0.6 if size else 0.0
                    score = value + rng.normal(scale=0.01) * bool(size)
                    rows.append((model, "random", seed, size, size, context, "P", "pearson_delta", score, score))
    columns = [
        "model",
        "scheme",
        "seed",
        "cells",
        "n_cells",
        "context",
        "perturbation",
        "metric",
        "value",
        "normalised",
    ]
    return ScalingStudy(pd.DataFrame(rows, columns=columns), pd.DataFrame(), ("cells",), 0)


def test_a_study_is_drawn_with_its_curves_and_the_size_at_which_each_saturates(study) -> None:
    axes = tp.pl.scaling(study, show=False)
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["good", "bad"]
    curves = [line for line in axes.lines if len(line.get_xdata()) == 100]
    assert curves[0].get_ydata()[-1] == pytest.approx(0.9 - 0.4 * 300**-0.6, abs=0.02)
    verticals = {line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"}
    # .4 (n / 10) ** -.6 is 5 % of .9 at 381, and of .5 at 1,014
    assert 1_000 in verticals and verticals <= {1_000, 3_000}


@pytest.mark.parametrize(
    ("fewest", "wanted"), [(10, ["10", "100", "1,000"]), (100, ["100", "200", "500", "1,000", "2,000"])]
)
def test_sizes_are_whole_numbers_that_do_not_run_into_each_other(study, fewest, wanted) -> None:
    table = study.table[(study.table["n_cells"] >= fewest) | (study.table["n_cells"] == 0)]
    axes = tp.pl.scaling(dataclasses.replace(study, table=table), show=False)
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    shown = [t for t in axes.get_xticklabels(which="both") if t.get_text() and low <= t.get_position()[0] <= high]
    assert [text.get_text() for text in shown] == wanted
    boxes = [text.get_window_extent() for text in shown]
    assert all(first.x1 < second.x0 for first, second in zip(boxes, boxes[1:], strict=False))


def test_the_shares_of_every_bar_fill_it() -> None:
    adata = tp.datasets.simulate(n_contexts=3, n_perturbations=3, n_genes=80, n_cells=60)
    found = tp.tl.effect_shares(adata, context_keys="context", n_bootstrap=0)
    axes = tp.pl.effect_shares(found, n_perturbations=2, show=False)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["whole screen", *found.perturbations.index[:2]]
    widths = pd.Series([bar.get_width() for bar in axes.patches]).groupby(
        [round(bar.get_y() + bar.get_height() / 2) for bar in axes.patches]
    )
    assert widths.sum().to_list() == pytest.approx([1, 1, 1], abs=0.03)


def test_targets_stand_in_their_order_and_a_missing_context_is_refused() -> None:
    ranking = pd.DataFrame(
        {
            "context": "B",
            "perturbation": ["A", "B", "C"],
            "rank": [1, 2, np.nan],
            "score": [0.9, 0.2, 0.5],
            "ci_low": [0.8, 0.1, 0.4],
            "ci_high": [1.0, 0.3, 0.6],
            "situation": ["seen", "perturbation", "perturbation"],
            "abstained": ["", "", "too far from what was trained on"],
        }
    )
    axes = tp.pl.targets(ranking, show=False)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["A", "B"]
    assert "1 not ranked" in axes.get_title()
    with pytest.raises(UnknownNameError, match="context"):
        tp.pl.targets(ranking, context="NK")


def test_targets_are_read_from_the_cells_that_were_ranked() -> None:
    cells = tp.datasets.simulate(n_contexts=1, n_perturbations=1, n_genes=5, n_cells=5)
    with pytest.raises(OptionError, match="carry no ranking yet.*tp.tl.rank_targets"):
        tp.pl.targets(cells)
    rows = {"context": "B", "perturbation": ["a", "b"], "rank": [2, 1], "score": [0.1, 0.3], "ci_low": 0.0}
    ranking = pd.DataFrame({**rows, "ci_high": 0.5, "situation": "seen", "abstained": ""})
    cells.uns["transpert"] = {"targets": ranking}
    axes = tp.pl.targets(cells, show=False)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b", "a"]


def test_responses_are_drawn_by_cell_and_by_gene() -> None:
    adata = anndata.AnnData(np.zeros((100, 3)))
    adata.obs["response_drug"] = np.linspace(-1, 3, 100)
    adata.obs["responds_drug"] = adata.obs["response_drug"] > 1
    genes = pd.DataFrame({"correlation": [0.5, -0.2], "p_adjusted": [0.01, 0.5]}, index=["STAT1", "B2M"])
    adata.uns["transpert"] = {"response_drug": {"genes": genes}}
    cells = tp.pl.responses(adata, "drug", show=False)
    assert sum(bar.get_height() for bar in cells.containers[0]) == 50  # those that are not known to respond
    bars = tp.pl.responses(adata, "drug", kind="genes", show=False)
    assert [text.get_text() for text in bars.get_yticklabels()] == ["STAT1", "B2M"]
    assert [bar.get_width() for bar in bars.patches] == [0.5, -0.2]
    assert bars.patches[0].get_facecolor() != bars.patches[1].get_facecolor()
    with pytest.raises(OptionError, match="kind"):
        tp.pl.responses(adata, "drug", kind="types")
