"""Tables that hold no scores, or the same ones twice, are said to."""

from __future__ import annotations

import pandas as pd
import pytest

import transpert as tp
from transpert.errors import OptionError, UnknownNameError


@pytest.fixture
def scores() -> pd.DataFrame:
    places = [("x", "A"), ("x", "B"), ("mean", "mean")]
    rows = [(model, *place, value) for model, value in (("a", 0.5), ("b", 0.4)) for place in places]
    table = pd.DataFrame(rows, columns=["model", "context", "perturbation", "value"])
    return table.assign(metric="overlap_at_n")


def test_columns_that_are_not_there_are_named(scores) -> None:
    with pytest.raises(UnknownNameError, match="unknown column: 'zz'.*'model', 'context'"):
        tp.tl.score_table(scores, value="zz")
    with pytest.raises(UnknownNameError, match="unknown column: 'metric'"):
        tp.tl.compare(scores.drop(columns="metric"), "a", "b")


@pytest.mark.parametrize("use", [tp.tl.score_table, lambda table: tp.tl.compare(table, "a", "b")])
def test_scores_that_are_not_there_or_there_twice_are_refused(scores, use) -> None:
    assert len(use(scores))
    with pytest.raises(OptionError, match="there are no scores"):
        use(scores.iloc[:0])
    with pytest.raises(OptionError, match="6 rows .* for example a / x / A / overlap_at_n.*different names"):
        use(pd.concat([scores, scores]))


def test_one_metric_may_be_named_alone(scores) -> None:
    pd.testing.assert_frame_equal(
        tp.tl.compare(scores, "a", "b", metrics="overlap_at_n"),
        tp.tl.compare(scores, "a", "b", metrics=["overlap_at_n"]),
    )
    with pytest.raises(UnknownNameError, match="unknown metric: 'mse'"):
        tp.tl.compare(scores, "a", "b", metrics="mse")


def test_baselines_that_add_shifts_draw_counts_where_a_metric_reads_them() -> None:
    cells = tp.datasets.simulate(n_contexts=4, n_perturbations=4, n_genes=60, n_cells=40, effect_size=0.8)
    tp.pp.split(cells, holdout={"context": "context_0"})
    held = (cells.obs["context"] == "context_0").to_numpy()
    scores = tp.tl.evaluate(
        cells[held].copy(),
        cells,
        metrics="vcc2026",
        baselines=["MeanShift"],
        design=tp.Design(context_keys="context"),
        ceiling=False,
        n_bootstrap=0,
        progress=False,
    )
    means = scores[(scores["context"] == "mean") & (scores["model"] == "MeanShift")]
    assert len(means) == 6 and means["value"].notna().all()
